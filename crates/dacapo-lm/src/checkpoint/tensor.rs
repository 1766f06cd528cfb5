//! A tensor in a checkpoint's file: where it lies and what its bytes mean.

use std::ops::Range;
use std::sync::Arc;

use dacapo::{DType, MappedFile};

use super::ggml::GgmlType;

/// The type of a stored tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorKind {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// Pairs of binary32.
    C64,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer; also packed quantized codes.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 8-bit integer.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// 8-bit float with 4 exponent bits, no infinities.
    F8E4M3,
    /// 8-bit float with 5 exponent bits.
    F8E5M2,
    /// 8-bit float with 4 exponent bits, no infinities and no negative zero.
    F8E4M3Fnuz,
    /// 8-bit float with 5 exponent bits, no infinities and no negative zero.
    F8E5M2Fnuz,
    /// 8-bit power of two.
    F8E8M0,
    /// 6-bit float with 2 exponent bits.
    F6E2M3,
    /// 6-bit float with 3 exponent bits.
    F6E3M2,
    /// 4-bit float with 2 exponent bits.
    F4,
    /// Blocks of a GGML quantized format.
    Ggml(GgmlType),
}

/// Safetensors' name, bits of an element.
const SAFETENSORS: [(&str, TensorKind, u64); 22] = [
    ("F64", TensorKind::F64, 64),
    ("F32", TensorKind::F32, 32),
    ("F16", TensorKind::F16, 16),
    ("BF16", TensorKind::BF16, 16),
    ("C64", TensorKind::C64, 64),
    ("I64", TensorKind::I64, 64),
    ("I32", TensorKind::I32, 32),
    ("I16", TensorKind::I16, 16),
    ("I8", TensorKind::I8, 8),
    ("U64", TensorKind::U64, 64),
    ("U32", TensorKind::U32, 32),
    ("U16", TensorKind::U16, 16),
    ("U8", TensorKind::U8, 8),
    ("BOOL", TensorKind::Bool, 8),
    ("F8_E4M3", TensorKind::F8E4M3, 8),
    ("F8_E5M2", TensorKind::F8E5M2, 8),
    ("F8_E4M3FNUZ", TensorKind::F8E4M3Fnuz, 8),
    ("F8_E5M2FNUZ", TensorKind::F8E5M2Fnuz, 8),
    ("F8_E8M0", TensorKind::F8E8M0, 8),
    ("F6_E2M3", TensorKind::F6E2M3, 6),
    ("F6_E3M2", TensorKind::F6E3M2, 6),
    ("F4", TensorKind::F4, 4),
];

impl TensorKind {
    /// The kind that a safetensors header calls `name`.
    pub fn from_safetensors(name: &str) -> Option<Self> {
        SAFETENSORS.iter().find(|row| row.0 == name).map(|row| row.1)
    }

    /// The kind of a GGML type: the plain one where there is one.
    pub fn from_ggml(ggml: GgmlType) -> Self {
        match ggml {
            GgmlType::F32 => TensorKind::F32,
            GgmlType::F16 => TensorKind::F16,
            GgmlType::BF16 => TensorKind::BF16,
            GgmlType::F64 => TensorKind::F64,
            GgmlType::I8 => TensorKind::I8,
            GgmlType::I16 => TensorKind::I16,
            GgmlType::I32 => TensorKind::I32,
            GgmlType::I64 => TensorKind::I64,
            block => TensorKind::Ggml(block),
        }
    }

    /// GGML's type for these elements, if it has one.
    pub(crate) fn ggml(self) -> Option<GgmlType> {
        GgmlType::ALL.iter().copied().find(|&ggml| Self::from_ggml(ggml) == self)
    }

    /// The name used in messages: safetensors' own, or GGML's.
    pub fn name(self) -> &'static str {
        match self {
            TensorKind::Ggml(ggml) => ggml.name(),
            plain => SAFETENSORS.iter().find(|row| row.1 == plain).map_or("?", |row| row.0),
        }
    }

    /// Bytes that a tensor of this kind and `shape` (row-major) takes; `None` if that overflows, is not a
    /// whole number of bytes, or a row is not a whole number of blocks.
    pub fn byte_len(self, shape: &[usize]) -> Option<usize> {
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(u64::try_from(d).ok()?))?;
        let bytes = match self {
            TensorKind::Ggml(ggml) => {
                let block = ggml.block_size() as u64;
                let row = shape.last().copied().unwrap_or(1) as u64;
                if !row.is_multiple_of(block) {
                    return None;
                }
                (elements / block).checked_mul(ggml.block_bytes() as u64)?
            }
            plain => {
                let bits = SAFETENSORS.iter().find(|row| row.1 == plain)?.2.checked_mul(elements)?;
                if bits % 8 != 0 {
                    return None;
                }
                bits / 8
            }
        };
        usize::try_from(bytes).ok()
    }

    /// The engine's type for these elements, if it has one.
    pub fn dtype(self) -> Option<DType> {
        Some(match self {
            TensorKind::F32 => DType::F32,
            TensorKind::F16 => DType::F16,
            TensorKind::BF16 => DType::BF16,
            TensorKind::I32 => DType::I32,
            TensorKind::I16 => DType::I16,
            TensorKind::I8 => DType::I8,
            TensorKind::U32 => DType::U32,
            TensorKind::U16 => DType::U16,
            TensorKind::U8 => DType::U8,
            _ => return None,
        })
    }

    /// Whether the elements are floats that the kernels read: F32, F16 or BF16.
    pub fn is_float(self) -> bool {
        matches!(self, TensorKind::F32 | TensorKind::F16 | TensorKind::BF16)
    }
}

impl std::fmt::Display for TensorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor of a checkpoint. Its bytes stay in the mapped file.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The name in Hugging Face's scheme, as in `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// The name in the file, for messages.
    pub file_name: String,
    /// Row-major shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// Element type.
    pub kind: TensorKind,
    /// The file that holds the bytes.
    pub file: Arc<MappedFile>,
    /// First byte in the file; of any alignment.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

impl Tensor {
    /// The tensor's bytes: little-endian elements, row-major.
    pub fn bytes(&self) -> &[u8] {
        // Parsers have checked the range; an empty slice rather than a panic if somebody built another one.
        self.file.bytes().get(self.offset..self.offset.saturating_add(self.len)).unwrap_or_default()
    }

    /// Some rows of a matrix, as a tensor of its own.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Tensor {
        let row = self.len / self.shape.first().copied().unwrap_or(1).max(1);
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Tensor { shape, offset: self.offset + rows.start * row, len: rows.len() * row, ..self.clone() }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
