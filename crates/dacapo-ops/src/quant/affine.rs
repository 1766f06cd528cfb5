//! MLX affine quantization: `w = scale * code + bias`, one scale and bias for a group of consecutive values.
//!
//! Codes form one little-endian bit stream along a row, least significant bit first: code `i` of `b` bits is bits
//! `i*b .. (i+1)*b` of the row's bytes, so 3-, 5- and 6-bit codes straddle byte and word boundaries.

use super::Float;

/// Supported widths of a code.
pub const BITS: [u8; 6] = [2, 3, 4, 5, 6, 8];

/// Supported group lengths.
pub const GROUPS: [u8; 3] = [32, 64, 128];

/// Code number `i` of a row.
fn code(codes: &[u8], bits: usize, i: usize) -> u8 {
    let bit = i * bits;
    let low = codes[bit / 8] as u16;
    let high = codes.get(bit / 8 + 1).copied().unwrap_or(0) as u16;
    (((low | (high << 8)) >> (bit % 8)) & ((1 << bits) - 1)) as u8
}

/// The values of one row: `scale * code` and then `+ bias`, each rounded to f32.
pub fn dequantize_row(
    codes: &[u8],
    scales: &[u8],
    biases: &[u8],
    bits: u8,
    group: u8,
    float: Float,
    out: &mut [f32],
) {
    for (i, out) in out.iter_mut().enumerate() {
        let g = i / group as usize;
        *out = float.read(scales, g) * code(codes, bits as usize, i) as f32 + float.read(biases, g);
    }
}

/// A quantized matrix: the three arrays of an MLX checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AffineArrays {
    /// Packed codes, row by row.
    pub codes: Vec<u8>,
    /// Scales, one for each group.
    pub scales: Vec<u8>,
    /// Biases, one for each group.
    pub biases: Vec<u8>,
}

/// Quantizes rows of values as MLX does, bit for bit. `w.len()` must be a multiple of `group`.
///
/// The end of the range that is larger in magnitude is represented exactly (`edge`), and zero is hit exactly
/// wherever it lies in the range; codes are computed from the unrounded scale and bias.
pub fn quantize(w: &[f32], bits: u8, group: u8, float: Float) -> AffineArrays {
    let levels = ((1u32 << bits) - 1) as f32;
    let mut arrays = AffineArrays::default();
    let mut buffer = 0u32;
    let mut filled = 0;
    for values in w.chunks_exact(group as usize) {
        let min = values.iter().copied().fold(f32::INFINITY, f32::min);
        let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let from_min = min.abs() > max.abs();
        let edge = if from_min { min } else { max };
        let mut scale = ((max - min) / levels).max(1e-7);
        if !from_min {
            scale = -scale;
        }
        let edge_code = (edge / scale).round_ties_even();
        let mut bias = 0.0;
        if edge_code != 0.0 {
            scale = edge / edge_code;
            bias = edge;
        }
        float.push(scale, &mut arrays.scales);
        float.push(bias, &mut arrays.biases);
        for &value in values {
            let code = ((value - bias) / scale).round_ties_even().clamp(0.0, levels) as u32;
            buffer |= code << filled;
            filled += bits as usize;
            while filled >= 8 {
                arrays.codes.push(buffer as u8);
                buffer >>= 8;
                filled -= 8;
            }
        }
    }
    arrays
}
