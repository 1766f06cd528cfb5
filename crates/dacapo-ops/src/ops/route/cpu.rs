//! CPU twins of the choice of experts.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};

use super::Params;
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::ops::softmax::cpu::rows as softmax;
use crate::ops::top_k::largest;
use crate::simd::Level;

/// Fewest logits of a tile.
const FEWEST: usize = 2048;

/// `OUT` is the index of the first output.
pub(super) fn plan<const OUT: usize>(context: &PlanContext<'_>) -> CpuPlan {
    let params: Params = context.params();
    let (experts, chosen) = (params.experts as usize, params.chosen as usize);
    let tokens = context.len(0) / experts;
    let of_tile = context.chunk(tokens, 1, 4).max(FEWEST / experts).max(1);
    CpuPlan::new(1, tokens.div_ceil(of_tile))
        .split(OUT, Split::rows(chosen, of_tile))
        .split(OUT + 1, Split::rows(chosen, of_tile))
        .scratch(2 * experts)
}

#[inline(always)]
fn sigmoid_body<L: Lanes>(l: L, x: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
        l.store_part(math::swish(l, l.splat(1.0), l.load_part(x, 0.0)), out);
    }
}

leveled! {
    /// `1 / (1 + e^-x)`
    pub(super) fn sigmoid(x: &[f32], out: &mut [f32]) = sigmoid_body;
}

/// One token. `scores` and `choice` have room for a number of each expert.
pub(super) fn token(
    level: Level,
    params: Params,
    logits: &[f32],
    bias: Option<&[f32]>,
    [scores, choice]: [&mut [f32]; 2],
    (ids, weights): (&mut [u32], &mut [f32]),
) {
    match params.scoring {
        0 => softmax(level, logits, scores, logits.len(), 1.0),
        _ => sigmoid(level, logits, scores),
    }
    // Scores may be equal where logits are not.
    let by: &[f32] = match bias {
        None => logits,
        Some(bias) => {
            choice.iter_mut().zip(&*scores).zip(bias).for_each(|((to, score), bias)| *to = score + bias);
            choice
        }
    };
    let mut sum = 0.0;
    for ((key, id), weight) in largest(by, ids.len()).into_iter().zip(&mut *ids).zip(&mut *weights) {
        *id = key.index() as u32;
        *weight = scores[key.index()];
        sum += *weight;
    }
    let factor = if params.normalized != 0 { params.scale / sum } else { params.scale };
    weights.iter_mut().for_each(|weight| *weight *= factor);
}

fn rows(tile: &Tile<'_>, bias: Option<&[f32]>, out: usize) {
    let params: Params = tile.params();
    let (experts, chosen) = (params.experts as usize, params.chosen as usize);
    let (mut ids, mut weights) = (tile.write::<u32>(out), tile.write::<f32>(out + 1));
    let logits = &tile.read::<f32>(0)[ids.first_row() * experts..];
    let (scores, rest) = tile.scratch().split_at_mut(experts);
    let choice = &mut rest[..experts];
    let each = ids.slice().chunks_exact_mut(chosen).zip(weights.slice().chunks_exact_mut(chosen));
    for (logits, out) in logits.chunks_exact(experts).zip(each) {
        token(Level::best(), params, logits, bias, [&mut *scores, &mut *choice], out);
    }
}

pub(super) fn run(tile: &Tile<'_>) {
    rows(tile, None, 1);
}

pub(super) fn run_bias(tile: &Tile<'_>) {
    rows(tile, Some(tile.read(1)), 2);
}
