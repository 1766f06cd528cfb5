//! Quantizers of GGML's K formats, bit for bit those of ggml's reference. Layouts are in [`super::ggml_k`].

use half::f16;

use super::ggml_k::{scale_min_k4, scale_q3_k};
use super::search::{MinSearch, nearest, refined, symmetric};

/// `x` rounded to f16, as bytes and as a value.
fn rounded(x: f32) -> ([u8; 2], f32) {
    let half = f16::from_f32(x);
    (half.to_le_bytes(), half.to_f32())
}

/// Codes of the values for their final scale and minimum, `low` to `high`; those of the search stay where the scale is 0.
fn code(x: &[f32], scale: f32, min: f32, low: i32, high: i32, codes: &mut [u8]) {
    if scale == 0.0 {
        return;
    }
    for (&x, code) in x.iter().zip(codes) {
        *code = (nearest((x + min) / scale).clamp(low, high) - low) as u8;
    }
}

/// The largest, or 0.
fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, &v| if v > most { v } else { most })
}

/// The first one of largest magnitude, or 0.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &v| if v.abs() > most.abs() { v } else { most })
}

/// Codes of two bits, the order of [`super::ggml_k::dequantize_q2_k`].
fn push_two_bits(codes: &[u8; 256], out: &mut Vec<u8>) {
    for half in codes.chunks_exact(128) {
        out.extend((0..32).map(|l| (0..4).fold(0, |byte, j| byte | (half[l + 32 * j] & 3) << (2 * j))));
    }
}

/// One super-block of Q2_K; `x` has 256 values.
pub(super) fn q2_k(x: &[f32], out: &mut Vec<u8>) {
    const SEARCH: MinSearch = MinSearch { most: 3, first: -0.5, steps: 15, magnitude: true };
    let (mut scales, mut mins) = ([0.0; 16], [0.0; 16]);
    let mut codes = [0u8; 256];
    for (j, (x, codes)) in x.chunks_exact(16).zip(codes.chunks_exact_mut(16)).enumerate() {
        let weights: [f32; 16] = std::array::from_fn(|i| x[i].abs());
        (scales[j], mins[j]) = SEARCH.run(x, &weights, codes);
    }
    let mut packed = [0u8; 16];
    let mut quantize = |values: &[f32; 16], shift: u32| {
        let most = largest(values);
        if most > 0.0 {
            let inverse = 15.0 / most;
            for (packed, &value) in packed.iter_mut().zip(values) {
                *packed |= (nearest(inverse * value) as u8) << shift;
            }
        }
        rounded(most / 15.0)
    };
    let ((d_bytes, d), (min_bytes, dmin)) = (quantize(&scales, 0), quantize(&mins, 4));
    for (j, (x, codes)) in x.chunks_exact(16).zip(codes.chunks_exact_mut(16)).enumerate() {
        code(x, d * f32::from(packed[j] & 15), dmin * f32::from(packed[j] >> 4), 0, 3, codes);
    }
    out.extend_from_slice(&packed);
    push_two_bits(&codes, out);
    out.extend_from_slice(&d_bytes);
    out.extend_from_slice(&min_bytes);
}

/// One super-block of Q3_K.
pub(super) fn q3_k(x: &[f32], out: &mut Vec<u8>) {
    let mut scales = [0.0; 16];
    let mut codes = [0u8; 256];
    for (j, (x, codes)) in x.chunks_exact(16).zip(codes.chunks_exact_mut(16)).enumerate() {
        let mut found = [0; 16];
        scales[j] = refined(x, 4, &mut found);
        codes.iter_mut().zip(found).for_each(|(code, found)| *code = found as u8);
    }
    let most = extreme(&scales);
    let mut packed = [0u8; 12];
    let (d_bytes, d) = if most == 0.0 {
        rounded(0.0)
    } else {
        let inverse = -32.0 / most;
        for (j, &scale) in scales.iter().enumerate() {
            let scale = (nearest(inverse * scale).clamp(-32, 31) + 32) as u8;
            packed[j % 8] |= (scale & 15) << (4 * (j / 8));
            packed[8 + j % 4] |= (scale >> 4) << (2 * (j / 4));
        }
        rounded(1.0 / inverse)
    };
    for (j, (x, codes)) in x.chunks_exact(16).zip(codes.chunks_exact_mut(16)).enumerate() {
        code(x, d * f32::from(scale_q3_k(&packed, j)), 0.0, -4, 3, codes);
    }
    out.extend((0..32).map(|l| (0..8).fold(0, |byte, j| byte | (codes[l + 32 * j] >> 2) << j)));
    push_two_bits(&codes, out);
    out.extend_from_slice(&packed);
    out.extend_from_slice(&d_bytes);
}

/// What Q4_K and Q5_K have in common: codes, and the bytes of d, dmin and scales.
fn with_mins(x: &[f32], search: &MinSearch, out: &mut Vec<u8>) -> [u8; 256] {
    let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
    let mut codes = [0u8; 256];
    for (j, (x, codes)) in x.chunks_exact(32).zip(codes.chunks_exact_mut(32)).enumerate() {
        let squares = x.iter().fold(0.0, |sum, x| sum + x * x);
        let mean = (squares / 32.0).sqrt();
        let weights: [f32; 32] = std::array::from_fn(|i| mean + x[i].abs());
        (scales[j], mins[j]) = search.run(x, &weights, codes);
    }
    let (most_scale, most_min) = (largest(&scales), largest(&mins));
    let inverse = |most: f32| if most > 0.0 { 63.0 / most } else { 0.0 };
    let (inverse_scale, inverse_min) = (inverse(most_scale), inverse(most_min));
    let mut packed = [0u8; 12];
    for j in 0..8 {
        let scale = (nearest(inverse_scale * scales[j]) as u8).min(63);
        let min = (nearest(inverse_min * mins[j]) as u8).min(63);
        if j < 4 {
            packed[j] = scale;
            packed[j + 4] = min;
        } else {
            packed[j + 4] = (scale & 15) | ((min & 15) << 4);
            packed[j - 4] |= (scale >> 4) << 6;
            packed[j] |= (min >> 4) << 6;
        }
    }
    let ((d_bytes, d), (min_bytes, dmin)) = (rounded(most_scale / 63.0), rounded(most_min / 63.0));
    for (j, (x, codes)) in x.chunks_exact(32).zip(codes.chunks_exact_mut(32)).enumerate() {
        let (scale, min) = scale_min_k4(&packed, j);
        code(x, d * f32::from(scale), dmin * f32::from(min), 0, search.most, codes);
    }
    out.extend_from_slice(&d_bytes);
    out.extend_from_slice(&min_bytes);
    out.extend_from_slice(&packed);
    codes
}

/// Low halves of codes, the order of [`super::ggml_k::dequantize_q4_k`].
fn push_four_bits(codes: &[u8; 256], out: &mut Vec<u8>) {
    for pair in codes.chunks_exact(64) {
        out.extend((0..32).map(|l| (pair[l] & 15) | ((pair[l + 32] & 15) << 4)));
    }
}

/// One super-block of Q4_K.
pub(super) fn q4_k(x: &[f32], out: &mut Vec<u8>) {
    let search = MinSearch { most: 15, first: -1.0, steps: 20, magnitude: false };
    let codes = with_mins(x, &search, out);
    push_four_bits(&codes, out);
}

/// One super-block of Q5_K.
pub(super) fn q5_k(x: &[f32], out: &mut Vec<u8>) {
    let search = MinSearch { most: 31, first: -0.5, steps: 15, magnitude: false };
    let codes = with_mins(x, &search, out);
    out.extend((0..32).map(|l| (0..8).fold(0, |byte, j| byte | (codes[l + 32 * j] >> 4) << j)));
    push_four_bits(&codes, out);
}

/// One super-block of Q6_K.
pub(super) fn q6_k(x: &[f32], out: &mut Vec<u8>) {
    let mut found = [0.0; 16];
    let mut codes = [0u8; 256];
    for (j, (x, codes)) in x.chunks_exact(16).zip(codes.chunks_exact_mut(16)).enumerate() {
        found[j] = symmetric(x, 32, codes);
    }
    let most = extreme(&found);
    if most.abs() < 1e-15 {
        out.resize(out.len() + 210, 0);
        return;
    }
    let inverse = -128.0 / most;
    let (d_bytes, d) = rounded(1.0 / inverse);
    let scales = found.map(|scale| nearest(inverse * scale).min(127) as i8);
    for (j, (x, codes)) in x.chunks_exact(16).zip(codes.chunks_exact_mut(16)).enumerate() {
        code(x, d * f32::from(scales[j]), 0.0, -32, 31, codes);
    }
    for half in codes.chunks_exact(128) {
        out.extend((0..64).map(|l| (half[l] & 15) | ((half[l + 64] & 15) << 4)));
    }
    for half in codes.chunks_exact(128) {
        out.extend((0..32).map(|l| (0..4).fold(0, |byte, j| byte | (half[l + 32 * j] >> 4) << (2 * j))));
    }
    out.extend(scales.map(|scale| scale as u8));
    out.extend_from_slice(&d_bytes);
}
