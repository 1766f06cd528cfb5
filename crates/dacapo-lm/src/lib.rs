//! Language models on Dacapo: checkpoints, tokenizers, architectures, sampling and generation.

pub mod checkpoint;
mod error;

pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
