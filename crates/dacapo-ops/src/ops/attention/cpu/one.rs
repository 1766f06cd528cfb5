//! One query: bound by how fast keys and values arrive from memory.
//!
//! Lanes are elements of a head for the scores' dot products and for the values, and keys for the softmax. A key is
//! loaded once for up to four of the query heads that share it.

use half::f16;

use super::{Cache, KEYS, KvElement, Queries, Shape, load_part, slots_from};
use crate::lanes::{LANES, Lanes, leveled, math};

/// Scratch for the `group` heads of one query.
pub(super) fn scratch(group: usize, key_dim: usize, value_dim: usize) -> usize {
    let padded = |n: usize| n.next_multiple_of(LANES);
    group * (padded(key_dim) + padded(value_dim) + KEYS + 2)
}

/// Keys of one tile: their slots in the cache.
#[derive(Clone, Copy)]
struct Keys<'a, E> {
    cache: Cache<'a, E>,
    slots: &'a [usize],
}

#[inline(always)]
fn attend<L: Lanes, E: KvElement>(
    l: L,
    shape: &Shape,
    queries: Queries<'_>,
    cache: Cache<'_, E>,
    scratch: &mut [f32],
    out: &mut [f32],
) {
    let group = shape.group;
    let (wide_key, wide_value) =
        (shape.key_dim.next_multiple_of(LANES), shape.value_dim.next_multiple_of(LANES));
    let (q, rest) = scratch.split_at_mut(group * wide_key);
    let (o, rest) = rest.split_at_mut(group * wide_value);
    let (scores, rest) = rest.split_at_mut(group * KEYS);
    let (max, rest) = rest.split_at_mut(group);
    let sum = &mut rest[..group];
    q.fill(0.0);
    o.fill(0.0);
    for g in 0..group {
        for (to, &from) in q[g * wide_key..].iter_mut().zip(queries.row(shape, 0, g)) {
            *to = from * shape.scale;
        }
        max[g] = queries.sinks.map_or(f32::NEG_INFINITY, |s| s[g]);
        sum[g] = if queries.sinks.is_some() { 1.0 } else { 0.0 };
    }
    let (lowest, end) = shape.seen(queries.first);
    let mut tile = lowest / KEYS * KEYS;
    while tile < end {
        let first = tile.max(lowest);
        let count = (tile + KEYS).min(end) - first;
        let slots = slots_from(first, count, shape.slots);
        let keys = Keys { cache, slots: &slots[..count] };
        scores.fill(f32::NEG_INFINITY);
        all_scores(l, shape, keys, q, scores);
        for (g, scores) in scores.chunks_exact_mut(KEYS).enumerate() {
            let alpha = weigh(l, shape, scores, &mut max[g], &mut sum[g]);
            if alpha != 1.0 {
                o[g * wide_value..][..wide_value].iter_mut().for_each(|o| *o *= alpha);
            }
        }
        all_values(l, shape, keys, scores, o);
        tile += KEYS;
    }
    for (g, out) in out.chunks_exact_mut(shape.value_dim).enumerate() {
        let inverse = 1.0 / sum[g];
        for (out, &o) in out.iter_mut().zip(&o[g * wide_value..]) {
            *out = o * inverse;
        }
    }
}

leveled! {
    /// The result for the heads that share one of the cache's, `[G * DV]`.
    pub(super) fn attend_f32(
        shape: &Shape,
        queries: Queries<'_>,
        cache: Cache<'_, f32>,
        scratch: &mut [f32],
        out: &mut [f32],
    ) = attend::<_, f32>;
}
leveled! {
    /// The result for the heads that share one of the cache's, `[G * DV]`.
    pub(super) fn attend_f16(
        shape: &Shape,
        queries: Queries<'_>,
        cache: Cache<'_, f16>,
        scratch: &mut [f32],
        out: &mut [f32],
    ) = attend::<_, f16>;
}

#[inline(always)]
fn all_scores<L: Lanes, E: KvElement>(l: L, shape: &Shape, keys: Keys<'_, E>, q: &[f32], scores: &mut [f32]) {
    let mut g = 0;
    while g < shape.group {
        match shape.group - g {
            1 => dots::<L, E, 1>(l, shape, keys, q, scores, g),
            2 | 3 => dots::<L, E, 2>(l, shape, keys, q, scores, g),
            _ => dots::<L, E, 4>(l, shape, keys, q, scores, g),
        }
        g += match shape.group - g {
            1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
    }
}

/// Scores of `G` heads from `g` on.
#[inline(always)]
fn dots<L: Lanes, E: KvElement, const G: usize>(
    l: L,
    shape: &Shape,
    keys: Keys<'_, E>,
    q: &[f32],
    scores: &mut [f32],
    g: usize,
) {
    let dim = shape.key_dim;
    let wide = dim.next_multiple_of(LANES);
    let q: [&[f32]; G] = std::array::from_fn(|i| &q[(g + i) * wide..][..wide]);
    for (j, &slot) in keys.slots.iter().enumerate() {
        let key = &keys.cache.keys[slot * dim..][..dim];
        let mut sums = [l.splat(0.0); G];
        for (c, part) in key.chunks(LANES).enumerate() {
            let k = load_part(l, part);
            for (sum, q) in sums.iter_mut().zip(&q) {
                *sum = l.fma(k, l.load_part(&q[c * LANES..][..LANES], 0.0), *sum);
            }
        }
        for (i, &sum) in sums.iter().enumerate() {
            scores[(g + i) * KEYS + j] = l.sum(sum);
        }
    }
}

/// The softmax's step for one head: scores become weights; returns what came before must be rescaled by.
#[inline(always)]
fn weigh<L: Lanes>(l: L, shape: &Shape, scores: &mut [f32], max: &mut f32, sum: &mut f32) -> f32 {
    let mut largest = l.splat(*max);
    for part in scores.chunks_exact_mut(LANES) {
        let mut s = l.load_part(part, 0.0);
        if let Some(cap) = shape.softcap {
            let capped = l.mul(l.splat(cap), math::tanh(l, l.div(s, l.splat(cap))));
            // Places without a key stay at minus infinity.
            s = l.if_less(l.splat(f32::NEG_INFINITY), s, capped, s);
        }
        l.store_part(s, part);
        largest = l.max(s, largest);
    }
    let old = *max;
    *max = l.max_lane(largest);
    let base = if *max == f32::NEG_INFINITY { 0.0 } else { *max };
    let mut total = l.splat(0.0);
    for part in scores.chunks_exact_mut(LANES) {
        let p = math::exp(l, l.sub(l.load_part(part, 0.0), l.splat(base)));
        l.store_part(p, part);
        total = l.add(total, p);
    }
    let mut alpha = [0.0; LANES];
    l.store(math::exp(l, l.splat(old - base)), &mut alpha);
    *sum = *sum * alpha[0] + l.sum(total);
    alpha[0]
}

#[inline(always)]
fn all_values<L: Lanes, E: KvElement>(
    l: L,
    shape: &Shape,
    keys: Keys<'_, E>,
    weights: &[f32],
    o: &mut [f32],
) {
    let mut g = 0;
    while g < shape.group {
        let step = match shape.group - g {
            1 => {
                mixes::<L, E, 1>(l, shape, keys, weights, o, g);
                1
            }
            2 | 3 => {
                mixes::<L, E, 2>(l, shape, keys, weights, o, g);
                2
            }
            _ => {
                mixes::<L, E, 4>(l, shape, keys, weights, o, g);
                4
            }
        };
        g += step;
    }
}

/// Adds weighted values to the `G` heads from `g` on.
#[inline(always)]
fn mixes<L: Lanes, E: KvElement, const G: usize>(
    l: L,
    shape: &Shape,
    keys: Keys<'_, E>,
    weights: &[f32],
    o: &mut [f32],
    g: usize,
) {
    let mut column = 0;
    while column < shape.value_dim {
        if L::WIDE && column + 4 * LANES <= shape.value_dim {
            mix::<L, E, G, 4>(l, shape, keys, weights, o, (g, column));
            column += 4 * LANES;
        } else {
            mix::<L, E, G, 1>(l, shape, keys, weights, o, (g, column));
            column += LANES;
        }
    }
}

/// `V` vectors of [`mixes`], from `column` on.
#[inline(always)]
fn mix<L: Lanes, E: KvElement, const G: usize, const V: usize>(
    l: L,
    shape: &Shape,
    keys: Keys<'_, E>,
    weights: &[f32],
    o: &mut [f32],
    (g, column): (usize, usize),
) {
    let dim = shape.value_dim;
    let wide = dim.next_multiple_of(LANES);
    let len = (V * LANES).min(dim - column);
    let weights: [&[f32]; G] = std::array::from_fn(|i| &weights[(g + i) * KEYS..][..keys.slots.len()]);
    let mut sums = [[l.splat(0.0); V]; G];
    for (i, sums) in sums.iter_mut().enumerate() {
        for (v, sum) in sums.iter_mut().enumerate() {
            *sum = l.load_part(&o[(g + i) * wide + column + v * LANES..][..LANES], 0.0);
        }
    }
    for (j, &slot) in keys.slots.iter().enumerate() {
        let value = &keys.cache.values[slot * dim + column..][..len];
        for (v, part) in value.chunks(LANES).take(V).enumerate() {
            let part = load_part(l, part);
            for (sums, weights) in sums.iter_mut().zip(&weights) {
                sums[v] = l.fma(l.splat(weights[j]), part, sums[v]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            l.store_part(sum, &mut o[(g + i) * wide + column + v * LANES..][..LANES]);
        }
    }
}
