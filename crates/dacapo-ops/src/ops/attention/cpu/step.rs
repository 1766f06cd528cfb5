//! The CPU twins of attention of one token with the rotation before it: the twins that they replace, one after the other. The CPU
//! itself has no use for them.

use dacapo::DType;
use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::split::row_len;
use super::super::step::StepParams;
use super::{Cache, KvElement, Queries, Shape, one, split};
use crate::ops::fused::rope_kv_write::{Token, write_token};
use crate::ops::kv_write;
use crate::ops::matmul::codes::META;
use crate::ops::quantize::cpu::quantize;
use crate::ops::rms_norm::cpu::norm_in_place;
use crate::ops::rope::cpu::{angles, rotate};
use crate::quant::panel::BLOCK;
use crate::simd::Level;

/// Scratch for the token's queries, a key and the angles.
fn prepared(ctx: &PlanContext<'_>) -> usize {
    let StepParams { call: p, .. } = ctx.params();
    (p.heads as usize + 1) * p.key_dim as usize + 2 * ctx.len(6)
}

/// One tile, as the angles are the same for all heads.
pub(in super::super) fn plan_part(ctx: &PlanContext<'_>) -> CpuPlan {
    let StepParams { call: p, .. } = ctx.params();
    let scratch = one::scratch((p.heads / p.kv_heads) as usize, p.key_dim as usize, p.value_dim as usize);
    let plan = CpuPlan::new(1, 1).split(3, Split::whole()).split(4, Split::whole());
    plan.split(7, Split::whole()).scratch(prepared(ctx) + scratch)
}

pub(in super::super) fn plan_q8(ctx: &PlanContext<'_>) -> CpuPlan {
    let StepParams { call: p, .. } = ctx.params();
    let (group, dim) = ((p.heads / p.kv_heads) as usize, p.value_dim as usize);
    let scratch = group * dim + one::scratch(group, p.key_dim as usize, dim);
    let plan = CpuPlan::new(1, 1).split(3, Split::whole()).split(4, Split::whole());
    plan.split(7, Split::whole()).split(8, Split::whole()).scratch(prepared(ctx) + scratch)
}

/// What attention sees once the token is prepared.
struct Ready<'a, E> {
    token: Prepared<'a, E>,
    scratch: &'a mut [f32],
}

/// The token's queries, and the caches of all heads with the token in them.
struct Prepared<'a, E> {
    q: &'a [f32],
    keys: &'a [E],
    values: &'a [E],
}

impl<'a, E> Prepared<'a, E> {
    /// The queries that share a head of the caches, and that head.
    fn head(&self, shape: &Shape, kv_head: usize) -> (Queries<'a>, Cache<'a, E>) {
        let first_head = kv_head * shape.group;
        let queries = Queries { q: self.q, first_head, first: 0, count: 1, sinks: None };
        (queries, Cache::of_head((self.keys, self.values), shape, kv_head))
    }
}

/// Prepares the token and hands everything to `attend`. `weights` are the bindings of the norms' weights.
fn with_token<E: KvElement>(
    tile: &Tile<'_>,
    weights: Option<[usize; 2]>,
    convert: impl Fn(&[f32], &mut [E]),
    attend: impl FnOnce(&StepParams, &Shape, Ready<'_, E>),
) {
    let params: StepParams = tile.params();
    let StepParams { call: p, interleaved, attention_factor, q_eps, k_eps } = params;
    let (dim, inv_freq, position) = (p.key_dim as usize, tile.read::<f32>(6), tile.read::<u32>(5)[0]);
    let [q_weight, k_weight] = weights.map_or([None; 2], |at| at.map(|at| Some(tile.read::<f32>(at))));
    let (q, scratch) = tile.scratch().split_at_mut(p.heads as usize * dim);
    q.copy_from_slice(tile.read(0));
    if q_weight.is_some() {
        norm_in_place(Level::best(), q, q_weight, dim, q_eps);
    }
    let (turns, scratch) = scratch.split_at_mut(2 * inv_freq.len());
    let (key, scratch) = scratch.split_at_mut(dim);
    let (cos, sin) = turns.split_at_mut(inv_freq.len());
    angles(position, inv_freq, attention_factor, cos, sin);
    for head in q.chunks_exact_mut(dim) {
        rotate(head, cos, sin, interleaved != 0);
    }
    let (mut keys, mut values) = (tile.write::<E>(3), tile.write::<E>(4));
    let token = Token {
        k: tile.read(1),
        v: tile.read(2),
        position,
        angles: (cos, sin),
        interleaved: interleaved != 0,
        norm: k_weight.map(|weight| (weight, k_eps)),
    };
    let rows = kv_write::Params {
        heads: p.kv_heads,
        capacity: p.capacity,
        key_dim: p.key_dim,
        value_dim: p.value_dim,
    };
    write_token(&rows, &token, key, keys.slice(), values.slice(), convert);
    let token = Prepared { q, keys: keys.slice(), values: values.slice() };
    let ready = Ready { token, scratch };
    attend(&params, &Shape::new(&p, position as usize), ready);
}

fn part<E: KvElement>(tile: &Tile<'_>, weights: Option<[usize; 2]>, convert: impl Fn(&[f32], &mut [E])) {
    with_token(tile, weights, convert, |params, shape, ready| {
        let p = &params.call;
        let mut found = tile.write::<f32>(7);
        let rows = shape.group * p.splits as usize * row_len(p);
        for (kv_head, found) in found.slice().chunks_exact_mut(rows).enumerate() {
            let (queries, cache) = ready.token.head(shape, kv_head);
            split::parts_of_heads(p, shape, queries, cache, ready.scratch, found);
        }
    });
}

fn part_as(tile: &Tile<'_>, weights: Option<[usize; 2]>) {
    if tile.dtype(3) == DType::F16 {
        part::<f16>(tile, weights, |from, to| to.convert_from_f32_slice(from));
    } else {
        part::<f32>(tile, weights, |from, to| to.copy_from_slice(from));
    }
}

pub(in super::super) fn run_part(tile: &Tile<'_>) {
    part_as(tile, None);
}

pub(in super::super) fn run_part_normed(tile: &Tile<'_>) {
    part_as(tile, Some([8, 9]));
}

fn q8<E: KvElement>(tile: &Tile<'_>, weights: Option<[usize; 2]>, convert: impl Fn(&[f32], &mut [E])) {
    with_token(tile, weights, convert, |_, shape, ready| {
        let len = shape.group * shape.value_dim;
        let (mut codes, mut meta) = (tile.write::<i8>(7), tile.write::<f32>(8));
        let outputs =
            codes.slice().chunks_exact_mut(len).zip(meta.slice().chunks_exact_mut(len / BLOCK * META));
        let (out, scratch) = ready.scratch.split_at_mut(len);
        for (kv_head, (codes, meta)) in outputs.enumerate() {
            let (queries, cache) = ready.token.head(shape, kv_head);
            E::one(Level::best(), shape, queries, cache, scratch, out);
            quantize(Level::best(), out, codes, meta);
        }
    });
}

fn q8_as(tile: &Tile<'_>, weights: Option<[usize; 2]>) {
    if tile.dtype(3) == DType::F16 {
        q8::<f16>(tile, weights, |from, to| to.convert_from_f32_slice(from));
    } else {
        q8::<f32>(tile, weights, |from, to| to.copy_from_slice(from));
    }
}

pub(in super::super) fn run_q8(tile: &Tile<'_>) {
    q8_as(tile, None);
}

pub(in super::super) fn run_q8_normed(tile: &Tile<'_>) {
    q8_as(tile, Some([9, 10]));
}
