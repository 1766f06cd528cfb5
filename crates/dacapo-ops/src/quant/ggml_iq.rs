//! GGML's formats whose codes stand for values of a table or a codebook, and its ternary ones.
//!
//! [`values`] is what a block's codes stand for, whole numbers, 32 at a time; [`scale`] what a step of them is multiplied with.

use half::f16;

use super::codebooks::{IQ2_S, IQ2_VALUES, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS, IQ3_XXS_VALUES};
use super::{Ggml, f16_at};

/// What a code of IQ4_NL and IQ4_XS stands for.
pub(super) const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// What a 4-bit float with two exponent bits stands for, twice over.
pub(super) const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Signs of eight values from seven bits: the eighth makes the number of negative ones even.
fn even_signs(bits: u32) -> u8 {
    let bits = bits as u8 & 127;
    bits | (bits.count_ones() as u8 & 1) << 7
}

/// Writes eight values of an IQ2 book.
fn put_iq2(entry: u16, signs: u8, out: &mut [i8]) {
    for (i, out) in out.iter_mut().enumerate() {
        let value = IQ2_VALUES[usize::from(entry >> (2 * i) & 3)] as i8;
        *out = if signs >> i & 1 == 1 { -value } else { value };
    }
}

/// Writes four values of an IQ3 book; `value` gives a place's magnitude.
fn put_iq3(entry: u16, signs: u8, out: &mut [i8], value: impl Fn(usize) -> u8) {
    for (i, out) in out.iter_mut().enumerate() {
        let value = value(usize::from(entry >> (4 * i) & 15)) as i8;
        *out = if signs >> i & 1 == 1 { -value } else { value };
    }
}

/// Both halves of 16 bytes through a table.
fn through(table: &[i8; 16], bytes: &[u8]) -> [i8; 32] {
    std::array::from_fn(|i| table[usize::from(bytes[i % 16] >> (4 * (i / 16)) & 15)])
}

/// A ternary digit: the `place`-th, from the highest, of the five in a byte, which is a fraction of 256.
fn digit(byte: u8, place: u32) -> i8 {
    let rest = byte.wrapping_mul(3u8.pow(place));
    ((u16::from(rest) * 3) >> 8) as i8 - 1
}

/// Ternary value `i` of TQ1_0: five in each of 48 bytes, those of the first 32 bytes 32 apart and of the others 16, then
/// four in each of four bytes.
fn ternary(block: &[u8], i: usize) -> i8 {
    match i {
        0..160 => digit(block[i % 32], (i / 32) as u32),
        160..240 => digit(block[32 + i % 16], ((i - 160) / 16) as u32),
        _ => digit(block[48 + i % 4], ((i - 240) / 4) as u32),
    }
}

/// Values `32 j ..` of a block, without their scale; nothing but zeros for the formats of other modules.
pub(super) fn values(format: Ggml, block: &[u8], j: usize) -> [i8; 32] {
    let mut out = [0; 32];
    match format {
        Ggml::IQ4_NL => return through(&IQ4, &block[2..18]),
        Ggml::IQ4_XS => return through(&IQ4, &block[8 + 16 * j..]),
        Ggml::MXFP4 => return through(&E2M1, &block[1..17]),
        Ggml::TQ1_0 => return std::array::from_fn(|i| ternary(block, 32 * j + i)),
        Ggml::TQ2_0 => {
            let bytes = &block[32 * (j / 4)..];
            return std::array::from_fn(|i| (bytes[i] >> (2 * (j % 4)) & 3) as i8 - 1);
        }
        Ggml::IQ2_XXS => {
            let signs = u32_at(block, 6 + 8 * j);
            for (l, out) in out.chunks_exact_mut(8).enumerate() {
                put_iq2(IQ2_XXS[usize::from(block[2 + 8 * j + l])], even_signs(signs >> (7 * l)), out);
            }
        }
        Ggml::IQ2_XS => {
            for (l, out) in out.chunks_exact_mut(8).enumerate() {
                let code = u16_at(block, 2 + 8 * j + 2 * l);
                put_iq2(IQ2_XS[code & 511], even_signs(code as u32 >> 9), out);
            }
        }
        Ggml::IQ2_S => {
            for (l, out) in out.chunks_exact_mut(8).enumerate() {
                let high = usize::from(block[66 + j] >> (2 * l) & 3) << 8;
                put_iq2(IQ2_S[usize::from(block[2 + 4 * j + l]) | high], block[34 + 4 * j + l], out);
            }
        }
        Ggml::IQ3_XXS => {
            let signs = u32_at(block, 66 + 4 * j);
            for (l, out) in out.chunks_exact_mut(4).enumerate() {
                let signs = even_signs(signs >> (7 * (l / 2))) >> (4 * (l % 2));
                let entry = IQ3_XXS[usize::from(block[2 + 8 * j + l])];
                put_iq3(entry, signs, out, |place| IQ3_XXS_VALUES[place & 7]);
            }
        }
        Ggml::IQ3_S => {
            for (l, out) in out.chunks_exact_mut(4).enumerate() {
                let high = usize::from(block[66 + j] >> l & 1) << 8;
                let signs = block[74 + 4 * j + l / 2] >> (4 * (l % 2));
                let entry = IQ3_S[usize::from(block[2 + 8 * j + l]) | high];
                put_iq3(entry, signs, out, |place| 2 * place as u8 + 1);
            }
        }
        _ => {}
    }
    out
}

/// The small whole scale of values `16 i ..` of a super-block.
pub(super) fn small_scale(format: Ggml, block: &[u8], i: usize) -> i8 {
    let j = i / 2;
    let nibble = |byte: u8, high: bool| if high { byte >> 4 } else { byte & 15 };
    let odd = |code: u8| (2 * code + 1) as i8;
    match format {
        Ggml::IQ2_XXS => odd(block[9 + 8 * j] >> 4),
        Ggml::IQ2_XS => odd(nibble(block[66 + j], i % 2 == 1)),
        Ggml::IQ2_S => odd(nibble(block[74 + j], i % 2 == 1)),
        Ggml::IQ3_XXS => odd(block[69 + 4 * j] >> 4),
        Ggml::IQ3_S => odd(nibble(block[106 + j / 2], j % 2 == 1)),
        Ggml::IQ4_XS => {
            let low = nibble(block[4 + j / 2], j % 2 == 1);
            let high = u16_at(block, 2) >> (2 * j) & 3;
            (low | (high as u8) << 4) as i8 - 32
        }
        _ => 1,
    }
}

/// What small scales are multiplied with: the block's own scale, and the fraction that the format's definition puts into it.
pub(super) fn scale(format: Ggml, block: &[u8]) -> f32 {
    match format {
        Ggml::IQ2_XXS | Ggml::IQ2_XS | Ggml::IQ2_S => f16_at(block, 0) * 0.125,
        Ggml::IQ3_XXS => f16_at(block, 0) * 0.25,
        Ggml::TQ1_0 => f16_at(block, 52),
        Ggml::TQ2_0 => f16_at(block, 64),
        Ggml::MXFP4 => power(block[0]) * 0.5,
        _ => f16_at(block, 0),
    }
}

/// 2^(byte - 127), the scale of the microscaling formats; NaN for 255.
pub(super) fn power(byte: u8) -> f32 {
    match byte {
        255 => f32::NAN,
        0 => f32::from_bits(1 << 22),
        exponent => f32::from_bits(u32::from(exponent) << 23),
    }
}

/// One block of MXFP4 as ggml's reference makes it: the largest value is at most 6 times the scale, or cut to that, and each of
/// the others becomes the nearest there is. What 4-bit floats stand for already becomes the same again.
pub(super) fn mxfp4(x: &[f32], out: &mut Vec<u8>) {
    let most = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let exponent = if most > 0.0 { most.log2().floor() as i32 - 2 + 127 } else { 0 };
    let byte = exponent.clamp(0, 254) as u8;
    let step = power(byte) * 0.5;
    let nearest = |v: f32| {
        let errors = E2M1.iter().map(|&code| (f32::from(code) * step - v).abs());
        errors.enumerate().fold((0, f32::INFINITY), |best, next| if next.1 < best.1 { next } else { best }).0
            as u8
    };
    out.push(byte);
    let (low, high) = x.split_at(x.len() / 2);
    out.extend(low.iter().zip(high).map(|(&low, &high)| nearest(low) | nearest(high) << 4));
}

/// An 8-bit float with four exponent bits, no infinities, and two NaNs.
pub(super) fn e4m3(byte: u8) -> f32 {
    let sign = if byte >> 7 == 1 { -1.0 } else { 1.0 };
    let (exponent, mantissa) = (byte >> 3 & 15, f32::from(byte & 7));
    match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => sign * mantissa / 512.0,
        // An f16 has five exponent bits, around 15.
        _ => sign * f16::from_bits((u16::from(exponent) + 8) << 10).to_f32() * (1.0 + mantissa / 8.0),
    }
}

/// The values of a block: value times small scale times scale.
pub(super) fn dequantize(format: Ggml, block: &[u8], out: &mut [f32]) {
    let scale = scale(format, block);
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        for (i, (out, value)) in out.iter_mut().zip(values(format, block, j)).enumerate() {
            let small = f32::from(small_scale(format, block, 2 * j + i / 16));
            *out = scale * small * f32::from(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_are_those_of_their_definitions() {
        assert_eq!(
            [0, 1, 126, 127, 128, 254].map(power),
            [f32::MIN_POSITIVE / 2.0, f32::MIN_POSITIVE, 0.5, 1.0, 2.0, 2f32.powi(127)]
        );
        assert!(power(255).is_nan());
        assert_eq!(
            [0x00, 0x01, 0x08, 0x38, 0x3c, 0x7e, 0xb8].map(e4m3),
            [0.0, 2f32.powi(-9), 2f32.powi(-6), 1.0, 1.5, 448.0, -1.0]
        );
        assert!(e4m3(0x7f).is_nan() && e4m3(0xff).is_nan());
    }

    #[test]
    fn signs_are_even_in_number() {
        assert!((0..128).all(|bits| even_signs(bits).count_ones().is_multiple_of(2)));
        assert_eq!(even_signs(1), 0x81);
    }
}
