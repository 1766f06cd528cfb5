//! GGML's K formats: super-blocks of 256 whose f16 scale `d` (and `dmin`) multiplies small integer scales, one
//! for each 16 or 32 values.

use super::f16_at;

/// Scale and minimum number `j` of 8, six bits each in 12 bytes (Q4_K, Q5_K): the first four lie in the low six
/// bits of bytes `j` and `j + 4`; of the others, the low four bits are in byte `j + 4` and the upper two are the
/// upper bits of the first eight bytes.
pub(crate) fn scale_min_k4(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        ((s[j + 4] & 15) | ((s[j - 4] >> 6) << 4), (s[j + 4] >> 4) | ((s[j] >> 6) << 4))
    }
}

/// Scale number `j` of 16, six bits each in 12 bytes (Q3_K), less 32: low four bits in the halves of bytes 0 to 7,
/// upper two bits in the quarters of bytes 8 to 11.
pub(crate) fn scale_q3_k(s: &[u8], j: usize) -> i8 {
    let low = (s[j % 8] >> (4 * (j / 8))) & 15;
    let high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
    (low | (high << 4)) as i8 - 32
}

/// `d * sc * q - dmin * m`, 2-bit q, scale and minimum for each 16; bytes: 16 of (sc | m << 4), 64 of codes, d, dmin.
/// Code byte `32 n + l` holds the values `128 n + 32 j + l` at bits `2 j`.
pub fn dequantize_q2_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 80), f16_at(block, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let scale = block[i / 16];
        let (n, j, l) = (i / 128, i / 32 % 4, i % 32);
        let q = (block[16 + 32 * n + l] >> (2 * j)) & 3;
        *out = d * (scale & 15) as f32 * q as f32 - dmin * (scale >> 4) as f32;
    }
}

/// `d * sc * (q - 4)`, 3-bit q, signed scale for each 16; bytes: 32 of third bits, 64 of low bits as in Q2_K, 12 of
/// scales, d. The third bit of value `i` is bit `i / 32` of byte `i % 32`.
pub fn dequantize_q3_k(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 108);
    for (i, out) in out.iter_mut().enumerate() {
        let (n, j, l) = (i / 128, i / 32 % 4, i % 32);
        let low = (block[32 + 32 * n + l] >> (2 * j)) & 3;
        let high = (block[l] >> (i / 32)) & 1;
        let scale = d * scale_q3_k(&block[96..108], i / 16) as f32;
        *out = scale * ((low | (high << 2)) as f32 - 4.0);
    }
}

/// `d * sc * q - dmin * m`, 4-bit q, scale and minimum for each 32; bytes: d, dmin, 12 of scales, 128 of codes. Code
/// byte `32 n + l` holds values `64 n + l` (low half) and `64 n + 32 + l`.
pub fn dequantize_q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, min) = scale_min_k4(&block[4..16], i / 32);
        let q = (block[16 + 32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2))) & 15;
        *out = d * scale as f32 * q as f32 - dmin * min as f32;
    }
}

/// As Q4_K with a fifth bit; bytes: d, dmin, 12 of scales, 32 of fifth bits (bit `i / 32` of byte `i % 32`), 128 of low
/// bits.
pub fn dequantize_q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (f16_at(block, 0), f16_at(block, 2));
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, min) = scale_min_k4(&block[4..16], i / 32);
        let low = (block[48 + 32 * (i / 64) + i % 32] >> (4 * (i / 32 % 2))) & 15;
        let high = (block[16 + i % 32] >> (i / 32)) & 1;
        *out = d * scale as f32 * (low | (high << 4)) as f32 - dmin * min as f32;
    }
}

/// `d * sc * (q - 32)`, 6-bit q, signed scale for each 16; bytes: 128 of low four bits, 64 of upper two, 16 scales, d.
/// Value `128 n + 32 j + l`: low bits in byte `64 n + 32 (j % 2) + l`, half `j / 2`; upper bits in byte `32 n + l` at `2 j`.
pub fn dequantize_q6_k(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let (n, j, l) = (i / 128, i / 32 % 4, i % 32);
        let low = (block[64 * n + 32 * (j % 2) + l] >> (4 * (j / 2))) & 15;
        let high = (block[128 + 32 * n + l] >> (2 * j)) & 3;
        let scale = d * (block[192 + i / 16] as i8) as f32;
        *out = scale * ((low | (high << 4)) as f32 - 32.0);
    }
}
