//! The CPU twins of split attention: plain scalar code. The CPU itself has no use for it.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{DType, Element};
use half::f16;

use super::super::split::{LEAST_SPLIT, row_len};
use super::{Params, Shape};
use crate::ops::matmul::codes::META;
use crate::ops::quantize::cpu::quantize;
use crate::quant::panel::BLOCK;
use crate::simd::Level;

/// What the positions of one split gave, or of some.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The largest score.
    largest: f32,
    /// Sum of `e^(score - largest)`.
    weights: f32,
}

/// Before any score.
const NOTHING: State = State { largest: f32::MIN, weights: 0.0 };

impl Shape {
    /// The positions of each of the splits that query `t` has, half-open. There may be fewer than `splits`.
    fn parts(&self, t: usize, splits: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (start, end) = self.seen(t);
        let each = (end - start).div_ceil(splits).max(LEAST_SPLIT);
        (start..end).step_by(each).map(move |first| (first, end.min(first + each)))
    }
}

fn shape(tile: &Tile<'_>, p: &Params, step: usize) -> Shape {
    Shape::new(p, tile.read::<u32>(step)[0] as usize)
}

/// A tile for each token and head.
fn plan(p: &Params, output: usize, row: usize) -> CpuPlan {
    let heads = p.heads as usize;
    CpuPlan::new(heads, p.tokens as usize).split(output, Split::block(heads * row, 1, row))
}

pub(in super::super) fn plan_part(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    plan(&p, 4, p.splits as usize * row_len(&p))
}

pub(in super::super) fn run_part(tile: &Tile<'_>) {
    if tile.dtype(1) == DType::F16 {
        part(tile, f16::to_f32);
    } else {
        part(tile, |x: f32| x);
    }
}

fn part<E: Element>(tile: &Tile<'_>, widen: impl Fn(E) -> f32) {
    let p: Params = tile.params();
    let shape = shape(tile, &p, 3);
    let (head, token) = (tile.x(), tile.y());
    let q = &tile.read::<f32>(0)[(token * shape.heads + head) * shape.key_dim..][..shape.key_dim];
    let caches = (tile.read::<E>(1), tile.read::<E>(2));
    part_of_head(&p, &shape, (head, token), q, caches, widen, tile.write::<f32>(4).row(0));
}

/// The rows of all splits of one head and token, whose query is `q`. `caches` are keys and values of all heads.
pub(super) fn part_of_head<E: Element>(
    p: &Params,
    shape: &Shape,
    (head, token): (usize, usize),
    q: &[f32],
    (keys, values): (&[E], &[E]),
    widen: impl Fn(E) -> f32,
    out: &mut [f32],
) {
    let row = |cache: &[E], position: usize, dim: usize| -> Vec<f32> {
        let at = ((head / shape.group) * shape.slots + position % shape.slots) * dim;
        cache[at..][..dim].iter().map(|&x| widen(x)).collect()
    };
    out.fill(0.0);
    let parts = shape.parts(token, p.splits as usize);
    for ((first, end), out) in parts.zip(out.chunks_exact_mut(row_len(p))) {
        let score = |j| {
            let dot: f32 = q.iter().zip(row(keys, j, shape.key_dim)).map(|(q, k)| q * k).sum();
            shape.softcap.map_or(dot * shape.scale, |cap| cap * (dot * shape.scale / cap).tanh())
        };
        let scores: Vec<f32> = (first..end).map(score).collect();
        let largest = scores.iter().copied().fold(f32::MIN, f32::max);
        let (state, sum) = out.split_at_mut(4);
        state[0] = largest;
        for (j, score) in (first..end).zip(scores) {
            let weight = (score - largest).exp();
            state[1] += weight;
            for (sum, v) in sum.iter_mut().zip(row(values, j, shape.value_dim)) {
                *sum += weight * v;
            }
        }
    }
}

pub(in super::super) fn plan_combine<const OUT: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    plan(&p, OUT, p.value_dim as usize)
}

pub(in super::super) fn run_combine(tile: &Tile<'_>) {
    combine(tile, 2, NOTHING);
}

pub(in super::super) fn run_combine_sinks(tile: &Tile<'_>) {
    let sink = tile.read::<f32>(2)[tile.x()];
    combine(tile, 3, State { largest: sink, weights: 1.0 });
}

/// `attention_combine` of a head, then `quantize_q8`.
pub(in super::super) fn run_combine_q8(tile: &Tile<'_>) {
    let out = &mut tile.scratch()[..tile.params::<Params>().value_dim as usize];
    combine_into(tile, out, NOTHING);
    let (mut codes, mut meta) = (tile.write::<i8>(2), tile.write::<f32>(3));
    quantize(Level::best(), out, codes.row(0), meta.row(0));
}

pub(in super::super) fn plan_combine_q8(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let (dim, heads) = (p.value_dim as usize, p.heads as usize);
    let about = dim / BLOCK * META;
    plan(&p, 2, dim).split(3, Split::block(heads * about, 1, about)).scratch(dim)
}

fn combine(tile: &Tile<'_>, output: usize, state: State) {
    combine_into(tile, tile.write::<f32>(output).row(0), state);
}

fn combine_into(tile: &Tile<'_>, out: &mut [f32], mut state: State) {
    let p: Params = tile.params();
    let shape = shape(tile, &p, 1);
    let (head, token) = (tile.x(), tile.y());
    let len = p.splits as usize * row_len(&p);
    let rows = &tile.read::<f32>(0)[(token * shape.heads + head) * len..][..len];
    let used = shape.parts(token, p.splits as usize).count();
    out.fill(0.0);
    for row in rows.chunks_exact(row_len(&p)).take(used) {
        let largest = state.largest.max(row[0]);
        let (before, weight) = ((state.largest - largest).exp(), (row[0] - largest).exp());
        state = State { largest, weights: state.weights * before + weight * row[1] };
        for (out, sum) in out.iter_mut().zip(&row[4..]) {
            *out = *out * before + weight * sum;
        }
    }
    out.iter_mut().for_each(|out| *out /= state.weights);
}
