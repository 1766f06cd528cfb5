//! The safetensors format: eight bytes of header length, a JSON header, tensor data.
//!
//! The format is that of the safetensors project. A file is accepted only if its tensors cover the data
//! exactly: no overlap, no gap, nothing left over. Data may start at any byte; MLX writes it unaligned.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::tensor::TensorKind;
use crate::error::{Error, Result, one_line};

/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// The most dimensions that a tensor may have here.
const MAX_RANK: usize = 8;

/// A tensor as a header describes it, checked against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The tensor's name.
    pub name: String,
    /// Element type.
    pub kind: TensorKind,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// First byte in the file.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

/// What a safetensors file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Safetensors {
    /// The tensors, in the order of their data.
    pub tensors: Vec<Entry>,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Parses the file's `bytes`; `path` is for messages. No tensor data is read.
///
/// # Errors
/// [`Error::Safetensors`] naming the header or the tensor at fault.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Safetensors> {
    let fail = |part: &str, expected: String, found: String| Error::Safetensors {
        path: path.to_path_buf(),
        part: part.to_string(),
        expected,
        found,
    };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(fail("header", "a length of 8 bytes".into(), format!("a file of {} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER || length > rest.len() as u64 {
        return Err(fail(
            "header",
            format!("at most {} bytes", MAX_HEADER.min(rest.len() as u64)),
            format!("a header of {length} bytes"),
        ));
    }
    let (json, data) = rest.split_at(length as usize);
    let header: Header = serde_json::from_slice(json)
        .map_err(|e| fail("header", "a JSON object of tensors".into(), one_line(&e.to_string())))?;

    let data_start = 8 + json.len();
    let mut tensors = Vec::with_capacity(header.tensors.len());
    let mut names = HashSet::with_capacity(header.tensors.len());
    for (name, raw) in &header.tensors {
        let part = format!("tensor {:?}", one_line(name));
        if !names.insert(name.as_str()) {
            return Err(fail(&part, "one entry".into(), "two".into()));
        }
        tensors.push(
            entry(name, raw, data.len(), data_start)
                .map_err(|(expected, found)| fail(&part, expected, found))?,
        );
    }
    tensors.sort_by_key(|t: &Entry| (t.offset, t.len));
    check_coverage(&tensors, data_start, bytes.len())
        .map_err(|(part, expected, found)| fail(&part, expected, found))?;
    Ok(Safetensors { tensors, metadata: header.metadata })
}

/// Checks one entry by itself; on failure gives what was expected and what was found.
fn entry(name: &str, raw: &RawEntry, data: usize, data_start: usize) -> Result<Entry, (String, String)> {
    let kind = TensorKind::from_safetensors(&raw.dtype)
        .ok_or_else(|| ("a known dtype".to_string(), format!("{:?}", one_line(&raw.dtype))))?;
    if raw.shape.len() > MAX_RANK {
        return Err((format!("at most {MAX_RANK} dimensions"), raw.shape.len().to_string()));
    }
    let shape = raw
        .shape
        .iter()
        .map(|&d| usize::try_from(d).ok())
        .collect::<Option<Vec<usize>>>()
        .ok_or_else(|| ("a shape that can be addressed".to_string(), format!("{:?}", raw.shape)))?;
    let (begin, end) = raw.data_offsets;
    if begin > end || end > data as u64 {
        return Err((format!("data_offsets within {data} bytes of data"), format!("[{begin}, {end}]")));
    }
    let len = (end - begin) as usize;
    match kind.byte_len(&shape) {
        Some(bytes) if bytes == len => {}
        Some(bytes) => return Err((format!("{bytes} bytes for {kind} {shape:?}"), format!("{len} bytes"))),
        None => {
            return Err(("a size in whole bytes that can be addressed".into(), format!("{kind} {shape:?}")));
        }
    }
    Ok(Entry { name: name.to_string(), kind, shape, offset: data_start + begin as usize, len })
}

/// Checks that the sorted tensors cover the data exactly; gives part, expected and found.
fn check_coverage(tensors: &[Entry], start: usize, end: usize) -> Result<(), (String, String, String)> {
    let mut at = start;
    for tensor in tensors {
        if tensor.offset != at {
            let what = if tensor.offset < at { "overlaps" } else { "leaves a gap after" };
            return Err((
                format!("tensor {:?}", one_line(&tensor.name)),
                format!("data at byte {}", at - start),
                format!("byte {}, which {what} the tensor before it", tensor.offset - start),
            ));
        }
        at += tensor.len;
    }
    if at != end {
        return Err((
            "data".into(),
            format!("{} bytes, as the tensors cover", at - start),
            format!("{} bytes", end - start),
        ));
    }
    Ok(())
}

#[derive(Deserialize)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header's entries as they stand: a map type would hide names that are given twice.
struct Header {
    tensors: Vec<(String, RawEntry)>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
