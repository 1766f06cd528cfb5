//! The loop on AArch64 processors that multiply matrices of bytes (`usmmla`): eight values of two rows by those of two tokens at once.
//!
//! A line of codes has four values of each row, so that two lines zipped have eight of a row side by side. What follows the
//! integer sums is the same as without such instructions, in the same order.

use std::arch::aarch64::*;

use super::{Chunk, Packed, Tile, biased, offset, tiles};
use crate::ops::matmul::codes::BLOCK_BYTES;
use crate::ops::matmul::scales::Layout;
use crate::ops::matmul::vector::Vector;
use crate::ops::matmul::vector::neon::NeonDot as V;
use crate::quant::panel::{BLOCK, ROWS, Scales};

/// Most tokens of a tile, as [`Vector::TILE`] has it: activations are packed alike.
const TOKENS: usize = V::TILE.1;

/// Vectors of rows of a tile.
const VECTORS: usize = 2;

/// `sum` and the products of two rows of eight codes with two rows of eight activations: first row by first token, by second
/// token, second row likewise.
///
/// # Safety
/// The processor must have the instruction.
#[inline(always)]
unsafe fn usmmla(mut sum: int32x4_t, codes: uint32x4_t, q: int8x16_t) -> int32x4_t {
    // The intrinsic is not stable yet.
    std::arch::asm!(
        ".arch_extension i8mm",
        "usmmla {sum:v}.4s, {codes:v}.16b, {q:v}.16b",
        sum = inout(vreg) sum, codes = in(vreg) codes, q = in(vreg) q,
        options(pure, nomem, nostack, preserves_flags)
    );
    sum
}

/// Integer sums of a pair of tokens: for each vector of rows those of its first two and of its last two rows.
type Pair = [[int32x4_t; 2]; VECTORS];

/// Adds the products of eight values: `codes` and `q` point to the first of them.
#[inline(always)]
unsafe fn add_eight<const M: usize>(
    sums: &mut [Pair; TOKENS / 2],
    codes: [*const u8; VECTORS],
    q: *const i8,
) {
    let codes = codes.map(|codes| {
        let (a, b) = (V::load_words(codes), V::load_words(codes.add(4 * ROWS)));
        [vzip1q_u32(a, b), vzip2q_u32(a, b)]
    });
    for (pair, sums) in sums.iter_mut().enumerate().take(M.div_ceil(2)) {
        // Where the number of tokens is odd, the last one is computed twice.
        let of = |m: usize| vld1_s8(q.add(m.min(M - 1) * BLOCK));
        let q = vcombine_s8(of(2 * pair), of(2 * pair + 1));
        for (sums, codes) in sums.iter_mut().zip(codes) {
            *sums = [usmmla(sums[0], codes[0], q), usmmla(sums[1], codes[1], q)];
        }
    }
}

/// A tile of eight rows by `M` tokens. `HALF` means spans of 16 values, `BIASED` that scales come with biases.
#[inline(always)]
unsafe fn pass<const HALF: bool, const BIASED: bool, const M: usize>(tile: Tile<VECTORS>) {
    let Tile { mut codes, mut scales, mut q, mut scales_q, mut sums, .. } = tile;
    let mut acc = tile.load_acc::<V, M>();
    let stride = if BIASED { 2 * ROWS } else { ROWS };
    let (parts, eights) = if HALF { (2, 2) } else { (1, 4) };
    for _ in 0..tile.blocks / tile.per {
        for _ in 0..tile.per {
            for part in 0..parts {
                let mut dots = [[[vdupq_n_s32(0); 2]; VECTORS]; TOKENS / 2];
                for eight in part * eights..(part + 1) * eights {
                    let lines = codes.map(|codes| codes.add(2 * 4 * ROWS * eight));
                    add_eight::<M>(&mut dots, lines, q.add(8 * eight));
                }
                for m in 0..M {
                    for p in 0..VECTORS {
                        let [a, b] = dots[m / 2][p];
                        let dot = if m % 2 == 0 { vuzp1q_s32(a, b) } else { vuzp2q_s32(a, b) };
                        let dot = vaddq_s32(dot, vdupq_n_s32(offset::<BIASED>(sums, m)));
                        let dot = V::to_float(vreinterpretq_u32_s32(dot));
                        let scaled = V::mul(dot, V::splat(*scales_q.add(m)));
                        acc[m][p] = V::fma(scaled, V::load(scales[p]), acc[m][p]);
                    }
                }
                if HALF || !BIASED {
                    (acc, sums) = biased::<V, BIASED, VECTORS, M>(acc, scales, sums);
                    scales = scales.map(|scales| scales.add(stride));
                }
            }
            codes = codes.map(|codes| codes.add(BLOCK_BYTES));
            q = q.add(M * BLOCK);
            scales_q = scales_q.add(M);
        }
        if BIASED && !HALF {
            (acc, sums) = biased::<V, BIASED, VECTORS, M>(acc, scales, sums);
            scales = scales.map(|scales| scales.add(stride));
        }
    }
    tile.store_acc::<V, M>(acc);
}

#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn panels<const HALF: bool, const BIASED: bool>(
    chunk: &mut Chunk<'_>,
    scales: Scales,
    input: Packed<'_>,
) {
    let span = scales.span();
    let per_panel = Layout::Spans.len(scales, chunk.len);
    for vector in (0..chunk.bytes.len() / (chunk.len * V::LANES)).step_by(VECTORS) {
        let at: [(usize, usize); VECTORS] =
            std::array::from_fn(|p| ((vector + p) * V::LANES / ROWS, (vector + p) * V::LANES % ROWS));
        let acc = at.map(|(panel, lane)| chunk.acc.as_mut_ptr().add(panel * input.tokens * ROWS + lane));
        let mut tile = Tile {
            codes: at.map(|(panel, lane)| chunk.bytes.as_ptr().add(panel * chunk.len * ROWS + 4 * lane)),
            scales: at.map(|(panel, lane)| chunk.scales.as_ptr().add(panel * per_panel + lane)),
            acc,
            blocks: chunk.len / BLOCK,
            per: (span / BLOCK).max(1),
            q: input.codes.as_ptr(),
            scales_q: input.scales.as_ptr(),
            sums: input.sums.as_ptr(),
        };
        for (token, size) in tiles(input.tokens, TOKENS) {
            tile.point_to(input, (token, size), chunk.first, span);
            tile.acc = acc.map(|acc| acc.add(token * ROWS));
            match size {
                6 => pass::<HALF, BIASED, 6>(tile),
                5 => pass::<HALF, BIASED, 5>(tile),
                4 => pass::<HALF, BIASED, 4>(tile),
                3 => pass::<HALF, BIASED, 3>(tile),
                2 => pass::<HALF, BIASED, 2>(tile),
                _ => pass::<HALF, BIASED, 1>(tile),
            }
        }
    }
}

/// As [`run`](super::run).
///
/// # Safety
/// The processor has these instructions, and the chunk's parts have the lengths that its `len` asks for.
pub(super) unsafe fn run(scales: Scales, chunk: &mut Chunk<'_>, input: Packed<'_>) {
    match (scales.span() < BLOCK, scales.zero().is_none()) {
        (false, false) => panels::<false, false>(chunk, scales, input),
        (false, true) => panels::<false, true>(chunk, scales, input),
        (true, false) => panels::<true, false>(chunk, scales, input),
        (true, true) => panels::<true, true>(chunk, scales, input),
    }
}
