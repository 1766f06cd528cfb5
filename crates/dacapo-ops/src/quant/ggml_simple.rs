//! GGML's formats with blocks of 32: one f16 scale `d`, and in the `_1` variants an f16 minimum `m`.
//!
//! 4-bit codes: byte `j` of 16 holds value `j` in its low and value `j + 16` in its high half. The fifth bits of
//! the 5-bit formats are a little-endian u32, bit `j` for value `j`.

use half::f16;

use super::f16_at;

/// Values `i` and `i + 16` come from byte `i` of `nibbles`; `value(i, low 4 bits)` turns a code into a value.
fn each_nibble(nibbles: &[u8], out: &mut [f32], value: impl Fn(usize, u8) -> f32) {
    for j in 0..16 {
        out[j] = value(j, nibbles[j] & 15);
        out[j + 16] = value(j + 16, nibbles[j] >> 4);
    }
}

fn high_bits(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// `d * (q - 8)`; bytes: d, 16 of codes.
pub fn dequantize_q4_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    each_nibble(&block[2..18], out, |_, q| d * (q as f32 - 8.0));
}

/// `d * q + m`; bytes: d, m, 16 of codes.
pub fn dequantize_q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    each_nibble(&block[4..20], out, |_, q| d * q as f32 + m);
}

/// `d * (q - 16)`; bytes: d, 4 of fifth bits, 16 of low bits.
pub fn dequantize_q5_0(block: &[u8], out: &mut [f32]) {
    let (d, high) = (f16_at(block, 0), high_bits(&block[2..6]));
    each_nibble(&block[6..22], out, |i, q| d * ((q as u32 | (((high >> i) & 1) << 4)) as f32 - 16.0));
}

/// `d * q + m`; bytes: d, m, 4 of fifth bits, 16 of low bits.
pub fn dequantize_q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m, high) = (f16_at(block, 0), f16_at(block, 2), high_bits(&block[4..8]));
    each_nibble(&block[8..24], out, |i, q| d * (q as u32 | (((high >> i) & 1) << 4)) as f32 + m);
}

/// `d * q` with signed q; bytes: d, 32 of codes.
pub fn dequantize_q8_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 0);
    for (out, &q) in out.iter_mut().zip(&block[2..34]) {
        *out = d * (q as i8) as f32;
    }
}

/// The reciprocal of a scale, or 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The first value of largest magnitude.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &v| if v.abs() > most.abs() { v } else { most })
}

/// `v * inverse + offset` cut to a whole number, the sum rounded once, as with ggml's fused arithmetic.
fn cut(v: f32, inverse: f32, offset: f32) -> u8 {
    (f64::from(v) * f64::from(inverse) + f64::from(offset)) as f32 as u8
}

/// Codes for the values and for those 16 later, in one byte.
fn push_nibbles(codes: &[u8; 32], out: &mut Vec<u8>) {
    out.extend((0..16).map(|j| (codes[j] & 15) | (codes[j + 16] << 4)));
}

/// The fifth bits of codes.
fn push_fifth_bits(codes: &[u8; 32], out: &mut Vec<u8>) {
    let high = (0..32).fold(0u32, |bits, j| bits | u32::from(codes[j] >> 4) << j);
    out.extend_from_slice(&high.to_le_bytes());
}

fn push_half(value: f32, out: &mut Vec<u8>) {
    out.extend_from_slice(&f16::from_f32(value).to_le_bytes());
}

/// One block of Q4_0 as ggml's reference makes it: the value of largest magnitude becomes code 0, that is, -8.
pub(super) fn q4_0(x: &[f32], out: &mut Vec<u8>) {
    let d = extreme(x) / -8.0;
    let inverse = inverse(d);
    push_half(d, out);
    push_nibbles(&std::array::from_fn(|i| cut(x[i], inverse, 8.5).min(15)), out);
}

/// One block of Q5_0, as [`q4_0`].
pub(super) fn q5_0(x: &[f32], out: &mut Vec<u8>) {
    let d = extreme(x) / -16.0;
    let inverse = inverse(d);
    let codes = std::array::from_fn(|i| cut(x[i], inverse, 16.5).min(31));
    push_half(d, out);
    push_fifth_bits(&codes, out);
    push_nibbles(&codes, out);
}

/// Scale, minimum and codes `0 ..= most` of a block with a minimum.
fn with_min(x: &[f32], most: u8, out: &mut Vec<u8>) -> [u8; 32] {
    let min = x.iter().copied().fold(f32::MAX, f32::min);
    let max = x.iter().copied().fold(f32::MIN, f32::max);
    let d = (max - min) / f32::from(most);
    let inverse = inverse(d);
    push_half(d, out);
    push_half(min, out);
    std::array::from_fn(|i| (((x[i] - min) * inverse + 0.5) as u8).min(most))
}

/// One block of Q4_1 as ggml's reference makes it.
pub(super) fn q4_1(x: &[f32], out: &mut Vec<u8>) {
    let codes = with_min(x, 15, out);
    push_nibbles(&codes, out);
}

/// One block of Q5_1 as ggml's reference makes it.
pub(super) fn q5_1(x: &[f32], out: &mut Vec<u8>) {
    let codes = with_min(x, 31, out);
    push_fifth_bits(&codes, out);
    push_nibbles(&codes, out);
}

/// One block of Q8_0 as ggml's reference makes it: halves away from zero.
pub(super) fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let d = x.iter().fold(0.0f32, |a, v| a.max(v.abs())) / 127.0;
    let inverse = inverse(d);
    push_half(d, out);
    out.extend(x.iter().map(|v| (v * inverse).round() as i8 as u8));
}
