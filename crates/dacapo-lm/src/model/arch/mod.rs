//! Architectures: one file for each model family.

mod llama;
mod mistral;
mod qwen2;
mod qwen3;

use super::load::Loader;
use super::pass::Pass;
use crate::error::{Error, Result};

/// A model family: weights, and what they compute.
pub(crate) trait Architecture: Send + Sync {
    /// Encodes a forward pass: from the pass's tokens to its logits, with keys and values in its cache.
    fn forward(&self, pass: &mut Pass<'_>) -> Result<()>;
}

/// Loads the weights of the configuration's architecture.
pub(crate) fn load(loader: &mut Loader<'_>) -> Result<Box<dyn Architecture>> {
    match loader.config().architecture.as_str() {
        "llama" => Ok(Box::new(llama::Llama::load(loader)?)),
        "mistral" => Ok(Box::new(mistral::Mistral::load(loader)?)),
        "qwen2" => Ok(Box::new(qwen2::Qwen2::load(loader)?)),
        "qwen3" => Ok(Box::new(qwen3::Qwen3::load(loader)?)),
        other => Err(Error::UnknownArchitecture {
            path: loader.path().to_path_buf(),
            name: other.to_owned(),
            known: crate::checkpoint::ARCHITECTURES.join(", "),
        }),
    }
}
