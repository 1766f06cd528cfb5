//! Many queries at once.
//!
//! Lanes are queries. With queries transposed, scores are `K Q^T` and values `V^T P^T`: both are products in which
//! the cache's elements are broadcast and rows of queries are vectors, so that keys and values are used as they
//! lie, the softmax runs down the columns, and nothing crosses lanes.

use half::f16;

use super::{Cache, KEYS, KvElement, Queries, Shape, slots_from, widen};
use crate::lanes::{LANES, Lanes, leveled, math};

/// Scratch for `rows` queries of `key_dim` and `value_dim` elements.
pub(super) fn scratch(rows: usize, key_dim: usize, value_dim: usize) -> usize {
    let rows = rows.next_multiple_of(LANES);
    (key_dim + value_dim + KEYS + 5) * rows + KEYS * (key_dim + value_dim)
}

/// The parts of the scratch. Rows of `width` elements, one for each query and head.
struct Parts<'a> {
    width: usize,
    /// Values so far, `[DV, width]`.
    out: &'a mut [f32],
    /// Scaled queries, `[D, width]`.
    q: &'a mut [f32],
    /// Scores, then weights, `[KEYS, width]`.
    scores: &'a mut [f32],
    /// Running maximum, running sum, and what the last tile rescaled by.
    max: &'a mut [f32],
    sum: &'a mut [f32],
    alpha: &'a mut [f32],
    /// First position seen and first position no longer seen, counted from the tile's first.
    start: &'a mut [f32],
    end: &'a mut [f32],
    /// Keys `[KEYS, D]` and values `[KEYS, DV]` of the tile.
    keys: &'a mut [f32],
    values: &'a mut [f32],
}

impl<'a> Parts<'a> {
    fn new(scratch: &'a mut [f32], shape: &Shape, count: usize) -> Self {
        let width = (count * shape.group).next_multiple_of(LANES);
        let mut rest = scratch;
        let mut take = |n: usize| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(n);
            rest = tail;
            part
        };
        Parts {
            width,
            out: take(shape.value_dim * width),
            q: take(shape.key_dim * width),
            scores: take(KEYS * width),
            max: take(width),
            sum: take(width),
            alpha: take(width),
            start: take(width),
            end: take(width),
            keys: take(KEYS * shape.key_dim),
            values: take(KEYS * shape.value_dim),
        }
    }
}

/// Query `t`'s result, `[G * DV]`, from the scratch that [`attend_f32`] or [`attend_f16`] left.
pub(super) fn store(shape: &Shape, count: usize, t: usize, scratch: &[f32], out: &mut [f32]) {
    let width = (count * shape.group).next_multiple_of(LANES);
    for (g, out) in out.chunks_exact_mut(shape.value_dim).enumerate() {
        let row = t * shape.group + g;
        for (d, out) in out.iter_mut().enumerate() {
            *out = scratch[d * width + row];
        }
    }
}

#[inline(always)]
fn attend<L: Lanes, E: KvElement>(
    l: L,
    shape: &Shape,
    queries: Queries<'_>,
    cache: Cache<'_, E>,
    scratch: &mut [f32],
) {
    let mut parts = Parts::new(scratch, shape, queries.count);
    prepare(shape, queries, &mut parts);
    let seen = (0..queries.count).map(|t| shape.seen(queries.first + t));
    let (lowest, end) = seen.fold((usize::MAX, 0), |all, one| (all.0.min(one.0), all.1.max(one.1)));
    let (key_dim, value_dim, width) = (shape.key_dim, shape.value_dim, parts.width);
    let mut tile = lowest / KEYS * KEYS;
    while tile < end {
        let first = tile.max(lowest);
        let count = (tile + KEYS).min(end) - first;
        let slots = slots_from(first, count, shape.slots);
        for (j, &slot) in slots[..count].iter().enumerate() {
            let key = &cache.keys[slot * key_dim..][..key_dim];
            widen(l, key, &mut parts.keys[j * key_dim..][..key_dim]);
            let value = &cache.values[slot * value_dim..][..value_dim];
            widen(l, value, &mut parts.values[j * value_dim..][..value_dim]);
        }
        let size = (count, width, key_dim);
        product(l, parts.keys, (key_dim, 1), parts.q, parts.scores, size, false);
        let partly = bounds(shape, queries, first, count, &mut parts);
        for column in (0..width).step_by(LANES) {
            weigh(l, shape, &mut parts, column, count, partly);
        }
        let size = (value_dim, width, count);
        product(l, parts.values, (1, value_dim), parts.scores, parts.out, size, true);
        tile += KEYS;
    }
    for column in (0..width).step_by(LANES) {
        let inverse = l.div(l.splat(1.0), l.load(lanes(parts.sum, column)));
        for row in parts.out.chunks_exact_mut(width) {
            let o = lanes_mut(row, column);
            l.store(l.mul(l.load(o), inverse), o);
        }
    }
}

leveled! {
    /// Leaves the result in the scratch, for [`store`].
    pub(super) fn attend_f32(shape: &Shape, queries: Queries<'_>, cache: Cache<'_, f32>, scratch: &mut [f32]) =
        attend::<_, f32>;
}
leveled! {
    /// Leaves the result in the scratch, for [`store`].
    pub(super) fn attend_f16(shape: &Shape, queries: Queries<'_>, cache: Cache<'_, f16>, scratch: &mut [f32]) =
        attend::<_, f16>;
}

#[inline(always)]
fn lanes(x: &[f32], at: usize) -> &[f32; LANES] {
    x[at..][..LANES].try_into().expect("sixteen elements")
}

#[inline(always)]
fn lanes_mut(x: &mut [f32], at: usize) -> &mut [f32; LANES] {
    (&mut x[at..][..LANES]).try_into().expect("sixteen elements")
}

/// Transposes and scales the queries, and starts the running values.
fn prepare(shape: &Shape, queries: Queries<'_>, parts: &mut Parts<'_>) {
    let width = parts.width;
    parts.out.fill(0.0);
    parts.q.fill(0.0);
    parts.max.fill(f32::NEG_INFINITY);
    parts.sum.fill(0.0);
    for t in 0..queries.count {
        for g in 0..shape.group {
            let row = t * shape.group + g;
            for (d, &q) in queries.row(shape, t, g).iter().enumerate() {
                parts.q[d * width + row] = q * shape.scale;
            }
            if let Some(sinks) = queries.sinks {
                parts.max[row] = sinks[g];
                parts.sum[row] = 1.0;
            }
        }
    }
}

/// Notes which keys of the tile each query sees; says whether some query does not see them all.
fn bounds(shape: &Shape, queries: Queries<'_>, first: usize, count: usize, parts: &mut Parts<'_>) -> bool {
    let mut partly = false;
    for (row, (start, end)) in parts.start.iter_mut().zip(parts.end.iter_mut()).enumerate() {
        // Lanes beyond the last query do as it does.
        let seen = shape.seen(queries.first + (row / shape.group).min(queries.count - 1));
        let from = seen.0.saturating_sub(first).min(count);
        let to = seen.1.saturating_sub(first).min(count);
        partly |= from > 0 || to < count;
        (*start, *end) = (from as f32, to as f32);
    }
    partly
}

/// The softmax's step for sixteen queries: scores become weights, and what came before is rescaled.
#[inline(always)]
fn weigh<L: Lanes>(l: L, shape: &Shape, parts: &mut Parts<'_>, column: usize, count: usize, partly: bool) {
    let width = parts.width;
    let lowest = l.splat(f32::NEG_INFINITY);
    let (start, end) = (l.load(lanes(parts.start, column)), l.load(lanes(parts.end, column)));
    let old = l.load(lanes(parts.max, column));
    let mut max = old;
    for (j, row) in parts.scores.chunks_exact_mut(width).take(count).enumerate() {
        let at = lanes_mut(row, column);
        let mut s = l.load(at);
        if let Some(cap) = shape.softcap {
            s = l.mul(l.splat(cap), math::tanh(l, l.div(s, l.splat(cap))));
        }
        if partly {
            let j = l.splat(j as f32);
            s = l.if_less(j, start, lowest, l.if_less(j, end, s, lowest));
        }
        l.store(s, at);
        max = l.max(s, max);
    }
    // Without any key yet the maximum is minus infinity; 0 in its place keeps every weight at 0.
    let base = l.if_less(lowest, max, max, l.splat(0.0));
    let alpha = math::exp(l, l.sub(old, base));
    let mut sum = l.mul(l.load(lanes(parts.sum, column)), alpha);
    for row in parts.scores.chunks_exact_mut(width).take(count) {
        let at = lanes_mut(row, column);
        let p = math::exp(l, l.sub(l.load(at), base));
        l.store(p, at);
        sum = l.add(sum, p);
    }
    l.store(max, lanes_mut(parts.max, column));
    l.store(sum, lanes_mut(parts.sum, column));
    l.store(alpha, lanes_mut(parts.alpha, column));
    if parts.alpha[column..][..LANES].iter().any(|&a| a != 1.0) {
        for row in parts.out.chunks_exact_mut(width) {
            let o = lanes_mut(row, column);
            l.store(l.mul(l.load(o), alpha), o);
        }
    }
}

/// `c = a b`, or `c += a b`: element (i, k) of `a` lies at `i * strides.0 + k * strides.1`; `b` `[k, n]` and `c` `[m, n]`
/// are row-major, n a multiple of sixteen. Every element is summed in the order of k.
#[inline(always)]
fn product<L: Lanes>(
    l: L,
    a: &[f32],
    strides: (usize, usize),
    b: &[f32],
    c: &mut [f32],
    (m, n, k): (usize, usize, usize),
    accumulate: bool,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(n % LANES == 0 && (m - 1) * strides.0 + (k - 1) * strides.1 < a.len());
    assert!(k * n <= b.len() && m * n <= c.len());
    let product = Product { a: a.as_ptr(), strides, b: b.as_ptr(), c: c.as_mut_ptr(), n, k, accumulate };
    let mut column = 0;
    while column < n {
        let left = (n - column) / LANES;
        // SAFETY: the assertions above; `column` and the number of vectors stay below n.
        unsafe {
            if L::WIDE && left >= 4 {
                product.columns::<L, 4, 4>(l, column, m);
                column += 4 * LANES;
            } else if L::WIDE && left >= 2 {
                product.columns::<L, 8, 2>(l, column, m);
                column += 2 * LANES;
            } else if L::WIDE {
                product.columns::<L, 8, 1>(l, column, m);
                column += LANES;
            } else {
                product.columns::<L, 4, 1>(l, column, m);
                column += LANES;
            }
        }
    }
}

/// Operands of [`product`].
struct Product {
    a: *const f32,
    strides: (usize, usize),
    b: *const f32,
    c: *mut f32,
    n: usize,
    k: usize,
    accumulate: bool,
}

impl Product {
    /// # Safety
    /// The operands' elements for all k, `m` rows and the columns from `column` on, `V` vectors of them, must
    /// exist, and `c` must overlap neither `a` nor `b`.
    #[inline(always)]
    unsafe fn columns<L: Lanes, const M: usize, const V: usize>(&self, l: L, column: usize, m: usize) {
        let mut row = 0;
        while row + M <= m {
            // SAFETY: the caller's promise for these rows.
            unsafe { self.block::<L, M, V>(l, row, column) };
            row += M;
        }
        while row < m {
            // SAFETY: the caller's promise for this row.
            unsafe { self.block::<L, 1, V>(l, row, column) };
            row += 1;
        }
    }

    /// # Safety
    /// As for `columns`, for `M` rows from `row` on.
    #[inline(always)]
    unsafe fn block<L: Lanes, const M: usize, const V: usize>(&self, l: L, row: usize, column: usize) {
        let mut sums = [[l.splat(0.0); V]; M];
        // SAFETY: every address lies in an operand by the caller's promise.
        unsafe {
            if self.accumulate {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = l.load(&*self.c.add((row + i) * self.n + column + v * LANES).cast());
                    }
                }
            }
            let mut a = self.a.add(row * self.strides.0);
            let mut b = self.b.add(column);
            for _ in 0..self.k {
                let mut vectors = [l.splat(0.0); V];
                for (v, vector) in vectors.iter_mut().enumerate() {
                    *vector = l.load(&*b.add(v * LANES).cast());
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let factor = l.splat(*a.add(i * self.strides.0));
                    for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                        *sum = l.fma(factor, vector, *sum);
                    }
                }
                // Not `add`: after the last step the pointers may lie beyond the operands.
                a = a.wrapping_add(self.strides.1);
                b = b.wrapping_add(self.n);
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.iter().enumerate() {
                    l.store(sum, &mut *self.c.add((row + i) * self.n + column + v * LANES).cast());
                }
            }
        }
    }
}
