//! The loop on processors with tiles (Intel's AMX): the integer sums of sixteen rows by up to sixteen tokens at once.
//!
//! A block of codes as bytes is laid out as such a tile must be: lines with four values of each of sixteen rows. So are packed
//! activations, 32 of each token one after the other. What follows the integer sums is the same as without tiles, in the same order.

use std::arch::asm;
use std::arch::x86_64::{_mm512_add_epi32, _mm512_set1_epi32};

use super::{Chunk, Packed, Tile, biased, offset, tiles};
use crate::ops::matmul::scales::Layout;
use crate::ops::matmul::vector::Vector;
use crate::ops::matmul::vector::avx512::Avx512 as V;
use crate::quant::panel::{BLOCK, ROWS, Scales};

/// Most tokens of a tile.
pub(super) const TOKENS: usize = 16;

/// Bytes of a line: four codes of each row, or a sum of each row.
const LINE: usize = 4 * ROWS;

/// Sums of sixteen rows for each token.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums([[i32; ROWS]; TOKENS]);

/// What makes the integer sums.
///
/// # Safety
/// For every function: the processor has what it takes. Between `configure` and `release` nothing else uses tiles on this thread.
pub(super) trait Tiles {
    /// Prepares for `tokens` tokens and `values` values, 16 or 32.
    unsafe fn configure(tokens: usize, values: usize);
    /// Sums over the products of values with codes, tokens and values being those of `configure`. Values of a token begin
    /// [`BLOCK`] bytes behind those of the one before.
    unsafe fn sums(tokens: usize, values: usize, q: *const i8, codes: *const u8, to: *mut Sums);
    /// Gives tiles back.
    unsafe fn release();
}

/// The processor's.
#[derive(Debug)]
pub(super) enum Hardware {}

/// Rows and bytes in a row of each tile, as the processor reads it.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Tiles for Hardware {
    #[inline(always)]
    unsafe fn configure(tokens: usize, values: usize) {
        let mut config =
            Config { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        // Sums, activations, codes.
        let shapes = [(tokens, LINE), (tokens, values), (values / 4, LINE)];
        for (i, (rows, bytes)) in shapes.into_iter().enumerate() {
            (config.rows[i], config.row_bytes[i]) = (rows as u8, bytes as u16);
        }
        // SAFETY: the trait's contract; the configuration is 64 bytes that say what the processor allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) }
    }

    #[inline(always)]
    unsafe fn sums(_: usize, _: usize, q: *const i8, codes: *const u8, to: *mut Sums) {
        // SAFETY: the trait's contract; nothing but these blocks of instructions uses tiles, so that what one of them left there is
        // of no concern to the compiler.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm1, [{q} + {block}*1]",
                "tileloadd tmm2, [{codes} + {line}*1]",
                "tdpbsud tmm0, tmm1, tmm2",
                "tilestored [{to} + {line}*1], tmm0",
                q = in(reg) q,
                block = in(reg) BLOCK,
                codes = in(reg) codes,
                line = in(reg) LINE,
                to = in(reg) to,
                options(nostack, preserves_flags),
            );
        }
    }

    #[inline(always)]
    unsafe fn release() {
        // SAFETY: the trait's contract.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

/// A tile of sixteen rows by `M` tokens. `HALF` means spans of 16 values, `BIASED` that scales come with biases.
#[inline(always)]
unsafe fn pass<T: Tiles, const HALF: bool, const BIASED: bool, const M: usize>(tile: Tile<1>) {
    let Tile { codes: [codes], mut scales, mut sums, .. } = tile;
    let values = if HALF { BLOCK / 2 } else { BLOCK };
    let steps = tile.blocks * (BLOCK / values);
    let mut acc = tile.load_acc::<V, M>();
    // Sums of the next step are on their way while those of this one become floats.
    let mut dots = [Sums([[0; ROWS]; TOKENS]); 2];
    let dots = dots.as_mut_ptr();
    let begin = |step: usize| {
        let q = tile.q.add(step * values / BLOCK * M * BLOCK + step * values % BLOCK);
        T::sums(M, values, q, codes.add(step * values * ROWS), dots.add(step % 2));
    };
    begin(0);
    let mut left = tile.per;
    for step in 0..steps {
        if step + 1 < steps {
            begin(step + 1);
        }
        let (found, scales_q) = (dots.add(step % 2), tile.scales_q.add(step * values / BLOCK * M));
        let s = V::load(scales[0]);
        for m in 0..M {
            let dot = V::load_words((&raw const (*found).0[m]).cast());
            let dot = _mm512_add_epi32(dot, _mm512_set1_epi32(offset::<BIASED>(sums, m)));
            let scaled = V::mul(V::to_float(dot), V::splat(*scales_q.add(m)));
            acc[m][0] = V::fma(scaled, s, acc[m][0]);
        }
        left -= 1;
        if HALF || left == 0 {
            (acc, sums) = biased::<V, BIASED, 1, M>(acc, scales, sums);
            scales[0] = scales[0].add(if BIASED { 2 * ROWS } else { ROWS });
            left = tile.per.max(1);
        }
    }
    tile.store_acc::<V, M>(acc);
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn panels<T: Tiles, const HALF: bool, const BIASED: bool>(
    chunk: &mut Chunk<'_>,
    scales: Scales,
    input: Packed<'_>,
) {
    let span = scales.span();
    let per_panel = Layout::Spans.len(scales, chunk.len);
    let mut configured = 0;
    for panel in 0..chunk.bytes.len() / (chunk.len * ROWS) {
        let acc = chunk.acc.as_mut_ptr().add(panel * input.tokens * ROWS);
        let mut tile = Tile {
            codes: [chunk.bytes.as_ptr().add(panel * chunk.len * ROWS)],
            scales: [chunk.scales.as_ptr().add(panel * per_panel)],
            acc: [acc],
            blocks: chunk.len / BLOCK,
            per: (span / BLOCK).max(1),
            q: input.codes.as_ptr(),
            scales_q: input.scales.as_ptr(),
            sums: input.sums.as_ptr(),
        };
        for (token, size) in tiles(input.tokens, TOKENS) {
            if size != configured {
                T::configure(size, if HALF { BLOCK / 2 } else { BLOCK });
                configured = size;
            }
            tile.point_to(input, (token, size), chunk.first, span);
            tile.acc = [acc.add(token * ROWS)];
            match size {
                16 => pass::<T, HALF, BIASED, 16>(tile),
                15 => pass::<T, HALF, BIASED, 15>(tile),
                14 => pass::<T, HALF, BIASED, 14>(tile),
                13 => pass::<T, HALF, BIASED, 13>(tile),
                12 => pass::<T, HALF, BIASED, 12>(tile),
                11 => pass::<T, HALF, BIASED, 11>(tile),
                10 => pass::<T, HALF, BIASED, 10>(tile),
                9 => pass::<T, HALF, BIASED, 9>(tile),
                8 => pass::<T, HALF, BIASED, 8>(tile),
                size => unreachable!("tiles are even, so that none has {size} tokens"),
            }
        }
    }
    T::release();
}

/// As [`run`](super::run), where `input` was packed for tiles.
///
/// # Safety
/// That of [`Tiles`] and of AVX-512 with VNNI; the chunk's parts have the lengths that its `len` asks for.
pub(super) unsafe fn run<T: Tiles>(scales: Scales, chunk: &mut Chunk<'_>, input: Packed<'_>) {
    match (scales.span() < BLOCK, scales.zero().is_none()) {
        (false, false) => panels::<T, false, false>(chunk, scales, input),
        (false, true) => panels::<T, false, true>(chunk, scales, input),
        (true, false) => panels::<T, true, false>(chunk, scales, input),
        (true, true) => panels::<T, true, true>(chunk, scales, input),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::matmul::codes::META;
    use crate::ops::quantize::cpu::quantize;
    use crate::quant::Float;
    use crate::simd::Level;
    use crate::testing::normal;

    /// What the instructions are defined to do, on any processor.
    enum Emulated {}

    impl Tiles for Emulated {
        unsafe fn configure(tokens: usize, values: usize) {
            assert!((8..=TOKENS).contains(&tokens) && (values == BLOCK || values == BLOCK / 2));
        }

        unsafe fn sums(tokens: usize, values: usize, q: *const i8, codes: *const u8, to: *mut Sums) {
            for m in 0..tokens {
                for row in 0..ROWS {
                    let product = |i: usize| {
                        // SAFETY: the trait's contract: lines of codes, and rows of activations.
                        let (q, code) =
                            unsafe { (*q.add(m * BLOCK + i), *codes.add(i / 4 * LINE + 4 * row + i % 4)) };
                        i32::from(q) * i32::from(code)
                    };
                    // SAFETY: as above.
                    unsafe { (*to).0[m][row] = (0..values).map(product).sum() };
                }
            }
        }

        unsafe fn release() {}
    }

    /// Everything but the instructions themselves: those run where [`Level::Amx`] is available, in the tests of all levels.
    #[test]
    fn tiles_give_the_bits_of_vectors() {
        if !Level::Avx512.is_available() {
            eprintln!("skipped: this processor lacks avx512");
            return;
        }
        let formats = [
            (4_u8, Scales::Symmetric { zero: 8, float: Float::F16 }),
            (8, Scales::Symmetric { zero: 128, float: Float::F16 }),
            (4, Scales::MinPer32),
            (4, Scales::Affine { group: 64, float: Float::F16 }),
            (6, Scales::SignedPer16 { zero: 32 }),
            (8, Scales::WidePer16 { twice_zero: 256 }),
        ];
        for (bits, scales) in formats {
            for tokens in [8, 16, 17, 35] {
                let (k, first, len) = (768, 256, 512);
                let x = normal(u64::from(bits) + tokens as u64, tokens * k);
                let (mut codes, mut meta) = (vec![0; x.len()], vec![0.0; x.len() / BLOCK * META]);
                quantize(Level::Avx512, &x, &mut codes, &mut meta);
                let most = ((1_u32 << bits) - 1) as u8;
                let bytes: Vec<u8> =
                    (0..2 * len * ROWS).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 13) as u8 & most).collect();
                let expanded = normal(7, 2 * Layout::Spans.len(scales, len));
                let found = [Level::Avx512, Level::Amx].map(|level| {
                    let mut room = vec![f32::NAN; Packed::len(scales, tokens, k)];
                    let input = Packed::new(level, scales, (&codes, &meta), tokens, &mut room);
                    let mut acc = vec![1.0; 2 * tokens * ROWS];
                    let mut chunk = Chunk { bytes: &bytes, scales: &expanded, first, len, acc: &mut acc };
                    if level == Level::Amx {
                        // SAFETY: the level that it needs is available, and the lengths are right.
                        unsafe { run::<Emulated>(scales, &mut chunk, input) }
                    } else {
                        super::super::run(level, bits, scales, &mut chunk, input);
                    }
                    acc.into_iter().map(f32::to_bits).collect::<Vec<_>>()
                });
                assert!(found[0] == found[1], "{bits} bits, {scales:?}, {tokens} tokens");
            }
        }
    }
}
