//! Writing checkpoints: any that can be read, quantized anew, as an MLX folder or a GGUF file.
//!
//! Weights are read, quantized and written some rows at a time, so that memory stays small whatever the model's size.
//! What is written has its final name only once it is whole.

mod compare;
mod delta;
mod encode;
mod experts;
mod folder;
mod gguf_file;
mod input;
mod metadata;
mod mix;
mod partial;
mod special;
mod to_config;
mod vocabulary;

use std::ops::ControlFlow;
use std::path::Path;

use dacapo_ops::quant::{Float, affine};

pub use mix::{GgufType, Mix};

use crate::checkpoint::{Checkpoint, ModelConfig};
use crate::error::{Error, Result};

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// An MLX folder with affine weights.
    Mlx {
        /// Bits of a code: 2, 3, 4, 5, 6 or 8.
        bits: u8,
        /// Values that share a scale and a bias: 32, 64 or 128.
        group: u8,
    },
    /// A GGUF file.
    Gguf(Mix),
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Values that the tensors stand for.
    pub parameters: u64,
}

impl Converted {
    /// Bits of the tensors for each value.
    pub fn bits_per_weight(&self) -> f64 {
        self.tensor_bytes as f64 * 8.0 / self.parameters.max(1) as f64
    }
}

/// Hears of the source's bytes that are done, of all, and may break off.
pub type Progress<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// Writes `checkpoint` to `out`. `None` if `progress` broke off; then, and on every error, nothing is left, and what was at
/// `out` before is there still.
///
/// Matrices whose rows are not whole groups stay as they are in an MLX folder, and take a type with smaller blocks in a
/// GGUF file, as MLX and llama.cpp do it. Norms, biases, routers and convolutions are never quantized. Experts are put together
/// in one tensor for each projection. Tokenizer, chat template and configuration are carried over.
///
/// # Errors
/// [`Error::Option`] if the numbers of the target are none that can be; [`Error::Exists`] if something is at `out` and is
/// not to be overwritten; [`Error::Unconvertible`] if the target cannot hold the model; [`Error::BadWeight`] if a weight is
/// not finite; what reading and writing find.
pub fn convert(
    checkpoint: &Checkpoint,
    out: &Path,
    target: Target,
    overwrite: bool,
    progress: &mut Progress<'_>,
) -> Result<Option<Converted>> {
    if let (Ok(from), Ok(to)) = (checkpoint.path().canonicalize(), out.canonicalize())
        && from.starts_with(&to)
    {
        return Err(unconvertible(out, "a path other than the source's", "the source"));
    }
    let place = partial::Place::new(out, overwrite)?;
    match target {
        Target::Mlx { bits, group } => {
            check("bits", "2, 3, 4, 5, 6 or 8", bits, &affine::BITS)?;
            check("group", "32, 64 or 128", group, &affine::GROUPS)?;
            folder::write(checkpoint, place, bits, group, progress)
        }
        Target::Gguf(mix) => gguf_file::write(checkpoint, place, mix, progress),
    }
}

fn check(option: &'static str, expected: &str, found: u8, known: &[u8]) -> Result<()> {
    if known.contains(&found) {
        return Ok(());
    }
    Err(Error::Option { option, expected: expected.into(), found: found.to_string() })
}

/// Refuses models that are written in one kind of checkpoint only: Hugging Face's folder as a GGUF file, and the reverse, are
/// known of decoders.
fn check_across(checkpoint: &Checkpoint, model: &ModelConfig) -> Result<()> {
    if model.causal {
        return Ok(());
    }
    let kind = match checkpoint.gguf() {
        Some(_) => "an MLX folder from a GGUF file",
        None => "a GGUF file from a folder",
    };
    let expected = format!("a decoder for {kind}");
    Err(unconvertible(checkpoint.path(), expected, format!("{:?}", model.architecture)))
}

/// Refuses what was written if it says something else than the source: not every model has words in both kinds of files.
///
/// # Errors
/// [`Error::Unconvertible`] naming what differs; if it cannot be read.
fn same_model(source: &Checkpoint, model: &ModelConfig, written: &Checkpoint) -> Result<()> {
    match compare::difference(model, &written.model_config()?) {
        None => Ok(()),
        Some(what) => {
            let kind = if written.gguf().is_some() { "a GGUF file" } else { "config.json" };
            let found = format!("{what} that it would read differently");
            Err(unconvertible(source.path(), format!("a model that {kind} can describe"), found))
        }
    }
}

fn unconvertible(path: &Path, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Unconvertible { path: path.to_path_buf(), expected: expected.into(), found: found.into() }
}

/// Bytes of a dense value.
fn dense_bytes(float: Float, values: usize) -> u64 {
    (float.size() * values) as u64
}
