//! One query: bound by how fast keys and values arrive from memory.
//!
//! Lanes are elements of a head for the scores' dot products and for the values, and keys for the softmax. A key is
//! loaded once for up to four of the query heads that share it.

use half::f16;

use super::{Cache, KEYS, KvElement, Queries, Shape, load_part, slots_from};
use crate::lanes::{LANES, Lanes, leveled, math};

/// Positions of a part. Parts begin at multiples of it; what they give is put together in order, so that it makes no difference
/// whether one thread computes all of them or several share them.
pub(in super::super) const PART: usize = 4 * KEYS;

/// Scratch for the `group` heads of one query.
pub(super) fn scratch(group: usize, key_dim: usize, value_dim: usize) -> usize {
    let padded = |n: usize| n.next_multiple_of(LANES);
    group * (padded(key_dim) + padded(value_dim) + KEYS + 4)
}

/// Keys of one tile: their slots in the cache.
#[derive(Clone, Copy)]
struct Keys<'a, E> {
    cache: Cache<'a, E>,
    slots: &'a [usize],
}

/// What some positions gave to a head, but for the values: those are sums weighted by `e^(score - max)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    /// The largest score.
    pub max: f32,
    /// The sum of weights.
    pub sum: f32,
}

impl State {
    /// Before any position: nothing but the sink, if there is one.
    pub fn new(sink: Option<f32>) -> Self {
        sink.map_or(State { max: f32::NEG_INFINITY, sum: 0.0 }, |max| State { max, sum: 1.0 })
    }
}

/// Scratch of one query, divided. Rows are filled up to whole vectors.
struct Room<'a> {
    /// Queries times the scale, a row for each head.
    q: &'a mut [f32],
    scores: &'a mut [f32],
    max: &'a mut [f32],
    sum: &'a mut [f32],
    /// Sums of values, a row for each head.
    o: &'a mut [f32],
}

impl<'a> Room<'a> {
    /// The room with the query in it.
    #[inline(always)]
    fn new(shape: &Shape, queries: Queries<'_>, scratch: &'a mut [f32]) -> Self {
        let group = shape.group;
        let wide_key = shape.key_dim.next_multiple_of(LANES);
        let (q, rest) = scratch.split_at_mut(group * wide_key);
        let (o, rest) = rest.split_at_mut(group * shape.value_dim.next_multiple_of(LANES));
        let (scores, rest) = rest.split_at_mut(group * KEYS);
        let (max, rest) = rest.split_at_mut(group);
        q.fill(0.0);
        for g in 0..group {
            for (to, &from) in q[g * wide_key..].iter_mut().zip(queries.row(shape, 0, g)) {
                *to = from * shape.scale;
            }
        }
        Room { q, scores, max, sum: &mut rest[..group], o }
    }

    /// State and sums of values of head `g`.
    #[inline(always)]
    fn head(&self, shape: &Shape, g: usize) -> (State, &[f32]) {
        let wide = shape.value_dim.next_multiple_of(LANES);
        (State { max: self.max[g], sum: self.sum[g] }, &self.o[g * wide..][..shape.value_dim])
    }
}

/// What the positions `lowest..end` give.
#[inline(always)]
fn part<L: Lanes, E: KvElement>(
    l: L,
    shape: &Shape,
    cache: Cache<'_, E>,
    (lowest, end): (usize, usize),
    room: &mut Room<'_>,
) {
    let wide_value = shape.value_dim.next_multiple_of(LANES);
    room.o.fill(0.0);
    room.max.fill(f32::NEG_INFINITY);
    room.sum.fill(0.0);
    let mut tile = lowest / KEYS * KEYS;
    while tile < end {
        let first = tile.max(lowest);
        let count = (tile + KEYS).min(end) - first;
        let slots = slots_from(first, count, shape.slots);
        let keys = Keys { cache, slots: &slots[..count] };
        room.scores.fill(f32::NEG_INFINITY);
        all_scores(l, shape, keys, room.q, room.scores);
        for (g, scores) in room.scores.chunks_exact_mut(KEYS).enumerate() {
            let alpha = weigh(l, shape, scores, &mut room.max[g], &mut room.sum[g]);
            if alpha != 1.0 {
                room.o[g * wide_value..][..wide_value].iter_mut().for_each(|o| *o *= alpha);
            }
        }
        all_values(l, shape, keys, room.scores, room.o);
        tile += KEYS;
    }
}

/// What came before, `state` and `out`, with a part's state and sums of values.
#[inline(always)]
fn merge<L: Lanes>(l: L, state: &mut State, out: &mut [f32], part: State, values: &[f32]) {
    let max = if part.max > state.max { part.max } else { state.max };
    let base = if max == f32::NEG_INFINITY { 0.0 } else { max };
    let weight = |of: f32| {
        let mut lanes = [0.0; LANES];
        l.store(math::exp(l, l.splat(of - base)), &mut lanes);
        lanes[0]
    };
    let (before, after) = (weight(state.max), weight(part.max));
    *state = State { max, sum: state.sum * before + part.sum * after };
    for (out, values) in out.chunks_mut(LANES).zip(values.chunks(LANES)) {
        let kept = l.mul(l.load_part(out, 0.0), l.splat(before));
        l.store_part(l.fma(l.load_part(values, 0.0), l.splat(after), kept), out);
    }
}

/// The end of it: weighted sums become means.
fn finish(state: State, out: &mut [f32]) {
    let inverse = 1.0 / state.sum;
    out.iter_mut().for_each(|out| *out *= inverse);
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
    let (scratch, states) = scratch.split_at_mut(scratch.len() - 2 * shape.group);
    let (max, sum) = states.split_at_mut(shape.group);
    let mut room = Room::new(shape, queries, scratch);
    for g in 0..shape.group {
        let state = State::new(queries.sinks.map(|sinks| sinks[g]));
        (max[g], sum[g]) = (state.max, state.sum);
    }
    out.fill(0.0);
    for range in shape.parts(queries.first, usize::MAX) {
        part(l, shape, cache, range, &mut room);
        for (g, out) in out.chunks_exact_mut(shape.value_dim).enumerate() {
            let mut state = State { max: max[g], sum: sum[g] };
            let (found, values) = room.head(shape, g);
            merge(l, &mut state, out, found, values);
            (max[g], sum[g]) = (state.max, state.sum);
        }
    }
    for (g, out) in out.chunks_exact_mut(shape.value_dim).enumerate() {
        finish(State { max: max[g], sum: sum[g] }, out);
    }
}

#[inline(always)]
fn attend_part<L: Lanes, E: KvElement>(
    l: L,
    shape: &Shape,
    queries: Queries<'_>,
    cache: Cache<'_, E>,
    range: (usize, usize),
    scratch: &mut [f32],
    put: &mut dyn FnMut(usize, State, &[f32]),
) {
    let mut room = Room::new(shape, queries, scratch);
    part(l, shape, cache, range, &mut room);
    for g in 0..shape.group {
        let (state, values) = room.head(shape, g);
        put(g, state, values);
    }
}

#[inline(always)]
fn combine_parts<L: Lanes>(
    l: L,
    sink: Option<f32>,
    parts: &mut dyn Iterator<Item = (State, &[f32])>,
    out: &mut [f32],
) {
    let mut state = State::new(sink);
    out.fill(0.0);
    for (part, values) in parts {
        merge(l, &mut state, out, part, values);
    }
    finish(state, out);
}

leveled! {
    /// A head's result `[DV]` from what [`part_f32`] or [`part_f16`] gave for each part of its positions, in order.
    pub(super) fn combine(
        sink: Option<f32>,
        parts: &mut dyn Iterator<Item = (State, &[f32])>,
        out: &mut [f32],
    ) = combine_parts;
}

/// Both loops for caches of one type of element.
macro_rules! for_element {
    ($element:ty, $attend:ident, $part:ident) => {
        leveled! {
            /// The result for the heads that share one of the cache's, `[G * DV]`.
            pub(super) fn $attend(
                shape: &Shape,
                queries: Queries<'_>,
                cache: Cache<'_, $element>,
                scratch: &mut [f32],
                out: &mut [f32],
            ) = attend::<_, $element>;
        }
        leveled! {
            /// What some positions give to each of those heads.
            pub(super) fn $part(
                shape: &Shape,
                queries: Queries<'_>,
                cache: Cache<'_, $element>,
                range: (usize, usize),
                scratch: &mut [f32],
                put: &mut dyn FnMut(usize, State, &[f32]),
            ) = attend_part::<_, $element>;
        }
    };
}
for_element!(f32, attend_f32, part_f32);
for_element!(f16, attend_f16, part_f16);

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
    let (chunks, tail) = (dim / LANES, dim % LANES);
    let q: [&[[f32; LANES]]; G] = std::array::from_fn(|i| q[(g + i) * wide..][..wide].as_chunks().0);
    // Whole vectors in a loop of their own: the part that pads stays out of it.
    let q_whole: [&[[f32; LANES]]; G] = q.map(|q| &q[..chunks]);
    for (j, &slot) in keys.slots.iter().enumerate() {
        let key = &keys.cache.keys[slot * dim..][..dim];
        let mut sums = [l.splat(0.0); G];
        for (c, part) in key.as_chunks().0[..chunks].iter().enumerate() {
            let k = E::load(l, part);
            for (sum, q) in sums.iter_mut().zip(&q_whole) {
                *sum = l.fma(k, l.load(&q[c]), *sum);
            }
        }
        if tail > 0 {
            let k = load_part(l, &key[chunks * LANES..]);
            for (sum, q) in sums.iter_mut().zip(&q) {
                *sum = l.fma(k, l.load(&q[chunks]), *sum);
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
        let left = shape.value_dim - column;
        if L::WIDE && left >= 4 * LANES {
            mix::<L, E, G, 4, false>(l, shape, keys, weights, o, (g, column));
            column += 4 * LANES;
        } else if left >= LANES {
            mix::<L, E, G, 1, false>(l, shape, keys, weights, o, (g, column));
            column += LANES;
        } else {
            mix::<L, E, G, 1, true>(l, shape, keys, weights, o, (g, column));
            column += LANES;
        }
    }
}

/// `V` vectors of [`mixes`], from `column` on; `TAIL` if the values end within the only one.
#[inline(always)]
fn mix<L: Lanes, E: KvElement, const G: usize, const V: usize, const TAIL: bool>(
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
        let factors: [L::V; G] = std::array::from_fn(|i| l.splat(weights[i][j]));
        for v in 0..V {
            let part = if TAIL { load_part(l, value) } else { E::load(l, &value.as_chunks().0[v]) };
            for (sums, &factor) in sums.iter_mut().zip(&factors) {
                sums[v] = l.fma(factor, part, sums[v]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (v, &sum) in sums.iter().enumerate() {
            l.store_part(sum, &mut o[(g + i) * wide + column + v * LANES..][..LANES]);
        }
    }
}
