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

/// Quantizes to Q4_0 as ggml's reference does, bit for bit: the value of largest magnitude becomes code 0, that
/// is, -8. `w.len()` must be a multiple of 32.
pub fn quantize_q4_0(w: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(w.len() / 32 * 18);
    for values in w.chunks_exact(32) {
        let mut extreme = 0.0f32;
        for &v in values {
            if v.abs() > extreme.abs() {
                extreme = v;
            }
        }
        let d = extreme / -8.0;
        let inverse = inverse(d);
        let code = |v: f32| ((v * inverse + 8.5) as u8).min(15);
        out.extend_from_slice(&f16::from_f32(d).to_le_bytes());
        out.extend((0..16).map(|j| code(values[j]) | (code(values[j + 16]) << 4)));
    }
    out
}

/// Quantizes to Q8_0 as ggml's reference does, bit for bit (halves away from zero). `w.len()` must be a multiple
/// of 32.
pub fn quantize_q8_0(w: &[f32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(w.len() / 32 * 34);
    for values in w.chunks_exact(32) {
        let d = values.iter().fold(0.0f32, |a, v| a.max(v.abs())) / 127.0;
        let inverse = inverse(d);
        out.extend_from_slice(&f16::from_f32(d).to_le_bytes());
        out.extend(values.iter().map(|v| (v * inverse).round() as i8 as u8));
    }
    out
}
