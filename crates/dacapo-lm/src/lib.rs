//! Language models on Dacapo: checkpoints, tokenizers, architectures, sampling and generation.

pub mod checkpoint;
mod error;
pub mod template;
pub mod tokenizer;

pub use checkpoint::Checkpoint;
pub use error::{Error, Result};
pub use template::{ChatTemplate, Message, TemplateOptions};
pub use tokenizer::{DecodeStream, Tokenizer};
