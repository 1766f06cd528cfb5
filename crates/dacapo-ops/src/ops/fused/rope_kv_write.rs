//! The way of a token's keys into the cache: rotation, before it perhaps the RMSNorm of each head. Values go with them.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, CpuTwin, DType, Dispatch, Element, FuseMatch, Kernel, OpKind};
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::ops::kv_write;
use crate::ops::rms_norm::{self, cpu::norm_in_place, gpu::ROW};
use crate::ops::rope::{self, cpu::angles, cpu::rotate, gpu::PAIRS};
use crate::simd::Level;
use crate::wgsl::{ANGLE, FLOAT, INVOCATION, REDUCE, WIDE, plan_rows, row_workgroup};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub write: kv_write::Params,
    pub rope: rope::Params,
    /// Of the norm, where there is one.
    pub eps: f32,
}

/// `rope` of the keys, `kv_write`.
pub static ROPE_KV_WRITE: Kernel = Kernel {
    name: "rope_kv_write",
    kind: OpKind::KvWrite,
    bindings: &[
        Binding::read("k"),
        Binding::read("v"),
        Binding::read("step"),
        Binding::read("inv_freq"),
        Binding::read_write("k_cache"),
        Binding::read_write("v_cache"),
    ],
    cpu: CpuTwin { plan: plan::<4>, run },
    gpu: Some(&GPU),
};

/// `rms_norm_in_place` and `rope` of the keys, `kv_write`.
pub static RMS_NORM_ROPE_KV_WRITE: Kernel = Kernel {
    name: "rms_norm_rope_kv_write",
    kind: OpKind::KvWrite,
    bindings: &[
        Binding::read("k"),
        Binding::read("v"),
        Binding::read("step"),
        Binding::read("inv_freq"),
        Binding::read("weight"),
        Binding::read_write("k_cache"),
        Binding::read_write("v_cache"),
    ],
    cpu: CpuTwin { plan: plan::<5>, run: run_normed },
    gpu: Some(&GPU_NORMED),
};

/// The replacement of `rope`, `kv_write`.
pub(crate) fn build(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let (dispatch, write, rope) = inputs(&ROPE_KV_WRITE, found, 0)?;
    let dispatch = dispatch.buffer(&found.buffer(1, 3)?).buffer(&found.buffer(1, 4)?);
    Some(dispatch.bytes(&Params { write, rope, eps: 0.0 }))
}

/// The replacement of `rms_norm_in_place`, `rope`, `kv_write`.
pub(crate) fn build_normed(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let (dispatch, write, rope) = inputs(&RMS_NORM_ROPE_KV_WRITE, found, 1)?;
    let norm = found.params::<rms_norm::Params>(0).filter(|norm| norm.dim == rope.dim)?;
    let dispatch = dispatch.buffer(&found.buffer(0, 1)?);
    let dispatch = dispatch.buffer(&found.buffer(2, 3)?).buffer(&found.buffer(2, 4)?);
    Some(dispatch.bytes(&Params { write, rope, eps: norm.eps }))
}

/// What both have in common, if the keys of one token are rotated and written at the same position.
fn inputs(
    kernel: &'static Kernel,
    found: &FuseMatch<'_>,
    step: usize,
) -> Option<(Dispatch, kv_write::Params, rope::Params)> {
    let (rope, write) = (found.params::<rope::Params>(step)?, found.params::<kv_write::Params>(step + 1)?);
    let (k, position) = (found.buffer(step + 1, 0)?, found.buffer(step + 1, 2)?);
    let same = found.buffer(step, 0)?.is_same_view(&k) && found.buffer(step, 2)?.is_same_view(&position);
    // With many tokens it is slower (measured at 128 tokens: 0.99 times the speed).
    let one = k.shape().first() == Some(&1);
    let sizes =
        (rope.heads, rope.dim) == (write.heads, write.key_dim) && write.key_dim.min(write.value_dim) > 0;
    (one && same && sizes).then_some(())?;
    let dispatch = Dispatch::new(kernel).buffer(&k).buffer(&found.buffer(step + 1, 1)?);
    Some((dispatch.buffer(&position).buffer(&found.buffer(step, 1)?), write, rope))
}

/// One tile: the angles are the same for all heads. `CACHE` is the index of the cache of keys.
fn plan<const CACHE: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    let dim = ctx.params::<Params>().write.key_dim as usize;
    let plan = CpuPlan::new(1, 1).split(CACHE, Split::whole()).split(CACHE + 1, Split::whole());
    plan.scratch(dim + 2 * ctx.len(3))
}

/// A token's keys and values as products left them, and what happens to the keys.
pub(crate) struct Token<'a> {
    pub k: &'a [f32],
    pub v: &'a [f32],
    pub position: u32,
    /// Cosines and sines of its position's angles.
    pub angles: (&'a [f32], &'a [f32]),
    pub interleaved: bool,
    /// Weight and epsilon of the norm.
    pub norm: Option<(&'a [f32], f32)>,
}

/// Writes a token into the caches. `key` is scratch for one key.
pub(crate) fn write_token<C: Element>(
    write: &kv_write::Params,
    token: &Token<'_>,
    key: &mut [f32],
    keys: &mut [C],
    values: &mut [C],
    convert: impl Fn(&[f32], &mut [C]),
) {
    let (dim, slots) = (write.key_dim as usize, write.capacity as usize);
    let slot = token.position as usize % slots;
    for (k, slots) in token.k.chunks_exact(dim).zip(keys.chunks_exact_mut(slots * dim)) {
        key.copy_from_slice(k);
        if let Some((weight, eps)) = token.norm {
            norm_in_place(Level::best(), key, Some(weight), dim, eps);
        }
        rotate(key, token.angles.0, token.angles.1, token.interleaved);
        convert(key, &mut slots[slot * dim..][..dim]);
    }
    let dim = write.value_dim as usize;
    for (v, slots) in token.v.chunks_exact(dim).zip(values.chunks_exact_mut(slots * dim)) {
        convert(v, &mut slots[slot * dim..][..dim]);
    }
}

fn run_as<C: Element>(
    tile: &Tile<'_>,
    weight: Option<&[f32]>,
    cache: usize,
    convert: impl Fn(&[f32], &mut [C]),
) {
    let Params { write, rope, eps } = tile.params();
    let position = tile.read::<u32>(2)[0];
    let inv_freq = tile.read::<f32>(3);
    let (key, rest) = tile.scratch().split_at_mut(write.key_dim as usize);
    let (cos, sin) = rest[..2 * inv_freq.len()].split_at_mut(inv_freq.len());
    angles(position, inv_freq, rope.attention_factor, cos, sin);
    let token = Token {
        k: tile.read(0),
        v: tile.read(1),
        position,
        angles: (cos, sin),
        interleaved: rope.interleaved != 0,
        norm: weight.map(|weight| (weight, eps)),
    };
    let (mut keys, mut values) = (tile.write::<C>(cache), tile.write::<C>(cache + 1));
    write_token(&write, &token, key, keys.slice(), values.slice(), convert);
}

fn dispatch(tile: &Tile<'_>, weight: Option<&[f32]>, cache: usize) {
    if tile.dtype(cache) == DType::F16 {
        run_as::<f16>(tile, weight, cache, |from, to| to.convert_from_f32_slice(from));
    } else {
        run_as::<f32>(tile, weight, cache, |from, to| to.copy_from_slice(from));
    }
}

fn run(tile: &Tile<'_>) {
    dispatch(tile, None, 4);
}

fn run_normed(tile: &Tile<'_>) {
    dispatch(tile, Some(tile.read(4)), 5);
}

const ROWS: &str = include_str!("kv_rows.wgsl");

static GPU: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "plain",
        &[include_str!("kv_plain.wgsl"), ROWS, PAIRS, INVOCATION, FLOAT, WIDE, ANGLE],
    )],
    plan: gpu_plan,
};

static GPU_NORMED: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "normed",
        &[include_str!("kv_normed.wgsl"), ROWS, ROW, PAIRS, INVOCATION, REDUCE, FLOAT, WIDE, ANGLE],
    )],
    plan: gpu_plan_normed,
};

/// What caches hold, as `kv_rows.wgsl` has it. `first` is the index of the cache of keys.
fn cache_kind(context: &GpuContext<'_>, first: usize) -> u32 {
    let Params { write, .. } = context.params();
    let even = |dim: u32, binding| dim.is_multiple_of(2) && context.misalignment(binding).is_multiple_of(4);
    match context.dtype(first) {
        DType::F16 if even(write.key_dim, first) && even(write.value_dim, first + 1) => 1,
        DType::F16 => 2,
        _ => 0,
    }
}

fn gpu_plan(context: &GpuContext<'_>) -> GpuPlan {
    let Params { write, .. } = context.params();
    GpuPlan::linear(write.heads as usize)
        .constant("WORKGROUP", row_workgroup(context.limits(), write.key_dim as usize, 1))
        .constant("CACHE", cache_kind(context, 4))
}

fn gpu_plan_normed(context: &GpuContext<'_>) -> GpuPlan {
    let Params { write, .. } = context.params();
    plan_rows(context, 0, write.key_dim as usize).constant("CACHE", cache_kind(context, 5))
}
