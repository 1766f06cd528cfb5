//! The int8 loop for one token: bound by how fast codes arrive from memory, so that they are unpacked on the way.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.

use super::codes::{META, code_sum, substeps, unpack};
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
    /// What will be read after this.
    pub next: Next<'a>,
}

/// Codes and scales of the range after this one. They come from elsewhere in memory, which no prefetcher of a processor foresees.
#[derive(Debug, Clone, Copy)]
pub struct Next<'a> {
    /// Its codes.
    pub codes: &'a [u8],
    /// Its scales, as the panel has them.
    pub scales: &'a [u8],
}

/// How far ahead codes are asked for, in bytes: what memory must have in flight for one core, then what the second-level cache must.
const FAR: usize = 8192;
const NEAR: usize = 1024;

/// Asks for what will be read: codes [`FAR`] and [`NEAR`] bytes ahead, and the scales of the range that comes next, in step with the
/// blocks of this one.
struct Ahead {
    near: *const u8,
    far: *const u8,
    next_codes: *const u8,
    next_scales: *const u8,
    scales_per_block: usize,
    /// Blocks until far codes come from the next range.
    left: usize,
}

impl Ahead {
    fn new(chunk: &Chunk<'_>, block_bytes: usize) -> Self {
        let blocks = chunk.q.len() / BLOCK;
        // Not farther than the next range, which goes on somewhere else.
        let distance = (FAR / block_bytes).min(blocks);
        let codes = chunk.codes.as_ptr();
        Ahead {
            near: codes.wrapping_add(NEAR),
            far: codes.wrapping_add(distance * block_bytes),
            next_codes: chunk.next.codes.as_ptr(),
            next_scales: chunk.next.scales.as_ptr(),
            scales_per_block: chunk.next.scales.len().div_ceil(blocks.max(1)),
            left: blocks - distance,
        }
    }

    /// # Safety
    /// That of [`Vector`].
    #[inline(always)]
    unsafe fn block<V: Vector, const BITS: usize>(&mut self) {
        if self.left == 0 {
            self.far = self.next_codes;
        }
        self.left = self.left.wrapping_sub(1);
        for line in 0..BITS {
            V::prefetch_far(self.far.wrapping_add(64 * line));
            V::prefetch(self.near.wrapping_add(64 * line));
        }
        self.far = self.far.wrapping_add(64 * BITS);
        self.near = self.near.wrapping_add(64 * BITS);
        for at in (0..self.scales_per_block).step_by(64) {
            V::prefetch_far(self.next_scales.wrapping_add(at));
        }
        self.next_scales = self.next_scales.wrapping_add(self.scales_per_block);
    }
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
    let mut ahead = Ahead::new(chunk, 64 * BITS);
    for _ in 0..chunk.q.len() / BLOCK / per {
        let mut s = V::load(scales);
        let mut total = 0.0;
        for _ in 0..per {
            ahead.block::<V, BITS>();
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
            (4, true, true) => panel::<4, true, true>(level, chunk, per, zero),
            (5, false, true) => panel::<5, false, true>(level, chunk, per, zero),
            (5, false, false) => panel::<5, false, false>(level, chunk, per, zero),
            (5, true, false) => panel::<5, true, false>(level, chunk, per, zero),
            (6, false, true) => panel::<6, false, true>(level, chunk, per, zero),
            (6, true, false) => panel::<6, true, false>(level, chunk, per, zero),
            (8, false, true) => panel::<8, false, true>(level, chunk, per, zero),
            (8, false, false) => panel::<8, false, false>(level, chunk, per, zero),
            (8, true, true) => panel::<8, true, true>(level, chunk, per, zero),
            _ => unreachable!("no format has codes of {bits} bits with {scales:?}"),
        }
    }
}
