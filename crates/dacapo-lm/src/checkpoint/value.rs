//! Values of GGUF metadata.

use std::ops::Range;

use super::reader::Reader;

/// The type of a metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaType {
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 16-bit integer.
    U16,
    /// Signed 16-bit integer.
    I16,
    /// Unsigned 32-bit integer.
    U32,
    /// Signed 32-bit integer.
    I32,
    /// IEEE 754 binary32.
    F32,
    /// One byte, 0 or 1.
    Bool,
    /// A 64-bit length and that many bytes.
    String,
    /// Values of one type.
    Array,
    /// Unsigned 64-bit integer.
    U64,
    /// Signed 64-bit integer.
    I64,
    /// IEEE 754 binary64.
    F64,
}

impl MetaType {
    /// In the order of the format's ids.
    const ALL: [MetaType; 13] = [
        MetaType::U8,
        MetaType::I8,
        MetaType::U16,
        MetaType::I16,
        MetaType::U32,
        MetaType::I32,
        MetaType::F32,
        MetaType::Bool,
        MetaType::String,
        MetaType::Array,
        MetaType::U64,
        MetaType::I64,
        MetaType::F64,
    ];

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Bytes of a value; 0 for those whose size varies.
    pub(super) fn size(self) -> usize {
        match self {
            MetaType::U8 | MetaType::I8 | MetaType::Bool => 1,
            MetaType::U16 | MetaType::I16 => 2,
            MetaType::U32 | MetaType::I32 | MetaType::F32 => 4,
            MetaType::U64 | MetaType::I64 | MetaType::F64 => 8,
            MetaType::String | MetaType::Array => 0,
        }
    }

    /// The fewest bytes of a value as an array's element.
    pub(super) fn min_size(self) -> usize {
        match self {
            MetaType::String => 8,
            MetaType::Array => 12,
            plain => plain.size(),
        }
    }

    /// A number from exactly its bytes; `None` for other types.
    pub(super) fn read(self, bytes: &[u8]) -> Option<MetaValue> {
        Some(match self {
            MetaType::U8 => MetaValue::Unsigned((*bytes.first()?).into()),
            MetaType::I8 => MetaValue::Signed(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            MetaType::U16 => MetaValue::Unsigned(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            MetaType::I16 => MetaValue::Signed(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            MetaType::U32 => MetaValue::Unsigned(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            MetaType::I32 => MetaValue::Signed(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            MetaType::F32 => MetaValue::Float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            MetaType::U64 => MetaValue::Unsigned(u64::from_le_bytes(bytes.try_into().ok()?)),
            MetaType::I64 => MetaValue::Signed(i64::from_le_bytes(bytes.try_into().ok()?)),
            MetaType::F64 => MetaValue::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
            MetaType::Bool | MetaType::String | MetaType::Array => return None,
        })
    }
}

/// A metadata value. Strings and arrays are ranges of the file.
#[derive(Debug, Clone, PartialEq)]
pub enum MetaValue {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A float of either width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// The bytes of a string.
    String(Range<usize>),
    /// An array.
    Array(MetaArray),
}

impl MetaValue {
    pub(super) fn as_u64(&self) -> Option<u64> {
        match *self {
            MetaValue::Unsigned(n) => Some(n),
            MetaValue::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match *self {
            MetaValue::Unsigned(n) => Some(n as f64),
            MetaValue::Signed(n) => Some(n as f64),
            MetaValue::Float(x) => Some(x),
            _ => None,
        }
    }

    /// The value in a few words, for messages; `bytes` are the file's.
    pub(super) fn describe(&self, bytes: &[u8]) -> String {
        match self {
            MetaValue::Unsigned(n) => n.to_string(),
            MetaValue::Signed(n) => n.to_string(),
            MetaValue::Float(x) => x.to_string(),
            MetaValue::Bool(b) => b.to_string(),
            MetaValue::String(range) => {
                let text = bytes.get(range.clone()).unwrap_or_default();
                format!("\"{}\"", text[..text.len().min(64)].escape_ascii())
            }
            MetaValue::Array(array) => format!("an array of {} {:?}", array.len, array.element),
        }
    }
}

/// An array in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaArray {
    /// Type of the elements.
    pub element: MetaType,
    /// Number of elements.
    pub len: usize,
    /// The elements' bytes in the file.
    pub range: Range<usize>,
}

impl MetaArray {
    /// The elements as byte strings; `None` if they are of another type. `bytes` are the file's.
    pub(super) fn strings<'a>(
        &self,
        bytes: &'a [u8],
    ) -> Option<impl ExactSizeIterator<Item = &'a [u8]> + use<'a>> {
        if self.element != MetaType::String {
            return None;
        }
        let bytes = bytes.get(self.range.clone())?;
        let mut reader = Reader::new(bytes);
        Some((0..self.len).map(move |_| {
            // The parser has walked over these strings; empty ones rather than a panic if the file changed.
            reader.string("").ok().and_then(|range| bytes.get(range)).unwrap_or_default()
        }))
    }

    /// The elements as numbers; `None` if they are of another type. `bytes` are the file's.
    pub(super) fn numbers<'a>(
        &self,
        bytes: &'a [u8],
    ) -> Option<impl ExactSizeIterator<Item = f64> + use<'a>> {
        let element = self.element;
        element.read(&[0; 8][..element.size()])?;
        let bytes = bytes.get(self.range.clone())?;
        Some(
            bytes
                .chunks_exact(element.size())
                .map(move |chunk| element.read(chunk).and_then(|v| v.as_f64()).unwrap_or(f64::NAN)),
        )
    }
    /// The elements as truth values; `None` if they are of another type. `bytes` are the file's.
    pub(super) fn bools(&self, bytes: &[u8]) -> Option<Vec<bool>> {
        let bytes = bytes.get(self.range.clone()).filter(|_| self.element == MetaType::Bool)?;
        Some(bytes.iter().map(|&byte| byte != 0).collect())
    }
}
