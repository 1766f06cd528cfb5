//! The GGUF format, versions 2 and 3, little-endian: metadata, tensor descriptions, aligned tensor data.
//!
//! The format is that of the ggml project. Nothing is copied out of the file: strings and arrays are kept as
//! ranges of it, so that what a file makes this parser allocate is bounded by the file's own size.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use dacapo::MappedFile;

use super::ggml::GgmlType;
use super::reader::Reader;
use super::safetensors::Entry;
use super::tensor::TensorKind;
use super::value::{MetaArray, MetaType, MetaValue};
use crate::error::{Error, Result, one_line};

/// The most dimensions that GGML knows.
const MAX_RANK: u32 = 4;
/// How deep arrays may nest.
const MAX_DEPTH: u32 = 4;
/// Where tensor data is aligned when the file does not say.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The fewest bytes of a key and its value, and of a tensor's description.
const MIN_KEY: usize = 8 + 4 + 1;
const MIN_TENSOR: usize = 8 + 4 + 4 + 8;

/// A parsed GGUF file.
#[derive(Debug, Clone)]
pub struct Gguf {
    file: Arc<MappedFile>,
    metadata: HashMap<String, MetaValue>,
    keys: Vec<String>,
    /// Where each key with its value lies in the file.
    ranges: Vec<Range<usize>>,
    tensors: Vec<Entry>,
}

/// What went wrong at a place in the file: part, expected, found.
pub(super) type Fault = (String, String, String);

fn fault(part: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Fault {
    (part.into(), expected.into(), found.into())
}

impl Gguf {
    /// Parses `file`'s metadata and tensor descriptions. No tensor data is read.
    ///
    /// # Errors
    /// [`Error::Gguf`] naming the header, key or tensor at fault.
    pub fn parse(file: &Arc<MappedFile>) -> Result<Self> {
        Self::parse_bytes(file).map_err(|(part, expected, found)| Error::Gguf {
            path: file.path().to_path_buf(),
            part,
            expected,
            found,
        })
    }

    fn parse_bytes(file: &Arc<MappedFile>) -> Result<Self, Fault> {
        let bytes = file.bytes();
        let mut reader = Reader::new(bytes);
        let (tensor_count, key_count) = header(&mut reader)?;

        let mut gguf = Gguf {
            file: file.clone(),
            metadata: HashMap::new(),
            keys: Vec::new(),
            ranges: Vec::new(),
            tensors: Vec::new(),
        };
        for index in 0..key_count {
            let part = format!("key {index}");
            let start = reader.position();
            let range = reader.string(&part)?;
            let key = utf8(bytes, &range, &part)?;
            let part = format!("key {:?}", one_line(key));
            let kind = meta_type(&mut reader, &part)?;
            let value = value(&mut reader, kind, 0, &part)?;
            if gguf.metadata.insert(key.to_string(), value).is_some() {
                return Err(fault(part, "one entry", "two"));
            }
            gguf.keys.push(key.to_string());
            gguf.ranges.push(start..reader.position());
        }
        let alignment = gguf.alignment()?;
        let mut tensors = Vec::new();
        for index in 0..tensor_count {
            tensors.push(tensor(&mut reader, bytes, index)?);
        }
        gguf.tensors = place(tensors, reader.position(), bytes.len(), alignment)?;
        Ok(gguf)
    }

    fn alignment(&self) -> Result<u64, Fault> {
        match self.metadata.get("general.alignment") {
            None => Ok(DEFAULT_ALIGNMENT),
            Some(&MetaValue::Unsigned(n)) if n.is_power_of_two() && n <= 1 << 20 => Ok(n),
            Some(other) => Err(fault(
                "key \"general.alignment\"",
                "a power of two up to 1048576",
                other.describe(self.file.bytes()),
            )),
        }
    }

    /// The tensors, in the order of their data, with the file's own names and row-major shapes.
    pub fn tensors(&self) -> &[Entry] {
        &self.tensors
    }

    /// The file.
    pub fn file(&self) -> &Arc<MappedFile> {
        &self.file
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The metadata keys, in file order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(String::as_str)
    }

    /// The metadata keys with the bytes that a file holds for each and its value, in file order.
    pub(crate) fn raw_entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let bytes = self.file.bytes();
        self.keys.iter().zip(&self.ranges).map(move |(key, range)| (key.as_str(), &bytes[range.clone()]))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&MetaValue> {
        self.metadata.get(key)
    }

    /// An unsigned integer; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is of another type or negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an unsigned integer", MetaValue::as_u64)
    }

    /// A number; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is not a number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", MetaValue::as_f64)
    }

    /// A truth value; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            MetaValue::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// A string in UTF-8; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is of another type or not UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a UTF-8 string", |value| match value {
            MetaValue::String(range) => std::str::from_utf8(self.file.bytes().get(range.clone())?).ok(),
            _ => None,
        })
    }

    /// An array; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is no array.
    pub fn array(&self, key: &str) -> Result<Option<&MetaArray>> {
        self.typed(key, "an array", |value| match value {
            MetaValue::Array(array) => Some(array),
            _ => None,
        })
    }

    /// An array of byte strings; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is no array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = &[u8]>>> {
        self.typed(key, "an array of strings", |value| match value {
            MetaValue::Array(array) => array.strings(self.file.bytes()),
            _ => None,
        })
    }

    /// An array of numbers; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is no array of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = f64>>> {
        self.typed(key, "an array of numbers", |value| match value {
            MetaValue::Array(array) => array.numbers(self.file.bytes()),
            _ => None,
        })
    }

    /// An array of truth values; `None` if the key is absent.
    ///
    /// # Errors
    /// [`Error::Config`] if the value is no array of truth values.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        self.typed(key, "an array of truth values", |value| match value {
            MetaValue::Array(array) => array.bools(self.file.bytes()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        convert: impl FnOnce(&'a MetaValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        convert(value)
            .map(Some)
            .ok_or_else(|| Error::config(self.path(), key, expected, value.describe(self.file.bytes())))
    }
}

/// Reads magic, version and counts; gives the numbers of tensors and of keys.
fn header(reader: &mut Reader<'_>) -> Result<(usize, usize), Fault> {
    let magic: [u8; 4] = reader.take("header")?;
    if &magic != b"GGUF" {
        return Err(fault("header", "the magic \"GGUF\"", format!("{:?}", magic.escape_ascii().to_string())));
    }
    let version = reader.u32("header")?;
    if matches!(version.swap_bytes(), 1..=3) {
        return Err(fault("header", "a little-endian file", "a big-endian one"));
    }
    if !matches!(version, 2 | 3) {
        return Err(fault("header", "version 2 or 3", format!("version {version}")));
    }
    let tensors = reader.u64("header")?;
    let keys = reader.u64("header")?;
    let rest = reader.remaining();
    let tensor_count = bounded("header", "tensors", tensors, rest, MIN_TENSOR)?;
    Ok((tensor_count, bounded("header", "keys", keys, rest, MIN_KEY)?))
}

/// Refuses a count of things that the rest of the file cannot hold.
fn bounded(part: &str, what: &str, count: u64, rest: usize, each: usize) -> Result<usize, Fault> {
    let limit = rest / each;
    if count > limit as u64 {
        return Err(fault(part, format!("at most {limit} {what} in {rest} bytes"), count.to_string()));
    }
    Ok(count as usize)
}

fn utf8<'a>(bytes: &'a [u8], range: &Range<usize>, part: &str) -> Result<&'a str, Fault> {
    let text = &bytes[range.clone()];
    std::str::from_utf8(text).map_err(|_| {
        let start = &text[..text.len().min(32)];
        fault(part, "a UTF-8 name", format!("\"{}\"", start.escape_ascii()))
    })
}

fn meta_type(reader: &mut Reader<'_>, part: &str) -> Result<MetaType, Fault> {
    let id = reader.u32(part)?;
    MetaType::from_id(id).ok_or_else(|| fault(part, "a value type from 0 to 12", id.to_string()))
}

fn value(reader: &mut Reader<'_>, kind: MetaType, depth: u32, part: &str) -> Result<MetaValue, Fault> {
    Ok(match kind {
        MetaType::String => MetaValue::String(reader.string(part)?),
        MetaType::Array => MetaValue::Array(array(reader, depth, part)?),
        MetaType::Bool => match reader.take::<1>(part)? {
            [0] => MetaValue::Bool(false),
            [1] => MetaValue::Bool(true),
            [other] => return Err(fault(part, "0 or 1", other.to_string())),
        },
        number => {
            let at = reader.skip(number.size(), part)?;
            number.read(&reader.bytes()[at]).ok_or_else(|| fault(part, "a number", "another type"))?
        }
    })
}

fn array(reader: &mut Reader<'_>, depth: u32, part: &str) -> Result<MetaArray, Fault> {
    if depth >= MAX_DEPTH {
        return Err(fault(part, format!("arrays nested at most {MAX_DEPTH} deep"), "deeper ones"));
    }
    let element = meta_type(reader, part)?;
    let count = reader.u64(part)?;
    let len = bounded(part, "elements", count, reader.remaining(), element.min_size())?;
    let start = reader.position();
    match element {
        MetaType::String => {
            for _ in 0..len {
                reader.string(part)?;
            }
        }
        MetaType::Array => {
            for _ in 0..len {
                array(reader, depth + 1, part)?;
            }
        }
        plain => {
            // `bounded` has shown that this product fits the file.
            reader.skip(len * plain.size(), part)?;
        }
    }
    Ok(MetaArray { element, len, range: start..reader.position() })
}

/// A tensor's description before its place in the file is known.
struct Described {
    name: String,
    kind: TensorKind,
    shape: Vec<usize>,
    /// From the start of the data section.
    offset: u64,
    len: usize,
}

fn tensor(reader: &mut Reader<'_>, bytes: &[u8], index: usize) -> Result<Described, Fault> {
    let part = format!("tensor {index}");
    let range = reader.string(&part)?;
    let name = utf8(bytes, &range, &part)?.to_string();
    let part = format!("tensor {:?}", one_line(&name));
    let rank = reader.u32(&part)?;
    if rank > MAX_RANK {
        return Err(fault(part, format!("at most {MAX_RANK} dimensions"), rank.to_string()));
    }
    let mut shape = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        let extent = reader.u64(&part)?;
        let extent = usize::try_from(extent)
            .map_err(|_| fault(&*part, "a shape that can be addressed", extent.to_string()))?;
        shape.push(extent);
    }
    // GGUF names the innermost dimension first.
    shape.reverse();
    let id = reader.u32(&part)?;
    let ggml =
        GgmlType::from_id(id).ok_or_else(|| fault(&*part, "a known GGML type", format!("type id {id}")))?;
    let kind = TensorKind::from_ggml(ggml);
    let len = kind.byte_len(&shape).ok_or_else(|| {
        let expected = format!("rows in blocks of {} and a size that can be addressed", ggml.block_size());
        fault(&*part, expected, format!("{kind} {shape:?}"))
    })?;
    Ok(Described { name, kind, shape, offset: reader.u64(&part)?, len })
}

/// Puts the tensors at their places and checks these: aligned, inside the file, without overlap.
fn place(
    described: Vec<Described>,
    header_end: usize,
    file_len: usize,
    alignment: u64,
) -> Result<Vec<Entry>, Fault> {
    let start = (header_end as u64).next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(described.len());
    let mut names = HashSet::with_capacity(described.len());
    for t in described {
        let part = || format!("tensor {:?}", one_line(&t.name));
        if !t.offset.is_multiple_of(alignment) {
            let expected = format!("an offset that is a multiple of {alignment}");
            return Err(fault(part(), expected, t.offset.to_string()));
        }
        let end = start.checked_add(t.offset).and_then(|o| o.checked_add(t.len as u64));
        if end.is_none_or(|end| end > file_len as u64) {
            let room = (file_len as u64).saturating_sub(start);
            let found = format!("{} bytes at offset {}", t.len, t.offset);
            return Err(fault(part(), format!("data within {room} bytes"), found));
        }
        if !names.insert(t.name.clone()) {
            return Err(fault(part(), "one entry", "two"));
        }
        let offset = (start + t.offset) as usize;
        tensors.push(Entry { name: t.name, kind: t.kind, shape: t.shape, offset, len: t.len });
    }
    tensors.sort_by_key(|t: &Entry| (t.offset, t.len));
    for pair in tensors.windows(2) {
        if pair[0].offset + pair[0].len > pair[1].offset {
            return Err(fault(
                format!("tensor {:?}", one_line(&pair[1].name)),
                format!("data from byte {} of the file", pair[0].offset + pair[0].len),
                format!("byte {}, which overlaps tensor {:?}", pair[1].offset, one_line(&pair[0].name)),
            ));
        }
    }
    Ok(tensors)
}
