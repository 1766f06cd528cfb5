//! Codes of a panel as bytes, and what the loops over them share.
//!
//! A loop takes one panel or two, a range of k (a *chunk*) and some tokens, and adds to one accumulator for each token and
//! row. With `s` and `b` the scale and the bias of some values and `a` their activations it computes
//!
//! - [exact](super::exact), for every step of 16 or 32 values: `acc = fma(s, sum(code * a), acc)`, then
//!   `acc = fma(b, sum(a), acc)`, the sums in f32 along k;
//! - int8, for [one](super::one) token and for [many](super::many): `acc = fma(dot * scale_a, s, acc)` for every step, `dot` an
//!   exact integer. Where a code stands for zero, `dot` is of `code - zero`, and that is all. Otherwise, after every span, which is
//!   all the values that share `b`: `acc = fma(b, sum(scale_a * sum(code_a)), acc)`.
//!
//! The order depends on k alone, so neither chunks nor tokens side by side nor the vector width change a bit.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.

use super::vector::{Vector, for_levels};
use crate::quant::panel::{BLOCK, ROWS};
use crate::simd::Level;

/// f32 values that describe a block of 32 quantized activations: see [`super::super::quantize`].
pub const META: usize = 4;

/// Bytes of a block of a panel's codes as bytes: see [`unpack_panel`].
pub const BLOCK_BYTES: usize = ROWS * BLOCK;

/// Repeats a block for sub-steps 0 to 7, the number being a constant in each.
macro_rules! substeps {
    ($j:ident => $body:block) => {
        $crate::ops::matmul::codes::substeps!(@each $j $body 0 1 2 3 4 5 6 7)
    };
    (@each $j:ident $body:block $($n:literal)*) => {
        $({
            const $j: usize = $n;
            $body
        })*
    };
}
pub(super) use substeps;

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
///
/// # Safety
/// That of [`Vector`]; `block` points to a block's codes, from the first of `V`'s rows on.
#[inline(always)]
pub(super) unsafe fn unpack<V: Vector, const BITS: usize>(block: *const u8, j: usize) -> V::Word {
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

#[inline(always)]
unsafe fn unpack_blocks<V: Vector, const BITS: usize>(codes: &[u8], bytes: &mut [u8]) {
    for (block, bytes) in codes.chunks_exact(64 * BITS).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
        for lane in (0..ROWS).step_by(V::LANES) {
            let (block, bytes) = (block.as_ptr().add(4 * lane), bytes.as_mut_ptr().add(4 * lane));
            substeps!(J => {
                V::store_words(bytes.add(64 * J), unpack::<V, BITS>(block, J));
            });
        }
    }
}

for_levels! {
    /// # Safety
    /// The level must be available.
    unsafe fn unpacked<const BITS: usize>(codes: &[u8], bytes: &mut [u8]) = unpack_blocks;
}

/// Codes of `bits` bits as bytes, in blocks of [`BLOCK_BYTES`]: eight lines, each with four values of each row. What does not fit
/// into `bytes` is left out. Panics if the processor lacks the level.
pub fn unpack_panel(level: Level, bits: u8, codes: &[u8], bytes: &mut [u8]) {
    assert!(level.is_available(), "{} is not available here", level.name());
    // SAFETY: the level is available; only whole blocks are read and written.
    unsafe {
        match bits {
            2 => unpacked::<2>(level, codes, bytes),
            3 => unpacked::<3>(level, codes, bytes),
            4 => unpacked::<4>(level, codes, bytes),
            5 => unpacked::<5>(level, codes, bytes),
            6 => unpacked::<6>(level, codes, bytes),
            8 => unpacked::<8>(level, codes, bytes),
            bits => unreachable!("no format has codes of {bits} bits"),
        }
    }
}

/// What the codes of a block of activations add up to; `scaled` is that times the block's scale. Exact, but where `scaled` is more
/// than an f32 can be.
#[inline(always)]
pub(super) fn code_sum(scale: f32, scaled: f32) -> i32 {
    // Neither a block of zeros nor one that is not finite has codes.
    if scale > 0.0 {
        const MOST: f32 = 127.0 * BLOCK as f32;
        // A sum near 1.5 * 2^23 has no room for a fraction.
        ((scaled / scale).clamp(-MOST, MOST) + 12_582_912.0).to_bits() as i32 - 0x4b40_0000
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::quantize::cpu::quantize;
    use crate::testing::normal;

    #[test]
    fn sums_of_codes_come_back_whole() {
        let mut x = normal(3, 4096);
        // Codes of one sign, and of the smallest and largest scales.
        x[..32].fill(-8e34);
        x[32..64].fill(2e-35);
        x[64..96].fill(0.0);
        x[96] = f32::NAN;
        let (mut codes, mut meta) = (vec![0; x.len()], vec![0.0; x.len() / BLOCK * META]);
        quantize(Level::Scalar, &x, &mut codes, &mut meta);
        for (codes, meta) in codes.chunks_exact(BLOCK).zip(meta.chunks_exact(META)) {
            let sum = |codes: &[i8]| codes.iter().map(|&c| i32::from(c)).sum::<i32>();
            assert_eq!(code_sum(meta[0], meta[1]), sum(codes));
            assert_eq!(code_sum(meta[0], meta[2]), sum(&codes[..16]));
            assert_eq!(code_sum(meta[0], meta[3]), sum(&codes[16..]));
        }
    }
}
