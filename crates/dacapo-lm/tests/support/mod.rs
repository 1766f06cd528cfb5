//! Reading references, and measures of how far logits are from them.

#![allow(dead_code, reason = "every test program has a copy and uses a part of it")]

pub mod embeddings;
pub mod fixtures;
#[path = "../../examples/agree/measure.rs"]
pub mod measure;
pub mod random;
pub mod states;

use std::ops::ControlFlow;
use std::path::Path;

use dacapo::{Device, DeviceOptions, MappedFile};
use dacapo_lm::checkpoint::safetensors;
use dacapo_lm::{LoadOptions, Model, Result, Session};
use measure::Agreement;

/// Tensors of a file of references.
pub struct Reference {
    file: std::sync::Arc<MappedFile>,
    entries: Vec<safetensors::Entry>,
}

impl Reference {
    pub fn open(path: &Path) -> Self {
        let file = MappedFile::open(path).unwrap();
        let entries = safetensors::parse(path, file.bytes()).unwrap().tensors;
        Reference { file, entries }
    }

    /// The 4-byte elements of a tensor; none if the file does not have it.
    fn words(&self, name: &str) -> Option<Vec<[u8; 4]>> {
        let entry = self.entries.iter().find(|e| e.name == name)?;
        let bytes = &self.file.bytes()[entry.offset..entry.offset + entry.len];
        Some(bytes.chunks_exact(4).map(|b| b.try_into().unwrap()).collect())
    }

    pub fn tokens(&self, name: &str) -> Option<Vec<u32>> {
        Some(self.words(name)?.into_iter().map(u32::from_le_bytes).collect())
    }

    pub fn floats(&self, name: &str) -> Option<Vec<f32>> {
        Some(self.words(name)?.into_iter().map(f32::from_le_bytes).collect())
    }
}

/// Limits of the differences between logits and a reference.
pub struct Profile {
    name: &'static str,
    err: f64,
    l2: f64,
    kl_mean: f64,
    kl_max: f64,
}

/// The same weights, activations and sums in F32, in another order of summation.
pub const F32: Profile = Profile { name: "f32", err: 2e-4, l2: 2e-5, kl_mean: 1e-9, kl_max: 1e-8 };
/// As [`F32`] with a cache of keys and values in F16.
pub const F16_CACHE: Profile =
    Profile { name: "f16 cache", err: 2e-2, l2: 4e-3, kl_mean: 3e-5, kl_max: 3e-4 };
/// As [`F16_CACHE`] with activations in blocks of int8.
pub const INT8: Profile = Profile { name: "int8", err: 0.5, l2: 8e-2, kl_mean: 1e-2, kl_max: 5e-2 };

/// As [`INT8`] where a token near the border between two experts may go to the other one.
pub const FLIPPED: Profile = Profile { name: "int8, experts", err: 4.0, l2: 0.4, kl_mean: 0.1, kl_max: 2.0 };
/// Weights of other values in about 8 bits each. Delta nets keep errors, and tokens may go to other experts.
pub const EIGHT_BITS: Profile =
    Profile { name: "8 bits, delta nets or experts", err: 4.0, l2: 0.4, kl_mean: 0.1, kl_max: 4.0 };

/// Differences between logits and a reference.
#[derive(Debug)]
pub struct Differences(Agreement);

impl Differences {
    pub fn measure(found: &[f32], reference: &[f32], vocabulary: usize) -> Self {
        Differences(Agreement::of(found, reference, vocabulary))
    }

    /// What is outside the limits; empty if nothing is.
    pub fn outside(&self, profile: &Profile) -> Vec<String> {
        let Agreement { largest, relative, divergence: [mean, most], .. } = self.0;
        [
            ("err", largest, profile.err),
            ("l2", relative, profile.l2),
            ("mean KL", mean, profile.kl_mean),
            ("maximum KL", most, profile.kl_max),
        ]
        .into_iter()
        // A comparison that no NaN passes.
        .filter(|(_, found, limit)| !matches!(found.partial_cmp(limit), Some(o) if o.is_le()))
        .map(|(what, found, limit)| format!("{what} is {found:.3e}, {} allows {limit:.0e}", profile.name))
        .collect()
    }
}

/// A device of this many threads.
pub fn device(threads: usize) -> Device {
    Device::open(DeviceOptions { threads: Some(threads), ..Default::default() }).unwrap()
}

pub fn load(path: &Path, threads: usize, exact: bool) -> Model {
    let options = LoadOptions { exact, ..Default::default() };
    Model::load(&device(threads), path, &options, &mut |_| {})
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The logits at each of `tokens`, row after row.
pub fn logits(session: &mut Session, tokens: &[u32]) -> Result<Vec<f32>> {
    let mut rows = Vec::new();
    session.logits(tokens, &mut |index, row| {
        assert_eq!(index * row.len(), rows.len(), "positions come in order");
        rows.extend_from_slice(row);
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}
