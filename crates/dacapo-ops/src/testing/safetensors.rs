//! A reader of small safetensors files, for fixtures.

use std::collections::BTreeMap;

/// A tensor's type, shape and little-endian bytes.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Such as `F32`.
    pub dtype: String,
    /// Extent of each dimension.
    pub shape: Vec<usize>,
    /// Values, row by row.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// The values as f64. Panics for types that fixtures of this crate do not use.
    pub fn to_f64(&self) -> Vec<f64> {
        let chunks = |size| self.bytes.chunks_exact(size);
        match self.dtype.as_str() {
            "F64" => chunks(8).map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes"))).collect(),
            "F32" => self.to_f32().into_iter().map(f64::from).collect(),
            other => panic!("fixtures hold no {other} to be read as f64"),
        }
    }

    /// The values of an F32 tensor.
    pub fn to_f32(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "F32");
        self.bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
    }
}

/// All tensors of a file. Panics if it is malformed.
pub fn read(file: &[u8]) -> BTreeMap<String, Tensor> {
    let header_len = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let (header, data) = file[8..].split_at(header_len);
    let header: serde_json::Value = serde_json::from_slice(header).expect("a JSON header");
    let numbers = |value: &serde_json::Value| -> Vec<usize> {
        let list = value.as_array().expect("a list of numbers").iter();
        list.map(|n| n.as_u64().expect("a number") as usize).collect()
    };
    let entries = header.as_object().expect("an object").iter().filter(|(name, _)| *name != "__metadata__");
    let tensor = |entry: &serde_json::Value| {
        let range = numbers(&entry["data_offsets"]);
        Tensor {
            dtype: entry["dtype"].as_str().expect("a type").to_string(),
            shape: numbers(&entry["shape"]),
            bytes: data[range[0]..range[1]].to_vec(),
        }
    };
    entries.map(|(name, entry)| (name.clone(), tensor(entry))).collect()
}
