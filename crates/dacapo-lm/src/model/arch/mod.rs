//! Architectures: one file for each model family.

mod bert;
mod gemma;
mod gpt_oss;
mod llama;
mod mixtral;
mod olmo2;
mod phi3;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod qwen3_next;

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
    if loader.config().architecture == "bert" {
        return Ok(Box::new(bert::Bert::load(loader)?));
    }
    Ok(Box::new(match loader.config().architecture.as_str() {
        "llama" | "mistral" | "qwen2" | "smollm3" | "granite" => llama::load(loader)?,
        "qwen2moe" => qwen2_moe::load(loader)?,
        "qwen3" => qwen3::load(loader)?,
        "qwen3moe" => qwen3_moe::load(loader)?,
        "qwen35" | "qwen35moe" | "qwen3next" => qwen3_next::load(loader)?,
        "gemma2" => gemma::load(loader, false)?,
        "gemma3" => gemma::load(loader, true)?,
        "gpt-oss" => gpt_oss::load(loader)?,
        "mixtral" => mixtral::load(loader)?,
        "olmo2" => olmo2::load(loader)?,
        "phi3" => phi3::load(loader)?,
        other => return Err(Error::unknown_architecture(loader.path(), other)),
    }))
}
