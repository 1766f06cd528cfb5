//! Quantized tensor formats: what their bytes mean, and the layout in which the kernels read them.
//!
//! A weight arrives as the bytes of a checkpoint ([`Source`], one of the [`Format`]s). For each format there is a
//! plain dequantizer here, written like the definition; it is the oracle of everything else. For computing, a
//! weight is repacked once into *panels* ([`panel`]), one family of layouts that serves all formats.

pub mod affine;
mod codebooks;
mod ggml_iq;
pub mod ggml_k;
pub mod ggml_simple;
pub mod panel;
mod quantize_k;
pub mod repack;
mod search;
mod unpack;

use dacapo::DType;
use half::{bf16, f16};

/// A floating-point type of weights, scales and biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Float {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
}

impl Float {
    /// All of them.
    pub const ALL: [Float; 3] = [Float::F32, Float::F16, Float::BF16];

    /// Bytes of one value.
    pub const fn size(self) -> usize {
        match self {
            Float::F32 => 4,
            Float::F16 | Float::BF16 => 2,
        }
    }

    /// The element type of a buffer of such values.
    pub const fn dtype(self) -> DType {
        match self {
            Float::F32 => DType::F32,
            Float::F16 => DType::F16,
            Float::BF16 => DType::BF16,
        }
    }

    /// The float type of a buffer's element type; `None` for integers.
    pub const fn from_dtype(dtype: DType) -> Option<Float> {
        match dtype {
            DType::F32 => Some(Float::F32),
            DType::F16 => Some(Float::F16),
            DType::BF16 => Some(Float::BF16),
            _ => None,
        }
    }

    /// Value number `index` of an array of little-endian values, at any alignment. Panics past the end.
    pub fn read(self, bytes: &[u8], index: usize) -> f32 {
        let at = index * self.size();
        match self {
            Float::F32 => f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]),
            Float::F16 => f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32(),
            Float::BF16 => bf16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32(),
        }
    }

    /// The little-endian bytes of `value` rounded to this type, appended to `out`.
    pub fn push(self, value: f32, out: &mut Vec<u8>) {
        match self {
            Float::F32 => out.extend_from_slice(&value.to_le_bytes()),
            Float::F16 => out.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
            Float::BF16 => out.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
        }
    }

    /// Whether value number `index` of such an array is neither infinite nor NaN.
    pub(crate) fn is_finite(self, bytes: &[u8], index: usize) -> bool {
        self.read(bytes, index).is_finite()
    }
}

/// A block format of GGML, as stored in GGUF files. The layouts are those of ggml's `block_*` structs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
pub enum Ggml {
    /// 4 bits, blocks of 32, one scale.
    Q4_0,
    /// 4 bits, blocks of 32, scale and minimum.
    Q4_1,
    /// 5 bits, blocks of 32, one scale.
    Q5_0,
    /// 5 bits, blocks of 32, scale and minimum.
    Q5_1,
    /// 8 bits, blocks of 32, one scale.
    Q8_0,
    /// 2 bits, super-blocks of 256 with a scale and a minimum for each 16.
    Q2_K,
    /// 3 bits, super-blocks of 256 with a scale for each 16.
    Q3_K,
    /// 4 bits, super-blocks of 256 with a scale and a minimum for each 32.
    Q4_K,
    /// 5 bits, super-blocks of 256 with a scale and a minimum for each 32.
    Q5_K,
    /// 6 bits, super-blocks of 256 with a scale for each 16.
    Q6_K,
    /// About 2.06 bits from a codebook, super-blocks of 256 with a scale for each 32.
    IQ2_XXS,
    /// About 2.31 bits from a codebook, super-blocks of 256 with a scale for each 16.
    IQ2_XS,
    /// About 2.56 bits from a codebook, super-blocks of 256 with a scale for each 16.
    IQ2_S,
    /// About 3.06 bits from a codebook, super-blocks of 256 with a scale for each 32.
    IQ3_XXS,
    /// About 3.44 bits from a codebook, super-blocks of 256 with a scale for each 32.
    IQ3_S,
    /// 4 bits through a table, blocks of 32, one scale.
    IQ4_NL,
    /// 4 bits through a table, super-blocks of 256 with a scale for each 32.
    IQ4_XS,
    /// Ternary, about 1.69 bits, blocks of 256, one scale.
    TQ1_0,
    /// Ternary, 2 bits, blocks of 256, one scale.
    TQ2_0,
    /// 4-bit floats, blocks of 32, one scale that is a power of two.
    MXFP4,
}

impl Ggml {
    /// All of them.
    pub const ALL: [Ggml; 20] = [
        Ggml::Q4_0,
        Ggml::Q4_1,
        Ggml::Q5_0,
        Ggml::Q5_1,
        Ggml::Q8_0,
        Ggml::Q2_K,
        Ggml::Q3_K,
        Ggml::Q4_K,
        Ggml::Q5_K,
        Ggml::Q6_K,
        Ggml::IQ2_XXS,
        Ggml::IQ2_XS,
        Ggml::IQ2_S,
        Ggml::IQ3_XXS,
        Ggml::IQ3_S,
        Ggml::IQ4_NL,
        Ggml::IQ4_XS,
        Ggml::TQ1_0,
        Ggml::TQ2_0,
        Ggml::MXFP4,
    ];

    /// Those that [`quantize_ggml`] can make.
    pub const QUANTIZED: [Ggml; 11] = [
        Ggml::Q4_0,
        Ggml::Q4_1,
        Ggml::Q5_0,
        Ggml::Q5_1,
        Ggml::Q8_0,
        Ggml::Q2_K,
        Ggml::Q3_K,
        Ggml::Q4_K,
        Ggml::Q5_K,
        Ggml::Q6_K,
        Ggml::MXFP4,
    ];

    /// Consecutive values along a row that share one block.
    pub const fn block_len(self) -> usize {
        match self {
            Ggml::Q4_0 | Ggml::Q4_1 | Ggml::Q5_0 | Ggml::Q5_1 | Ggml::Q8_0 => 32,
            Ggml::IQ4_NL | Ggml::MXFP4 => 32,
            _ => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Ggml::Q4_0 => 18,
            Ggml::Q4_1 => 20,
            Ggml::Q5_0 => 22,
            Ggml::Q5_1 => 24,
            Ggml::Q8_0 => 34,
            Ggml::Q2_K => 84,
            Ggml::Q3_K => 110,
            Ggml::Q4_K => 144,
            Ggml::Q5_K => 176,
            Ggml::Q6_K => 210,
            Ggml::IQ2_XXS | Ggml::TQ2_0 => 66,
            Ggml::IQ2_XS => 74,
            Ggml::IQ2_S => 82,
            Ggml::IQ3_XXS => 98,
            Ggml::IQ3_S => 110,
            Ggml::IQ4_NL => 18,
            Ggml::IQ4_XS => 136,
            Ggml::TQ1_0 => 54,
            Ggml::MXFP4 => 17,
        }
    }

    /// Name as in GGUF tools, such as `Q4_K`.
    pub const fn name(self) -> &'static str {
        match self {
            Ggml::Q4_0 => "Q4_0",
            Ggml::Q4_1 => "Q4_1",
            Ggml::Q5_0 => "Q5_0",
            Ggml::Q5_1 => "Q5_1",
            Ggml::Q8_0 => "Q8_0",
            Ggml::Q2_K => "Q2_K",
            Ggml::Q3_K => "Q3_K",
            Ggml::Q4_K => "Q4_K",
            Ggml::Q5_K => "Q5_K",
            Ggml::Q6_K => "Q6_K",
            Ggml::IQ2_XXS => "IQ2_XXS",
            Ggml::IQ2_XS => "IQ2_XS",
            Ggml::IQ2_S => "IQ2_S",
            Ggml::IQ3_XXS => "IQ3_XXS",
            Ggml::IQ3_S => "IQ3_S",
            Ggml::IQ4_NL => "IQ4_NL",
            Ggml::IQ4_XS => "IQ4_XS",
            Ggml::TQ1_0 => "TQ1_0",
            Ggml::TQ2_0 => "TQ2_0",
            Ggml::MXFP4 => "MXFP4",
        }
    }
}

/// A format of small floats with a scale of 8 bits for each group, as MLX names and writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fp {
    /// 4-bit floats (two exponent bits), groups of 32, scales that are powers of two.
    MxFp4,
    /// 8-bit floats (four exponent bits), groups of 32, scales that are powers of two.
    MxFp8,
    /// 4-bit floats, groups of 16, scales that are 8-bit floats (four exponent bits).
    NvFp4,
}

impl Fp {
    /// All of them.
    pub const ALL: [Fp; 3] = [Fp::MxFp4, Fp::MxFp8, Fp::NvFp4];

    /// Values that share a scale.
    pub const fn group(self) -> usize {
        match self {
            Fp::NvFp4 => 16,
            _ => 32,
        }
    }

    /// Bits of a value.
    pub const fn bits(self) -> usize {
        match self {
            Fp::MxFp8 => 8,
            _ => 4,
        }
    }

    /// MLX's name of the mode.
    pub const fn name(self) -> &'static str {
        match self {
            Fp::MxFp4 => "mxfp4",
            Fp::MxFp8 => "mxfp8",
            Fp::NvFp4 => "nvfp4",
        }
    }

    /// What values are multiplied with, from the byte of a scale; NaN for those that are none.
    pub(crate) fn scale(self, byte: u8) -> f32 {
        match self {
            Fp::NvFp4 => ggml_iq::e4m3(byte),
            _ => ggml_iq::power(byte),
        }
    }

    /// Value number `i` of a row, without its scale.
    fn value(self, codes: &[u8], i: usize) -> f32 {
        match self {
            Fp::MxFp8 => ggml_iq::e4m3(codes[i]),
            _ => f32::from(ggml_iq::E2M1[usize::from(codes[i / 2] >> (4 * (i % 2)) & 15)]) * 0.5,
        }
    }
}

/// Rows, and values of a row, that share a scale in [`Format::Fp8`].
pub const FP8_BLOCK: usize = 128;

/// How the values of a weight matrix are stored in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Plain values, row by row.
    Dense(Float),
    /// MLX affine: `w = scale * code + bias`, codes of `bits` bits packed LSB first along a row, one scale and one
    /// bias for each `group` consecutive values, in arrays of their own.
    Affine {
        /// 2, 3, 4, 5, 6 or 8.
        bits: u8,
        /// 32, 64 or 128.
        group: u8,
        /// Type of scales and biases.
        float: Float,
    },
    /// A block format of GGML.
    Ggml(Ggml),
    /// Small floats packed low bits first along a row, and a byte of scale for each group, in an array of its own.
    Fp(Fp),
    /// 8-bit floats with four exponent bits, and a scale for each square of 128 rows and 128 values, the last ones cut off.
    Fp8 {
        /// Type of the scales.
        float: Float,
    },
}

impl Format {
    /// Every format there is.
    pub fn all() -> Vec<Format> {
        let mut all: Vec<Format> = Float::ALL.into_iter().map(Format::Dense).collect();
        for bits in affine::BITS {
            for group in affine::GROUPS {
                all.extend(Float::ALL.into_iter().map(|float| Format::Affine { bits, group, float }));
            }
        }
        all.extend(Ggml::ALL.into_iter().map(Format::Ggml));
        all.extend(Fp::ALL.into_iter().map(Format::Fp));
        all.extend(Float::ALL.into_iter().map(|float| Format::Fp8 { float }));
        all
    }

    /// Whether the numbers inside are among those supported.
    pub fn is_valid(self) -> bool {
        match self {
            Format::Affine { bits, group, .. } => {
                affine::BITS.contains(&bits) && affine::GROUPS.contains(&group)
            }
            _ => true,
        }
    }

    /// A row's length must be a multiple of this.
    pub const fn block_len(self) -> usize {
        match self {
            Format::Dense(_) | Format::Fp8 { .. } => 1,
            Format::Affine { group, .. } => group as usize,
            Format::Ggml(g) => g.block_len(),
            // Panels have blocks of 32 values.
            Format::Fp(_) => 32,
        }
    }

    /// Bytes of the codes (for GGML: of the blocks) of a row of `k` values.
    pub const fn row_bytes(self, k: usize) -> usize {
        match self {
            Format::Dense(float) => k * float.size(),
            Format::Affine { bits, .. } => k * bits as usize / 8,
            Format::Ggml(g) => k / g.block_len() * g.block_bytes(),
            Format::Fp(fp) => k * fp.bits() / 8,
            Format::Fp8 { .. } => k,
        }
    }

    /// Bytes of the scales of a row, or of the rows that share them, where these are an array of their own; else 0.
    pub const fn row_scale_bytes(self, k: usize) -> usize {
        match self {
            Format::Affine { group, float, .. } => k / group as usize * float.size(),
            Format::Fp(fp) => k / fp.group(),
            Format::Fp8 { float } => k.div_ceil(FP8_BLOCK) * float.size(),
            _ => 0,
        }
    }

    /// Bytes of the scales of `n` rows, where these are an array of their own; else 0.
    pub const fn scale_bytes(self, n: usize, k: usize) -> usize {
        match self {
            Format::Fp8 { .. } => n.div_ceil(FP8_BLOCK) * self.row_scale_bytes(k),
            _ => n * self.row_scale_bytes(k),
        }
    }

    /// Bytes of the biases of `n` rows, where there are any; else 0.
    pub const fn bias_bytes(self, n: usize, k: usize) -> usize {
        match self {
            Format::Affine { .. } => self.scale_bytes(n, k),
            _ => 0,
        }
    }

    /// All bytes of a matrix of `n` rows of `k` values in this format and as well in panels; `None` if that is more
    /// than can be addressed.
    pub(crate) fn checked_matrix_bytes(self, n: usize, k: usize) -> Option<usize> {
        // No format, nor its panels, takes more than 8 bytes for a value, filling included.
        n.checked_next_multiple_of(panel::ROWS)?.checked_mul(k.checked_add(64)?)?.checked_mul(8)
    }

    /// All bytes of a matrix of `n` rows of `k` values.
    pub const fn matrix_bytes(self, n: usize, k: usize) -> usize {
        n * self.row_bytes(k) + self.scale_bytes(n, k) + self.bias_bytes(n, k)
    }

    /// Name for messages and tables: `Q4_K`, `affine4-g64-f16`, `bf16`.
    pub fn name(self) -> String {
        match self {
            Format::Dense(float) => float.dtype().name().to_string(),
            Format::Affine { bits, group, float } => format!("affine{bits}-g{group}-{}", float.dtype()),
            Format::Ggml(g) => g.name().to_string(),
            Format::Fp(fp) => fp.name().to_string(),
            Format::Fp8 { float } => format!("fp8-{}", float.dtype()),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// The bytes of a weight matrix `[n, k]` as a checkpoint holds them, at any alignment.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Format of the bytes.
    pub format: Format,
    /// Rows.
    pub n: usize,
    /// Values in a row.
    pub k: usize,
    /// Codes (GGML: blocks; dense: values), `n * row_bytes(k)` bytes.
    pub codes: &'a [u8],
    /// Scales, [`scale_bytes`](Format::scale_bytes), if they are an array of their own.
    pub scales: &'a [u8],
    /// Affine: biases, as many bytes as scales. Otherwise empty.
    pub biases: &'a [u8],
}

impl<'a> Source<'a> {
    /// Whether format, shape and byte counts fit together.
    pub fn is_consistent(&self) -> bool {
        self.format.is_valid()
            && self.k.is_multiple_of(self.format.block_len())
            && self.codes.len() == self.n * self.format.row_bytes(self.k)
            && self.scales.len() == self.format.scale_bytes(self.n, self.k)
            && self.biases.len() == self.format.bias_bytes(self.n, self.k)
    }

    /// A row's codes.
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        let bytes = self.format.row_bytes(self.k);
        &self.codes[row * bytes..(row + 1) * bytes]
    }

    /// A row's scales, and its biases if it has any.
    pub(crate) fn row_scales(&self, row: usize) -> [&'a [u8]; 2] {
        let bytes = self.format.row_scale_bytes(self.k);
        let row = if let Format::Fp8 { .. } = self.format { row / FP8_BLOCK } else { row };
        let part = |all: &'a [u8]| if all.is_empty() { all } else { &all[row * bytes..(row + 1) * bytes] };
        [part(self.scales), part(self.biases)]
    }

    /// The values of one row, by the plain definition of the format. Panics if `out` is not `k` long or the
    /// source is inconsistent.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.k, "one output for each value of the row");
        let codes = self.row(row);
        match self.format {
            Format::Dense(float) => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = float.read(codes, i);
                }
            }
            Format::Affine { bits, group, float } => {
                let [scales, biases] = self.row_scales(row);
                affine::dequantize_row(codes, scales, biases, bits, group, float, out);
            }
            Format::Ggml(g) => {
                let blocks = codes.chunks_exact(g.block_bytes());
                for (block, out) in blocks.zip(out.chunks_exact_mut(g.block_len())) {
                    dequantize_block(g, block, out);
                }
            }
            Format::Fp(fp) => {
                let scales = self.row_scales(row)[0];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = fp.value(codes, i) * fp.scale(scales[i / fp.group()]);
                }
            }
            Format::Fp8 { float } => {
                let scales = self.row_scales(row)[0];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = ggml_iq::e4m3(codes[i]) * float.read(scales, i / FP8_BLOCK);
                }
            }
        }
    }
}

/// The values of one GGML block.
fn dequantize_block(format: Ggml, block: &[u8], out: &mut [f32]) {
    match format {
        Ggml::Q4_0 => ggml_simple::dequantize_q4_0(block, out),
        Ggml::Q4_1 => ggml_simple::dequantize_q4_1(block, out),
        Ggml::Q5_0 => ggml_simple::dequantize_q5_0(block, out),
        Ggml::Q5_1 => ggml_simple::dequantize_q5_1(block, out),
        Ggml::Q8_0 => ggml_simple::dequantize_q8_0(block, out),
        Ggml::Q2_K => ggml_k::dequantize_q2_k(block, out),
        Ggml::Q3_K => ggml_k::dequantize_q3_k(block, out),
        Ggml::Q4_K => ggml_k::dequantize_q4_k(block, out),
        Ggml::Q5_K => ggml_k::dequantize_q5_k(block, out),
        Ggml::Q6_K => ggml_k::dequantize_q6_k(block, out),
        iq => ggml_iq::dequantize(iq, block, out),
    }
}

/// Quantizes rows of values to blocks as ggml's reference does, bit for bit, without weights of importance; appended to
/// `out`. `w.len()` must be a multiple of the format's [`block_len`](Ggml::block_len), and the values finite. Panics unless
/// the format is among [`Ggml::QUANTIZED`].
pub fn quantize_ggml(format: Ggml, w: &[f32], out: &mut Vec<u8>) {
    let block: fn(&[f32], &mut Vec<u8>) = match format {
        Ggml::Q4_0 => ggml_simple::q4_0,
        Ggml::Q4_1 => ggml_simple::q4_1,
        Ggml::Q5_0 => ggml_simple::q5_0,
        Ggml::Q5_1 => ggml_simple::q5_1,
        Ggml::Q8_0 => ggml_simple::q8_0,
        Ggml::Q2_K => quantize_k::q2_k,
        Ggml::Q3_K => quantize_k::q3_k,
        Ggml::Q4_K => quantize_k::q4_k,
        Ggml::Q5_K => quantize_k::q5_k,
        Ggml::Q6_K => quantize_k::q6_k,
        Ggml::MXFP4 => ggml_iq::mxfp4,
        other => panic!("{} has no quantizer", other.name()),
    };
    out.reserve(w.len() / format.block_len() * format.block_bytes());
    w.chunks_exact(format.block_len()).for_each(|x| block(x, out));
}

/// The f16 at byte `at`, as f32.
pub(crate) fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;
