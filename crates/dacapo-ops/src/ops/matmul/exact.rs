//! The loop over quantized panels with activations as they are.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.

use super::codes::{substeps, unpack};
use super::pack;
use super::vector::{Vector, for_levels};
use crate::quant::panel::{BLOCK, ROWS};
use crate::simd::Level;

/// One panel's codes over a range of k, and the activations of some tokens.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Codes of the panel from the chunk's first value on.
    pub codes: &'a [u8],
    /// Scales as [`Layout::Steps`](super::scales::Layout).
    pub scales: &'a [f32],
    /// Blocks of 32 values in the chunk.
    pub blocks: usize,
    /// The chunk's first value.
    pub first: usize,
    /// Values in a whole row of activations.
    pub k: usize,
    /// For each token 16 sums, one for each row.
    pub acc: &'a mut [f32],
}

/// Activations of the tokens of a chunk, whole rows, packed: see [`super::pack`]. Each group of M tokens is contiguous.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// For each group `[k, M]`.
    pub x: &'a [f32],
    /// Their sums over each step, for each group `[k / step, M]`.
    pub sums: &'a [f32],
}

/// How far ahead codes are asked for, in bytes, for one token: a pass is bound by memory then.
const PREFETCH: usize = 8192;

/// What one pass of a loop works on, past the point where lengths were checked.
struct Pass {
    codes: *const u8,
    scales: *const f32,
    acc: *mut f32,
    blocks: usize,
}

impl Pass {
    /// The rows from `lane` on, for the tokens from `token` on.
    unsafe fn new(chunk: &mut Chunk<'_>, token: usize, lane: usize) -> Self {
        Pass {
            codes: chunk.codes.as_ptr().add(4 * lane),
            scales: chunk.scales.as_ptr().add(lane),
            acc: chunk.acc.as_mut_ptr().add(token * ROWS + lane),
            blocks: chunk.blocks,
        }
    }

    #[inline(always)]
    unsafe fn load<V: Vector, const M: usize>(&self) -> [V::Float; M] {
        let mut acc = [V::splat(0.0); M];
        for (m, acc) in acc.iter_mut().enumerate() {
            *acc = V::load(self.acc.add(m * ROWS));
        }
        acc
    }

    #[inline(always)]
    unsafe fn store<V: Vector, const M: usize>(&self, acc: [V::Float; M]) {
        for (m, acc) in acc.into_iter().enumerate() {
            V::store(self.acc.add(m * ROWS), acc);
        }
    }
}

/// The loop for `M` tokens; `HALF` means steps of 16 values.
#[inline(always)]
unsafe fn exact_pass<V: Vector, const BITS: usize, const HALF: bool, const M: usize>(
    pass: Pass,
    mut x: *const f32,
    mut sums: *const f32,
) {
    let (mut codes, mut scales) = (pass.codes, pass.scales);
    let mut acc = pass.load::<V, M>();
    for _ in 0..pass.blocks {
        if M == 1 {
            for line in 0..BITS {
                V::prefetch_far(codes.wrapping_add(PREFETCH + 64 * line));
            }
        }
        let mut sum = [V::splat(0.0); M];
        substeps!(J => {
            let word = unpack::<V, BITS>(codes, J);
            for byte in 0..4 {
                let code = V::to_float(V::and(V::shift_right(word, 8 * byte as u32), 255));
                for (m, sum) in sum.iter_mut().enumerate() {
                    *sum = V::fma(code, V::splat(*x.add((4 * J + byte) * M + m)), *sum);
                }
            }
            if J == 7 || (HALF && J == 3) {
                let (s, b) = (V::load(scales), V::load(scales.add(ROWS)));
                scales = scales.add(2 * ROWS);
                for m in 0..M {
                    acc[m] = V::fma(b, V::splat(*sums.add(m)), V::fma(s, sum[m], acc[m]));
                    sum[m] = V::splat(0.0);
                }
                sums = sums.add(M);
            }
        });
        codes = codes.add(64 * BITS);
        x = x.add(M * BLOCK);
    }
    pass.store::<V, M>(acc);
}

/// One pass for the `M` tokens from `token` on.
#[inline(always)]
unsafe fn run_pass<V: Vector, const BITS: usize, const HALF: bool, const M: usize>(
    chunk: &mut Chunk<'_>,
    input: Input<'_>,
    token: usize,
    lane: usize,
) {
    let pass = Pass::new(chunk, token, lane);
    // Groups before this one hold whole rows, this one M values for each value of a row.
    let (row, at) = (token * chunk.k, M * chunk.first);
    let sums = input.sums.as_ptr().add((row + at) / if HALF { 16 } else { 32 });
    exact_pass::<V, BITS, HALF, M>(pass, input.x.as_ptr().add(row + at), sums);
}

/// All tokens and rows of a chunk.
#[inline(always)]
unsafe fn run_chunk<V: Vector, const BITS: usize, const HALF: bool>(chunk: &mut Chunk<'_>, input: Input<'_>) {
    let tokens = chunk.acc.len() / ROWS;
    for lane in (0..ROWS).step_by(V::LANES) {
        for (token, m) in pack::groups(tokens, V::TOKENS) {
            match m {
                8 => run_pass::<V, BITS, HALF, 8>(chunk, input, token, lane),
                4 => run_pass::<V, BITS, HALF, 4>(chunk, input, token, lane),
                2 => run_pass::<V, BITS, HALF, 2>(chunk, input, token, lane),
                _ => run_pass::<V, BITS, HALF, 1>(chunk, input, token, lane),
            }
        }
    }
}

for_levels! {
    /// # Safety
    /// The level must be available, and the chunk's parts and the input of the lengths that its `blocks` and `k` ask for.
    unsafe fn panel<const BITS: usize, const HALF: bool>(chunk: &mut Chunk<'_>, input: Input<'_>) = run_chunk;
}

/// Adds a chunk's products to its accumulators. Codes have `bits` bits; a step is 16 or 32 values. Panics if the
/// lengths do not fit each other or the processor lacks the level.
pub fn run(level: Level, bits: u8, step: usize, chunk: &mut Chunk<'_>, input: Input<'_>) {
    let tokens = chunk.acc.len() / ROWS;
    let end = chunk.first + chunk.blocks * BLOCK;
    assert!(chunk.first.is_multiple_of(BLOCK) && end <= chunk.k && chunk.k.is_multiple_of(BLOCK));
    assert!(chunk.codes.len() >= chunk.blocks * 64 * bits as usize);
    assert!(chunk.scales.len() >= chunk.blocks * (BLOCK / step) * 2 * ROWS);
    assert!(input.x.len() >= tokens * chunk.k && input.sums.len() >= tokens * (chunk.k / step));
    assert!(level.is_available(), "{} is not available here", level.name());
    // SAFETY: the level is available, and the lengths cover what a pass reads and writes, as just checked.
    unsafe {
        match (bits, step == 16) {
            (2, false) => panel::<2, false>(level, chunk, input),
            (2, true) => panel::<2, true>(level, chunk, input),
            (3, false) => panel::<3, false>(level, chunk, input),
            (3, true) => panel::<3, true>(level, chunk, input),
            (4, false) => panel::<4, false>(level, chunk, input),
            (4, true) => panel::<4, true>(level, chunk, input),
            (5, false) => panel::<5, false>(level, chunk, input),
            (5, true) => panel::<5, true>(level, chunk, input),
            (6, false) => panel::<6, false>(level, chunk, input),
            (6, true) => panel::<6, true>(level, chunk, input),
            (8, false) => panel::<8, false>(level, chunk, input),
            (8, true) => panel::<8, true>(level, chunk, input),
            (bits, half) => unreachable!("no format has codes of {bits} bits (steps of 16: {half})"),
        }
    }
}
