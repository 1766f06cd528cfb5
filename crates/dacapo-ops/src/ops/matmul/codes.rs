//! The inner loops over quantized panels.
//!
//! A loop takes one panel, a range of k (a *chunk*) and some tokens, and adds to one accumulator for each token and
//! row. For every step of 16 or 32 values with scale `s` and bias `b` it computes, with `a` the activations,
//!
//! - exact: `acc = fma(s, sum(code * a), acc)`, then `acc = fma(b, sum(a), acc)`, the sums in f32 along k;
//! - int8: `acc = fma(dot, s * scale_a, acc)`, then `acc = fma(b, scale_a * sum(code_a), acc)`, `dot` an exact integer.
//!
//! The order depends on k alone, so neither chunks nor tokens side by side nor the vector width change a bit.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.

use super::pack;
use super::vector::Vector;
use super::vector::scalar::Scalar;
use crate::quant::panel::{BLOCK, ROWS};
use crate::simd::Level;

/// f32 values that describe a block of 32 quantized activations: see [`super::super::quantize`].
pub const META: usize = 4;

/// One panel's codes over a range of k, and the activations of some tokens.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// Codes of the panel from the chunk's first value on.
    pub codes: &'a [u8],
    /// For each step of the chunk 16 scales and 16 biases.
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
pub enum Input<'a> {
    /// As they are.
    Exact {
        /// For each group `[k, M]`.
        x: &'a [f32],
        /// Their sums over each step, for each group `[k / step, M]`.
        sums: &'a [f32],
    },
    /// Quantized to int8.
    Int8 {
        /// For each group `[k / 32, M, 32]`.
        codes: &'a [i8],
        /// For each group `[k / 32, M, META]`.
        meta: &'a [f32],
    },
}

/// Repeats a block for sub-steps 0 to 7, the number being a constant in each.
macro_rules! substeps {
    ($j:ident => $body:block) => {
        substeps!(@each $j $body 0 1 2 3 4 5 6 7)
    };
    (@each $j:ident $body:block $($n:literal)*) => {
        $({
            const $j: usize = $n;
            $body
        })*
    };
}

/// Bits `from..` of every byte moved to `to..` and cut to `mask`.
#[inline(always)]
unsafe fn place<V: Vector>(word: V::Word, from: usize, to: usize, mask: u32) -> V::Word {
    let moved = if from >= to {
        V::shift_right(word, (from - to) as u32)
    } else {
        V::shift_left(word, (to - from) as u32)
    };
    V::and(moved, mask * 0x0101_0101)
}

/// Codes `4 j .. 4 j + 3` of each row in a block: the layout of [`crate::quant::panel`].
#[inline(always)]
unsafe fn unpack<V: Vector, const BITS: usize>(block: *const u8, j: usize) -> V::Word {
    let line = |i: usize| block.add(64 * i);
    match BITS {
        2 => place::<V>(V::load_words(line(j / 4)), 2 * (j % 4), 0, 3),
        3 => V::or(
            place::<V>(V::load_words(line(j / 4)), 2 * (j % 4), 0, 3),
            place::<V>(V::load_words(line(2)), j, 2, 4),
        ),
        4 => place::<V>(V::load_words(line(j / 2)), 4 * (j % 2), 0, 15),
        5 => V::or(
            place::<V>(V::load_words(line(j / 2)), 4 * (j % 2), 0, 15),
            place::<V>(V::load_words(line(4)), j, 4, 16),
        ),
        6 => V::or(
            place::<V>(V::load_words(line(j / 2)), 4 * (j % 2), 0, 15),
            place::<V>(V::load_words(line(4 + j / 4)), 2 * (j % 4), 4, 48),
        ),
        _ => V::load_words(line(j)),
    }
}

/// How far ahead codes are asked for, in bytes: about what one core must have in flight to keep memory busy.
const PREFETCH: usize = 4096;

/// Asks for the codes of a block that lies [`PREFETCH`] ahead; with one token a pass is bound by memory.
#[inline(always)]
unsafe fn prefetch<V: Vector, const BITS: usize>(codes: *const u8) {
    for line in 0..BITS {
        V::prefetch(codes.wrapping_add(PREFETCH + 64 * line));
    }
}

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

/// The int8 loop for `M` tokens; `HALF` means steps of 16 values.
#[inline(always)]
unsafe fn int8_pass<V: Vector, const BITS: usize, const HALF: bool, const M: usize>(
    pass: Pass,
    mut q: *const i8,
    mut meta: *const f32,
) {
    let (mut codes, mut scales) = (pass.codes, pass.scales);
    let mut acc = pass.load::<V, M>();
    for _ in 0..pass.blocks {
        if M == 1 {
            prefetch::<V, BITS>(codes);
        }
        let mut sum = [V::sum_zero(); M];
        substeps!(J => {
            let word = unpack::<V, BITS>(codes, J);
            for (m, sum) in sum.iter_mut().enumerate() {
                let activations = q.add(m * BLOCK + 4 * J).cast::<u32>().read_unaligned();
                *sum = V::sum_dot::<BITS>(*sum, word, activations);
            }
            if J == 7 || (HALF && J == 3) {
                let (s, b) = (V::load(scales), V::load(scales.add(ROWS)));
                scales = scales.add(2 * ROWS);
                // META: scale, sum of 32, sum of the first 16, sum of the last 16.
                let which = if HALF { 2 + J / 4 } else { 1 };
                for m in 0..M {
                    let meta = meta.add(m * META);
                    let scale = V::mul(s, V::splat(*meta));
                    let dot = V::to_float(V::sum_finish::<BITS>(sum[m]));
                    acc[m] = V::fma(b, V::splat(*meta.add(which)), V::fma(dot, scale, acc[m]));
                    sum[m] = V::sum_zero();
                }
            }
        });
        codes = codes.add(64 * BITS);
        q = q.add(M * BLOCK);
        meta = meta.add(M * META);
    }
    pass.store::<V, M>(acc);
}

/// The exact loop for `M` tokens; `HALF` means steps of 16 values.
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
            prefetch::<V, BITS>(codes);
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
    match input {
        Input::Int8 { codes, meta } => {
            let meta = meta.as_ptr().add((row + at) / BLOCK * META);
            int8_pass::<V, BITS, HALF, M>(pass, codes.as_ptr().add(row + at), meta);
        }
        Input::Exact { x, sums } => {
            let sums = sums.as_ptr().add((row + at) / if HALF { 16 } else { 32 });
            exact_pass::<V, BITS, HALF, M>(pass, x.as_ptr().add(row + at), sums);
        }
    }
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

type Run = unsafe fn(&mut Chunk<'_>, Input<'_>);

/// The instance of `$run` for a code width and step.
macro_rules! instance {
    ($run:ident, $bits:expr, $half:expr) => {
        match ($bits, $half) {
            (2, false) => $run::<2, false>,
            (2, true) => $run::<2, true>,
            (3, false) => $run::<3, false>,
            (3, true) => $run::<3, true>,
            (4, false) => $run::<4, false>,
            (4, true) => $run::<4, true>,
            (5, false) => $run::<5, false>,
            (5, true) => $run::<5, true>,
            (6, false) => $run::<6, false>,
            (6, true) => $run::<6, true>,
            (8, false) => $run::<8, false>,
            (8, true) => $run::<8, true>,
            (bits, half) => unreachable!("no format has codes of {bits} bits (steps of 16: {half})"),
        }
    };
}

fn scalar<const BITS: usize, const HALF: bool>(chunk: &mut Chunk<'_>, input: Input<'_>) {
    // SAFETY: `run` checked the lengths; plain Rust needs no special instructions.
    unsafe { run_chunk::<Scalar, BITS, HALF>(chunk, input) }
}

#[cfg(target_arch = "aarch64")]
fn neon<const BITS: usize, const HALF: bool>(chunk: &mut Chunk<'_>, input: Input<'_>) {
    // SAFETY: `run` checked the lengths; every AArch64 processor has Advanced SIMD.
    unsafe { run_chunk::<super::vector::neon::Neon, BITS, HALF>(chunk, input) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<const BITS: usize, const HALF: bool>(chunk: &mut Chunk<'_>, input: Input<'_>) {
    // SAFETY: `run` checked the lengths; this function requires the instructions.
    unsafe { run_chunk::<super::vector::avx2::Avx2, BITS, HALF>(chunk, input) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn avx512<const BITS: usize, const HALF: bool>(chunk: &mut Chunk<'_>, input: Input<'_>) {
    // SAFETY: `run` checked the lengths; this function requires the instructions.
    unsafe { run_chunk::<super::vector::avx512::Avx512, BITS, HALF>(chunk, input) }
}

/// Adds a chunk's products to its accumulators. Codes have `bits` bits; a step is 16 or 32 values. Panics if the
/// lengths do not fit each other or the processor lacks the level.
pub fn run(level: Level, bits: u8, step: usize, chunk: &mut Chunk<'_>, input: Input<'_>) {
    let tokens = chunk.acc.len() / ROWS;
    let end = chunk.first + chunk.blocks * BLOCK;
    assert!(chunk.first.is_multiple_of(BLOCK) && end <= chunk.k && chunk.k.is_multiple_of(BLOCK));
    assert!(chunk.codes.len() >= chunk.blocks * 64 * bits as usize);
    assert!(chunk.scales.len() >= chunk.blocks * (BLOCK / step) * 2 * ROWS);
    match input {
        Input::Exact { x, sums } => {
            assert!(x.len() >= tokens * chunk.k && sums.len() >= tokens * (chunk.k / step));
        }
        Input::Int8 { codes, meta } => {
            assert!(codes.len() >= tokens * chunk.k && meta.len() >= tokens * (chunk.k / BLOCK) * META);
        }
    }
    assert!(level.is_available(), "{} is not available here", level.name());
    let half = step == 16;
    let run: Run = match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => instance!(avx512, bits, half),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => instance!(avx2, bits, half),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => instance!(neon, bits, half),
        _ => instance!(scalar, bits, half),
    };
    // SAFETY: the level is available, and the lengths cover what a pass reads and writes, as just checked.
    unsafe { run(chunk, input) }
}
