//! A model's configuration, the same for every format of checkpoint.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::error::{Error, Result};

/// The architectures that can be run, by the names that `model_type` and `general.architecture` use.
pub const ARCHITECTURES: [&str; 4] = ["llama", "mistral", "qwen2", "qwen3"];

/// The most that a count or a width may be: far above every model, and small enough that products of two
/// cannot overflow.
pub(super) const LIMIT: u64 = 1 << 28;
/// The most layers.
pub(super) const MAX_LAYERS: u64 = 4096;

/// The configuration of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// One of [`ARCHITECTURES`].
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Tokens that the model was made for.
    pub context_length: usize,
    /// Epsilon of the RMS norms.
    pub rms_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// Whether the output layer is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the projections to queries, keys and values have biases.
    pub attention_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub attention_output_bias: bool,
    /// Whether the MLP's projections have biases.
    pub mlp_bias: bool,
    /// For each layer, how many positions a token sees, itself included; `None` is all of them.
    pub sliding_windows: Vec<Option<usize>>,
    /// Activation inside the MLP.
    pub hidden_act: Activation,
    /// The token that starts a text.
    pub bos_id: Option<u32>,
    /// The tokens that end one, from every place that names some.
    pub eos_ids: Vec<u32>,
}

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)` with the normal distribution function.
    Gelu,
    /// [`Gelu`](Self::Gelu) with its tanh approximation.
    GeluTanh,
}

/// Rotary position embedding (Su et al., "RoFormer", 2021).
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies.
    pub theta: f64,
    /// How frequencies are changed for contexts beyond those of the training.
    pub scaling: RopeScaling,
    /// Whether pairs are neighbours (GGUF files of llama, whose rows are permuted) or halves of the head.
    pub interleaved: bool,
}

/// How rotary frequencies are scaled; the formulas are those of transformers' `modeling_rope_utils`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided, high ones kept, those between blended.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// Context of the training.
        original: usize,
    },
    /// YaRN (Peng et al., 2023).
    Yarn {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Context of the training.
        original: usize,
        /// Rotations over that context above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which it is divided.
        beta_slow: f64,
        /// Multiplies cosine and sine.
        attention_factor: f64,
        /// Whether the range of blended dimensions is rounded outwards to whole ones.
        truncate: bool,
    },
    /// Each frequency divided by its element of the tensor `rope_freqs.weight`, `[head_dim / 2]` floats.
    Factors,
}

impl ModelConfig {
    /// Checks what the numbers must have in common; `keys` are their names in the file.
    pub(super) fn check(&self, path: &Path, keys: &Keys) -> Result<()> {
        let fail = |key: &str, expected: String, found: usize| {
            Err(Error::config(path, key, expected, found.to_string()))
        };
        if !self.heads.is_multiple_of(self.kv_heads) {
            return fail(keys.kv_heads, format!("a divisor of the {} heads", self.heads), self.kv_heads);
        }
        if !self.head_dim.is_multiple_of(2) {
            return fail(keys.head_dim, "an even number".into(), self.head_dim);
        }
        if self.head_dim as u64 * self.heads as u64 > LIMIT {
            return fail(keys.head_dim, format!("at most {} for all heads", LIMIT), self.head_dim);
        }
        if let Some(id) = self.bos_id.filter(|&id| id as usize >= self.vocab_size) {
            return fail(keys.bos, format!("a token below {}", self.vocab_size), id as usize);
        }
        Ok(())
    }
}

/// Names of configuration keys that checks of several values report.
pub(super) struct Keys<'a> {
    pub(super) kv_heads: &'a str,
    pub(super) head_dim: &'a str,
    pub(super) bos: &'a str,
}

/// Refuses a count outside `range`.
pub(super) fn in_range(path: &Path, key: &str, value: u64, range: RangeInclusive<u64>) -> Result<usize> {
    if range.contains(&value) {
        return Ok(value as usize);
    }
    let expected = format!("an integer from {} to {}", range.start(), range.end());
    Err(Error::config(path, key, expected, value.to_string()))
}

/// Refuses what is no positive finite number.
pub(super) fn positive(path: &Path, key: &str, value: f64) -> Result<f64> {
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(Error::config(path, key, "a positive number", value.to_string()))
}

/// The error for an architecture that is not among [`ARCHITECTURES`].
pub(super) fn unknown_architecture(path: &Path, name: &str) -> Error {
    Error::UnknownArchitecture {
        path: path.to_path_buf(),
        name: crate::error::one_line(name),
        known: ARCHITECTURES.join(", "),
    }
}

/// YaRN's multiplier of cosine and sine for a `factor`, weighted with `weight`.
pub(super) fn yarn_mscale(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
}
