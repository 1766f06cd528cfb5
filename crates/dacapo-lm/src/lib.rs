//! Language models on Dacapo: checkpoints, tokenizers, architectures, sampling and generation.

mod chain;
pub mod checkpoint;
pub mod convert;
mod demo;
mod embed;
mod error;
mod generate;
mod generator;
mod model;
mod perplexity;
mod profile;
mod sampler;
mod session;
pub mod template;
pub mod tokenizer;

pub use checkpoint::{Checkpoint, ModelConfig};
pub use demo::demo;
pub use embed::{EmbedOptions, Embedder, Pooling};
pub use error::{Error, Result};
pub use generate::{Event, FinishReason, GenerateOptions, Generation, Sampling};
pub use model::{Footprint, LoadOptions, LoadProgress, Model};
pub use perplexity::{Comparison, Perplexity, compare, perplexity};
pub use profile::{Profile, ProfiledGraph, ProfiledNode, ProfiledRun};
pub use session::{Session, SessionOptions, Stage, graph_options};
pub use template::{ChatTemplate, Message, TemplateOptions};
pub use tokenizer::{DecodeStream, Tokenizer};
