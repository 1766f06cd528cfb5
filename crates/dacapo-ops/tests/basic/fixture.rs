//! A reader of the fixture that `tools/oracles/ops_basic.py` makes.

use std::collections::BTreeMap;

use serde_json::Value;

/// A tensor of the fixture, as F32.
#[derive(Debug, Clone)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f32>,
}

/// One case: its parameters, inputs, expected values and their tolerances.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub params: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    pub fn input(&self, name: &str) -> &Tensor {
        self.optional(name).unwrap_or_else(|| panic!("{} has no input {name}", self.name))
    }

    pub fn optional(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("in.{name}"))
    }

    pub fn number(&self, name: &str) -> f32 {
        self.params[name].as_f64().unwrap_or_else(|| panic!("{} has no number {name}", self.name)) as f32
    }

    /// Fails unless every element is within its tolerance of the expected one.
    pub fn check(&self, got: &[f32]) {
        let (want, tol) = (&self.tensors["ref"], &self.tensors["tol"]);
        assert_eq!(got.len(), want.data.len(), "{}", self.name);
        for (i, ((got, want), tol)) in got.iter().zip(&want.data).zip(&tol.data).enumerate() {
            assert!((got - want).abs() <= *tol, "{}: element {i} is {got}, not {want} +- {tol:e}", self.name);
        }
    }

    pub fn expected(&self) -> &Tensor {
        &self.tensors["ref"]
    }
}

/// All cases of a safetensors file.
pub fn read(bytes: &[u8]) -> Vec<Case> {
    let header_len = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_len]).expect("a JSON header");
    let data = &bytes[8 + header_len..];
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, text) in header["__metadata__"].as_object().expect("metadata") {
        let params = serde_json::from_str(text.as_str().expect("text")).expect("JSON parameters");
        cases.insert(name.clone(), Case { name: name.clone(), params, tensors: BTreeMap::new() });
    }
    for (name, entry) in header.as_object().expect("an object").iter().filter(|(n, _)| *n != "__metadata__") {
        assert_eq!(entry["dtype"], "F32", "{name}");
        let numbers = |v: &Value| -> Vec<usize> {
            v.as_array()
                .expect("a list")
                .iter()
                .map(|n| n.as_u64().expect("a whole number") as usize)
                .collect()
        };
        let offsets = numbers(&entry["data_offsets"]);
        let words = data[offsets[0]..offsets[1]].chunks_exact(4);
        let tensor = Tensor {
            shape: numbers(&entry["shape"]),
            data: words.map(|w| f32::from_le_bytes(w.try_into().expect("four bytes"))).collect(),
        };
        let (case, tensor_name) = name.split_once('/').expect("CASE/NAME");
        cases.get_mut(case).expect("a known case").tensors.insert(tensor_name.to_owned(), tensor);
    }
    cases.into_values().collect()
}
