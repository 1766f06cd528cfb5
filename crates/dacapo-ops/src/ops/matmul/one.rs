//! The int8 loop for one token: bound by how fast codes arrive from memory, so that they are unpacked on the way.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.

use super::codes::{META, code_sum, prefetch, substeps, unpack};
use super::scales::Layout;
use super::vector::{Vector, for_levels};
use crate::quant::panel::{BLOCK, ROWS, Scales};
use crate::simd::Level;

/// One panel's codes over a range of k, and the token's activations there.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Codes of the panel.
    pub codes: &'a [u8],
    /// Scales as [`Layout::Spans`].
    pub scales: &'a [f32],
    /// Activations, a multiple of a span and of 32 of them.
    pub q: &'a [i8],
    /// For each 32 of them [`META`] values.
    pub meta: &'a [f32],
    /// For each row a sum.
    pub acc: &'a mut [f32; ROWS],
}

/// The rows from `lane` on. `HALF` means spans of 16 values, `BIASED` that scales come with biases; otherwise `zero` is the code
/// for zero. `per` is the number of blocks in a span, 1 if it is half of one.
#[inline(always)]
unsafe fn pass<V: Vector, const BITS: usize, const HALF: bool, const BIASED: bool>(
    chunk: &mut Chunk<'_>,
    lane: usize,
    per: usize,
    zero: i32,
) {
    let (mut codes, mut scales) = (chunk.codes.as_ptr().add(4 * lane), chunk.scales.as_ptr().add(lane));
    let (mut q, mut meta) = (chunk.q.as_ptr(), chunk.meta.as_ptr());
    let to = chunk.acc.as_mut_ptr().add(lane);
    let mut acc = V::load(to);
    for _ in 0..chunk.q.len() / BLOCK / per {
        let mut s = V::load(scales);
        let mut total = 0.0;
        for _ in 0..per {
            prefetch::<V, BITS>(codes);
            let scale = *meta;
            let mut sum = V::sum_from(0);
            substeps!(J => {
                let activations = q.add(4 * J).cast::<u32>().read_unaligned();
                sum = V::sum_dot::<BITS>(sum, unpack::<V, BITS>(codes, J), activations);
                if J == 7 || (HALF && J == 3) {
                    // META: scale, sum of 32, sum of the first 16, sum of the last 16.
                    let scaled = *meta.add(if HALF { 2 + J / 4 } else { 1 });
                    let mut dot = V::to_float(V::sum_finish::<BITS>(sum, 0));
                    if !BIASED {
                        // Whole numbers below 2^24: exact, as if taken off before the conversion.
                        dot = V::add(dot, V::splat((-zero * code_sum(scale, scaled)) as f32));
                    }
                    acc = V::fma(V::mul(dot, V::splat(scale)), s, acc);
                    if HALF && BIASED {
                        acc = V::fma(V::load(scales.add(ROWS)), V::splat(scaled), acc);
                    }
                    total += scaled;
                    if HALF && J == 3 {
                        scales = scales.add(if BIASED { 2 * ROWS } else { ROWS });
                        s = V::load(scales);
                        sum = V::sum_from(0);
                    }
                }
            });
            codes = codes.add(64 * BITS);
            q = q.add(BLOCK);
            meta = meta.add(META);
        }
        if BIASED && !HALF {
            acc = V::fma(V::load(scales.add(ROWS)), V::splat(total), acc);
        }
        scales = scales.add(if BIASED { 2 * ROWS } else { ROWS });
    }
    V::store(to, acc);
}

#[inline(always)]
unsafe fn all_rows<V: Vector, const BITS: usize, const HALF: bool, const BIASED: bool>(
    chunk: &mut Chunk<'_>,
    per: usize,
    zero: i32,
) {
    for lane in (0..ROWS).step_by(V::LANES) {
        pass::<V, BITS, HALF, BIASED>(chunk, lane, per, zero);
    }
}

for_levels! {
    /// # Safety
    /// The level must be available, and the chunk's parts of the lengths that its `q` asks for.
    unsafe fn panel<const BITS: usize, const HALF: bool, const BIASED: bool>(
        chunk: &mut Chunk<'_>,
        per: usize,
        zero: i32,
    ) = all_rows;
}

/// Adds a chunk's products to its sums. Codes have `bits` bits. Panics if the lengths do not fit each other or the processor lacks the
/// level.
pub fn run(level: Level, bits: u8, scales: Scales, chunk: &mut Chunk<'_>) {
    let k = chunk.q.len();
    assert!(k.is_multiple_of(BLOCK) && k.is_multiple_of(scales.span()));
    assert!(chunk.codes.len() >= k / BLOCK * 64 * bits as usize);
    assert!(chunk.scales.len() >= Layout::Spans.len(scales, k) && chunk.meta.len() >= k / BLOCK * META);
    assert!(level.is_available(), "{} is not available here", level.name());
    let (per, zero) = ((scales.span() / BLOCK).max(1), i32::from(scales.zero().unwrap_or(0)));
    // SAFETY: the level is available, and the lengths cover what a pass reads and writes, as just checked.
    unsafe {
        match (bits, scales.span() < BLOCK, scales.zero().is_none()) {
            (2, false, true) => panel::<2, false, true>(level, chunk, per, zero),
            (2, true, true) => panel::<2, true, true>(level, chunk, per, zero),
            (3, false, true) => panel::<3, false, true>(level, chunk, per, zero),
            (3, true, false) => panel::<3, true, false>(level, chunk, per, zero),
            (4, false, true) => panel::<4, false, true>(level, chunk, per, zero),
            (4, false, false) => panel::<4, false, false>(level, chunk, per, zero),
            (5, false, true) => panel::<5, false, true>(level, chunk, per, zero),
            (5, false, false) => panel::<5, false, false>(level, chunk, per, zero),
            (6, false, true) => panel::<6, false, true>(level, chunk, per, zero),
            (6, true, false) => panel::<6, true, false>(level, chunk, per, zero),
            (8, false, true) => panel::<8, false, true>(level, chunk, per, zero),
            (8, false, false) => panel::<8, false, false>(level, chunk, per, zero),
            _ => unreachable!("no format has codes of {bits} bits with {scales:?}"),
        }
    }
}
