//! Reading references, and measures of how far logits are from them.

#![allow(dead_code, reason = "every test program has a copy and uses a part of it")]

pub mod fixtures;

use std::ops::ControlFlow;
use std::path::Path;

use dacapo::{Device, DeviceOptions, MappedFile};
use dacapo_lm::checkpoint::safetensors;
use dacapo_lm::{LoadOptions, Model, Result, Session};

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

/// Differences between logits and a reference, both with the mean of each row taken away.
#[derive(Debug)]
pub struct Differences {
    /// Largest difference, in standard deviations of the reference.
    err: f64,
    /// Norm of the differences, by that of the reference.
    l2: f64,
    /// Kullback-Leibler divergence from the reference's distribution, in nats, over positions.
    kl_mean: f64,
    kl_max: f64,
}

impl Differences {
    pub fn measure(found: &[f32], reference: &[f32], vocabulary: usize) -> Self {
        assert_eq!(found.len(), reference.len());
        let (mut max, mut squares, mut total, mut kl_sum, mut kl_max) = (0_f64, 0.0, 0.0, 0.0, 0_f64);
        for (a, b) in found.chunks_exact(vocabulary).zip(reference.chunks_exact(vocabulary)) {
            for (x, y) in centred(a).zip(centred(b)) {
                // The maximum of floats passes over what is no number; such logits are as far off as can be.
                max = if (x - y).is_nan() { f64::INFINITY } else { max.max((x - y).abs()) };
                squares += (x - y) * (x - y);
                total += y * y;
            }
            let kl: f64 = log_softmax(a).zip(log_softmax(b)).map(|(p, q)| q.exp() * (q - p)).sum();
            kl_sum += kl;
            kl_max = kl_max.max(kl);
        }
        let rows = (reference.len() / vocabulary) as f64;
        Differences {
            err: max / (total / reference.len() as f64).sqrt(),
            l2: (squares / total).sqrt(),
            kl_mean: kl_sum / rows,
            kl_max,
        }
    }

    /// What is outside the limits; empty if nothing is.
    pub fn outside(&self, profile: &Profile) -> Vec<String> {
        [
            ("err", self.err, profile.err),
            ("l2", self.l2, profile.l2),
            ("mean KL", self.kl_mean, profile.kl_mean),
            ("maximum KL", self.kl_max, profile.kl_max),
        ]
        .into_iter()
        // A comparison that no NaN passes.
        .filter(|(_, found, limit)| !matches!(found.partial_cmp(limit), Some(o) if o.is_le()))
        .map(|(what, found, limit)| format!("{what} is {found:.3e}, {} allows {limit:.0e}", profile.name))
        .collect()
    }
}

fn centred(row: &[f32]) -> impl Iterator<Item = f64> {
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
    row.iter().map(move |&x| f64::from(x) - mean)
}

fn log_softmax(row: &[f32]) -> impl Iterator<Item = f64> {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    row.iter().map(move |&x| f64::from(x) - max - sum.ln())
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
