//! The CPU twin of the gated delta rule.
//!
//! Columns of a head's memory do not depend on each other. Over a prompt, some columns at a time go through all tokens, so
//! that they stay in the first-level cache.

use std::ops::Range;

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile, TileMut};

use super::{EPSILON, Params};
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::simd::Level;

/// Vectors of columns that are kept in registers together.
const VECTORS: usize = 4;
/// Columns that go through a prompt together: 32 KiB of a memory with keys of 128 elements.
const COLUMNS: usize = VECTORS * LANES;
/// Tokens from which on columns are put together for it.
const PROMPT: usize = 4;

/// A tile for each head.
pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let (heads, key_dim, value_dim) = (p.value_heads as usize, p.key_dim as usize, p.value_dim as usize);
    let tokens = ctx.len(1) / heads;
    CpuPlan::new(heads, 1)
        .split(6, Split::chunks(key_dim * value_dim))
        .split(7, Split::block(heads * value_dim, tokens, value_dim))
        .scratch(key_dim * COLUMNS)
}

/// Decay and share of up to sixteen tokens.
#[inline(always)]
fn gates_body<L: Lanes>(l: L, a: &[f32; LANES], b: &[f32; LANES], rate: f32, bias: f32) -> [[f32; LANES]; 2] {
    let softplus = math::softplus(l, l.add(l.load(a), l.splat(bias)));
    let mut out = [[0.0; LANES]; 2];
    l.store(math::exp(l, l.mul(l.splat(-rate), softplus)), &mut out[0]);
    l.store(math::sigmoid(l, l.load(b)), &mut out[1]);
    out
}

leveled! {
    fn gates(a: &[f32; LANES], b: &[f32; LANES], rate: f32, bias: f32) -> [[f32; LANES]; 2] = gates_body;
}

/// 1 / sqrt(sum(x^2) + eps).
#[inline(always)]
fn inverse_length<L: Lanes>(l: L, x: &[f32]) -> f32 {
    let mut sum = l.splat(0.0);
    for part in x.chunks(LANES) {
        let v = l.load_part(part, 0.0);
        sum = l.fma(v, v, sum);
    }
    1.0 / (l.sum(sum) + EPSILON).sqrt()
}

/// What a head has of a token.
#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    q: &'a [f32],
    k: &'a [f32],
    /// The columns' values.
    v: &'a [f32],
    decay: f32,
    share: f32,
}

/// A token in up to `N` vectors of columns. Rows of `state` are `stride` apart.
#[inline(always)]
fn vectors<L: Lanes, const N: usize>(
    l: L,
    token: Token<'_>,
    [inverse_q, inverse_k]: [f32; 2],
    state: &mut [f32],
    stride: usize,
    out: &mut [f32],
) {
    let columns: [Range<usize>; N] = std::array::from_fn(|n| n * LANES..((n + 1) * LANES).min(out.len()));
    let (zero, decay) = (l.splat(0.0), l.splat(token.decay));
    let mut recalled = [zero; N];
    for (row, &k) in state.chunks(stride).zip(token.k) {
        for (recalled, columns) in recalled.iter_mut().zip(&columns) {
            *recalled = l.fma(l.load_part(&row[columns.clone()], 0.0), l.splat(k), *recalled);
        }
    }
    let (known, share) = (l.splat(token.decay * inverse_k), l.splat(token.share * inverse_k));
    let mut change = [zero; N];
    for ((change, recalled), columns) in change.iter_mut().zip(&recalled).zip(&columns) {
        let v = l.load_part(&token.v[columns.clone()], 0.0);
        *change = l.mul(share, l.sub(v, l.mul(known, *recalled)));
    }
    let mut read = [zero; N];
    for ((row, &k), &q) in state.chunks_mut(stride).zip(token.k).zip(token.q) {
        for ((read, change), columns) in read.iter_mut().zip(&change).zip(&columns) {
            let row = &mut row[columns.clone()];
            let s = l.fma(*change, l.splat(k), l.mul(decay, l.load_part(row, 0.0)));
            l.store_part(s, row);
            *read = l.fma(s, l.splat(q), *read);
        }
    }
    for (read, columns) in read.iter().zip(columns) {
        l.store_part(l.mul(*read, l.splat(inverse_q)), &mut out[columns]);
    }
}

#[inline(always)]
fn advance_body<L: Lanes>(l: L, token: Token<'_>, state: &mut [f32], stride: usize, out: &mut [f32]) {
    let scale = 1.0 / (token.q.len() as f32).sqrt();
    let inverse = [inverse_length(l, token.q) * scale, inverse_length(l, token.k)];
    let mut at = 0;
    while at < out.len() {
        let width = if out.len() - at >= COLUMNS { COLUMNS } else { LANES.min(out.len() - at) };
        let token = Token { v: &token.v[at..at + width], ..token };
        let (state, out) = (&mut state[at..], &mut out[at..at + width]);
        if width == COLUMNS {
            vectors::<L, VECTORS>(l, token, inverse, state, stride, out);
        } else {
            vectors::<L, 1>(l, token, inverse, state, stride, out);
        }
        at += width;
    }
}

leveled! {
    /// Takes a token into columns of a head's memory, whose rows are `stride` apart, and reads them with its query.
    fn advance(token: Token<'_>, state: &mut [f32], stride: usize, out: &mut [f32]) = advance_body;
}

pub(super) fn run(tile: &Tile<'_>) {
    let p: Params = tile.params();
    let value_dim = p.value_dim as usize;
    let (mut state, mut out) = (tile.write::<f32>(6), tile.write::<f32>(7));
    let state = state.slice();
    if tile.read::<u32>(5)[0] == 0 {
        state.fill(0.0);
    }
    if out.rows() < PROMPT {
        each_token(tile, &p, state, 0..value_dim, &mut out);
        return;
    }
    let scratch = tile.scratch();
    for first in (0..value_dim).step_by(COLUMNS) {
        let columns = first..(first + COLUMNS).min(value_dim);
        let width = columns.len();
        let kept = &mut scratch[..p.key_dim as usize * width];
        let rows = |row: usize| row * value_dim + columns.start..row * value_dim + columns.end;
        for (row, kept) in kept.chunks_exact_mut(width).enumerate() {
            kept.copy_from_slice(&state[rows(row)]);
        }
        each_token(tile, &p, kept, columns.clone(), &mut out);
        for (row, kept) in kept.chunks_exact(width).enumerate() {
            state[rows(row)].copy_from_slice(kept);
        }
    }
}

/// Takes all tokens into columns of the tile's head, which `state` holds alone, and reads them into `out`.
fn each_token(
    tile: &Tile<'_>,
    p: &Params,
    state: &mut [f32],
    columns: Range<usize>,
    out: &mut TileMut<'_, f32>,
) {
    let (head, heads) = (tile.x(), p.value_heads as usize);
    let (key_dim, value_dim) = (p.key_dim as usize, p.value_dim as usize);
    let (qkv, a, b) = (tile.read::<f32>(0), tile.read::<f32>(1), tile.read::<f32>(2));
    let (rate, bias) = (tile.read::<f32>(3)[head], tile.read::<f32>(4)[head]);
    let level = Level::best();
    let query = p.key_head(head) * key_dim;
    let key = p.key_heads as usize * key_dim + query;
    let value = 2 * p.key_heads as usize * key_dim + head * value_dim;
    let mut gate = [[0.0; LANES]; 2];
    for (t, token) in qkv.chunks_exact(p.width()).enumerate() {
        if t % LANES == 0 {
            let strip = |x: &[f32]| {
                std::array::from_fn(|i| x.get((t + i) * heads + head).copied().unwrap_or_default())
            };
            gate = gates(level, &strip(a), &strip(b), rate, bias);
        }
        let values = &token[value..value + value_dim];
        let token = Token {
            q: &token[query..query + key_dim],
            k: &token[key..key + key_dim],
            v: &values[columns.clone()],
            decay: gate[0][t % LANES],
            share: gate[1][t % LANES],
        };
        advance(level, token, state, columns.len(), &mut out.row(t)[columns.clone()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::normal;

    #[test]
    fn every_level_gives_the_same_bits() {
        for (key_dim, value_dim) in [(1, 1), (16, 16), (20, 37), (128, 128), (64, 96), (256, 70)] {
            let (q, k, v) = (normal(1, key_dim), normal(2, key_dim), normal(3, value_dim));
            let run = |level| {
                let mut state = normal(4, key_dim * value_dim);
                let mut out = vec![f32::NAN; value_dim];
                let token = Token { q: &q, k: &k, v: &v, decay: 0.7, share: 0.4 };
                advance(level, token, &mut state, value_dim, &mut out);
                let both: [f32; LANES] = normal(5, LANES).try_into().unwrap();
                (state, out, gates(level, &both, &both, 0.3, 1.0))
            };
            for level in Level::available() {
                assert!(run(level) == run(Level::Scalar), "{level:?} {key_dim} {value_dim}");
            }
        }
    }
}
