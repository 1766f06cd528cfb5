//! Codes of the source formats, 32 at a time, for repacking.

use super::ggml_k::{scale_min_k4, scale_q3_k};
use super::{Ggml, ggml_iq};

/// How to find codes in a row's bytes. Codes are numbered as in the panels, unsigned.
pub(super) trait Codes {
    /// Bytes that hold `LEN` codes.
    const BYTES: usize;
    /// Values in that many bytes: 32 or 256.
    const LEN: usize;
    /// Bits of a code in the panels.
    const BITS: usize;
    /// Codes `32 j ..` of these bytes, four to a word, one in each of its bytes, the first in the lowest.
    fn words(block: &[u8], j: usize) -> [u32; 8];
}

/// Codes as words.
#[inline(always)]
fn words_of(codes: [u8; 32]) -> [u32; 8] {
    read_words(&codes)
}

/// The first `4 N` bytes as words.
#[inline(always)]
fn read_words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (bytes, _) = bytes[..4 * N].as_chunks::<4>();
    std::array::from_fn(|i| u32::from_le_bytes(bytes[i]))
}

/// The same in each byte of a word.
const fn each(byte: u8) -> u32 {
    byte as u32 * 0x0101_0101
}

/// MLX affine codes.
pub(super) struct Affine<const BITS: usize>;

impl<const BITS: usize> Codes for Affine<BITS> {
    const BYTES: usize = 4 * BITS;
    const LEN: usize = 32;
    const BITS: usize = BITS;

    #[inline(always)]
    fn words(block: &[u8], _: usize) -> [u32; 8] {
        match BITS {
            4 => {
                let pairs: [u32; 4] = read_words(block);
                std::array::from_fn(|i| {
                    let half = pairs[i / 2] >> (16 * (i % 2)) & 0xffff;
                    let apart = (half | half << 8) & 0x00ff_00ff;
                    (apart | apart << 4) & each(15)
                })
            }
            8 => read_words(block),
            _ => {
                let mut out = [0; 32];
                for (out, bytes) in out.chunks_exact_mut(8).zip(block[..4 * BITS].chunks_exact(BITS)) {
                    let mut word = [0; 8];
                    word[..BITS].copy_from_slice(bytes);
                    let word = u64::from_le_bytes(word);
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = (word >> (i * BITS)) as u8 & ((1u16 << BITS) - 1) as u8;
                    }
                }
                words_of(out)
            }
        }
    }
}

/// Low four bits of the formats with blocks of 32.
#[inline(always)]
fn nibbles(bytes: &[u8]) -> [u32; 8] {
    let bytes: [u32; 4] = read_words(bytes);
    std::array::from_fn(|i| bytes[i % 4] >> (4 * (i / 4)) & each(15))
}

/// Adds the fifth bits of the formats with blocks of 32.
#[inline(always)]
fn add_fifth_bits(words: [u32; 8], bytes: &[u8]) -> [u32; 8] {
    let [high]: [u32; 1] = read_words(bytes);
    // Four bits, each copied 7 places on three times, so that bit i comes to stand in byte i.
    std::array::from_fn(|i| words[i] | ((high >> (4 * i) & 15).wrapping_mul(0x0020_4081) & each(1)) << 4)
}

macro_rules! simple {
    ($name:ident, $bytes:literal, $bits:literal, $block:ident => $words:expr) => {
        pub(super) struct $name;
        impl Codes for $name {
            const BYTES: usize = $bytes;
            const LEN: usize = 32;
            const BITS: usize = $bits;
            #[inline(always)]
            fn words($block: &[u8], _: usize) -> [u32; 8] {
                $words
            }
        }
    };
}
simple!(Q4_0, 18, 4, block => nibbles(&block[2..18]));
simple!(Q4_1, 20, 4, block => nibbles(&block[4..20]));
simple!(Q5_0, 22, 5, block => add_fifth_bits(nibbles(&block[6..22]), &block[2..6]));
simple!(Q5_1, 24, 5, block => add_fifth_bits(nibbles(&block[8..24]), &block[4..8]));
simple!(Q8_0, 34, 8, block => read_words(&block[2..34]).map(|word| word ^ each(0x80)));

/// Thirty-two consecutive bytes, shifted right and masked.
#[inline(always)]
fn bits_of(bytes: &[u8], shift: usize, mask: u8) -> [u32; 8] {
    read_words(bytes).map(|word| word >> shift & each(mask))
}

/// `low | high << shift`.
#[inline(always)]
fn join(low: [u32; 8], high: [u32; 8], shift: usize) -> [u32; 8] {
    std::array::from_fn(|i| low[i] | (high[i] << shift))
}

macro_rules! super_block {
    ($name:ident, $bytes:literal, $bits:literal, ($block:ident, $j:ident) => $words:expr) => {
        #[allow(non_camel_case_types)]
        pub(super) struct $name;
        impl Codes for $name {
            const BYTES: usize = $bytes;
            const LEN: usize = 256;
            const BITS: usize = $bits;
            #[inline(always)]
            fn words($block: &[u8], $j: usize) -> [u32; 8] {
                $words
            }
        }
    };
}
super_block!(Q2_K, 84, 2, (block, j) => bits_of(&block[16 + 32 * (j / 4)..], 2 * (j % 4), 3));
super_block!(Q3_K, 110, 3, (block, j) => {
    join(bits_of(&block[32 + 32 * (j / 4)..], 2 * (j % 4), 3), bits_of(block, j, 1), 2)
});
super_block!(Q4_K, 144, 4, (block, j) => bits_of(&block[16 + 32 * (j / 2)..], 4 * (j % 2), 15));
super_block!(Q5_K, 176, 5, (block, j) => {
    join(bits_of(&block[48 + 32 * (j / 2)..], 4 * (j % 2), 15), bits_of(&block[16..], j, 1), 4)
});
super_block!(Q6_K, 210, 6, (block, j) => {
    let low = bits_of(&block[64 * (j / 4) + 32 * (j % 2)..], 4 * (j / 2 % 2), 15);
    join(low, bits_of(&block[128 + 32 * (j / 4)..], 2 * (j % 4), 3), 4)
});

/// The values of a [`ggml_iq`] format as codes without a sign.
macro_rules! table {
    ($name:ident, $bytes:literal, $len:literal, $bits:literal, $value:ident => $code:expr) => {
        #[allow(non_camel_case_types)]
        pub(super) struct $name;
        impl Codes for $name {
            const BYTES: usize = $bytes;
            const LEN: usize = $len;
            const BITS: usize = $bits;
            #[inline(always)]
            fn words(block: &[u8], j: usize) -> [u32; 8] {
                words_of(ggml_iq::values(Ggml::$name, block, j).map(|$value| $code))
            }
        }
    };
}
table!(IQ2_XXS, 66, 256, 8, v => v as u8 ^ 0x80);
table!(IQ2_XS, 74, 256, 8, v => v as u8 ^ 0x80);
table!(IQ2_S, 82, 256, 8, v => v as u8 ^ 0x80);
table!(IQ3_XXS, 98, 256, 8, v => v as u8 ^ 0x80);
table!(IQ3_S, 110, 256, 4, v => ((v + 15) / 2) as u8);
table!(IQ4_NL, 18, 32, 8, v => v as u8 ^ 0x80);
table!(IQ4_XS, 136, 256, 8, v => v as u8 ^ 0x80);
table!(TQ1_0, 54, 256, 2, v => (v + 1) as u8);
table!(TQ2_0, 66, 256, 2, v => (v + 1) as u8);
table!(MXFP4, 17, 32, 5, v => (v + 16) as u8);

/// 4-bit floats one after the other.
pub(super) struct E2M1;

impl Codes for E2M1 {
    const BYTES: usize = 16;
    const LEN: usize = 32;
    const BITS: usize = 5;

    #[inline(always)]
    fn words(block: &[u8], _: usize) -> [u32; 8] {
        let code = |i: usize| usize::from(block[i / 2] >> (4 * (i % 2)) & 15);
        words_of(std::array::from_fn(|i| (ggml_iq::E2M1[code(i)] + 16) as u8))
    }
}

/// Small integer scale and minimum (0 where there is none) of step `i` of a K-format super-block.
pub(super) fn small_scales(format: Ggml, block: &[u8], i: usize) -> (u8, u8) {
    match format {
        Ggml::Q2_K => (block[i], 0),
        Ggml::Q3_K => (scale_q3_k(&block[96..108], i) as u8, 0),
        Ggml::Q6_K => (block[192 + i], 0),
        Ggml::Q4_K | Ggml::Q5_K => scale_min_k4(&block[4..16], i),
        iq => (ggml_iq::small_scale(iq, block, i) as u8, 0),
    }
}

/// Byte offsets of a GGML block's f16 fields: the scale, and the minimum where there is one. MXFP4 has neither.
pub(super) const fn float_fields(format: Ggml) -> (usize, Option<usize>) {
    match format {
        Ggml::TQ1_0 => (52, None),
        Ggml::TQ2_0 => (64, None),
        Ggml::Q4_0 | Ggml::Q5_0 | Ggml::Q8_0 => (0, None),
        Ggml::Q4_1 | Ggml::Q5_1 | Ggml::Q4_K | Ggml::Q5_K => (0, Some(2)),
        Ggml::Q2_K => (80, Some(82)),
        Ggml::Q3_K => (108, None),
        Ggml::Q6_K => (208, None),
        _ => (0, None),
    }
}

/// Runs `$run::<C>($args)` with the code reader `C` of a quantized format; nothing for a dense or invalid one.
macro_rules! with_codes {
    ($format:expr, $run:ident($($args:expr),*)) => {
        match $format {
            Format::Affine { bits: 2, .. } => $run::<unpack::Affine<2>>($($args),*),
            Format::Affine { bits: 3, .. } => $run::<unpack::Affine<3>>($($args),*),
            Format::Affine { bits: 4, .. } => $run::<unpack::Affine<4>>($($args),*),
            Format::Affine { bits: 5, .. } => $run::<unpack::Affine<5>>($($args),*),
            Format::Affine { bits: 6, .. } => $run::<unpack::Affine<6>>($($args),*),
            Format::Affine { bits: 8, .. } => $run::<unpack::Affine<8>>($($args),*),
            Format::Affine { .. } | Format::Dense(_) | Format::Fp(Fp::MxFp8) | Format::Fp8 { .. } => {}
            Format::Fp(Fp::MxFp4 | Fp::NvFp4) => $run::<unpack::E2M1>($($args),*),
            Format::Ggml(Ggml::IQ2_XXS) => $run::<unpack::IQ2_XXS>($($args),*),
            Format::Ggml(Ggml::IQ2_XS) => $run::<unpack::IQ2_XS>($($args),*),
            Format::Ggml(Ggml::IQ2_S) => $run::<unpack::IQ2_S>($($args),*),
            Format::Ggml(Ggml::IQ3_XXS) => $run::<unpack::IQ3_XXS>($($args),*),
            Format::Ggml(Ggml::IQ3_S) => $run::<unpack::IQ3_S>($($args),*),
            Format::Ggml(Ggml::IQ4_NL) => $run::<unpack::IQ4_NL>($($args),*),
            Format::Ggml(Ggml::IQ4_XS) => $run::<unpack::IQ4_XS>($($args),*),
            Format::Ggml(Ggml::TQ1_0) => $run::<unpack::TQ1_0>($($args),*),
            Format::Ggml(Ggml::TQ2_0) => $run::<unpack::TQ2_0>($($args),*),
            Format::Ggml(Ggml::MXFP4) => $run::<unpack::MXFP4>($($args),*),
            Format::Ggml(Ggml::Q4_0) => $run::<unpack::Q4_0>($($args),*),
            Format::Ggml(Ggml::Q4_1) => $run::<unpack::Q4_1>($($args),*),
            Format::Ggml(Ggml::Q5_0) => $run::<unpack::Q5_0>($($args),*),
            Format::Ggml(Ggml::Q5_1) => $run::<unpack::Q5_1>($($args),*),
            Format::Ggml(Ggml::Q8_0) => $run::<unpack::Q8_0>($($args),*),
            Format::Ggml(Ggml::Q2_K) => $run::<unpack::Q2_K>($($args),*),
            Format::Ggml(Ggml::Q3_K) => $run::<unpack::Q3_K>($($args),*),
            Format::Ggml(Ggml::Q4_K) => $run::<unpack::Q4_K>($($args),*),
            Format::Ggml(Ggml::Q5_K) => $run::<unpack::Q5_K>($($args),*),
            Format::Ggml(Ggml::Q6_K) => $run::<unpack::Q6_K>($($args),*),
        }
    };
}
pub(super) use with_codes;
