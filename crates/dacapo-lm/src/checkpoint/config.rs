//! A model's configuration, the same for every format of checkpoint.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::embed::Pooling;
use crate::error::{Error, Result};

/// The architectures that can be run, by the names that `model_type` and `general.architecture` use.
pub const ARCHITECTURES: [&str; 18] = [
    "bert",
    "gemma2",
    "gemma3",
    "gpt-oss",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen35",
    "qwen35moe",
    "qwen3moe",
    "qwen3next",
    "smollm3",
];

/// The most that a count or a width may be: far above every model, and small enough that products of two
/// cannot overflow.
pub(super) const LIMIT: u64 = 1 << 28;
/// The most layers.
pub(super) const MAX_LAYERS: u64 = 4096;

/// The configuration of a transformer.
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
    /// Epsilon of the norms.
    pub rms_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeConfig,
    /// That of layers with a sliding window, where it is another (Gemma 3).
    pub local_rope: Option<RopeConfig>,
    /// For each layer, whether queries and keys are rotated; SmolLM 3 leaves some as they are.
    pub rotated: Vec<bool>,
    /// Whether a token sees only those before it: a decoder, which goes on with a text. Otherwise an encoder.
    pub causal: bool,
    /// Kinds of text that an encoder tells apart; 0 if there are none.
    pub token_types: usize,
    /// How the states of tokens become a vector for a text, if the checkpoint says so.
    pub pooling: Option<Pooling>,
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
    /// The layers with a gated delta net in the place of attention (Qwen3-Next, Qwen3.5), if there are any.
    pub delta_nets: Option<DeltaNets>,
    /// Activation inside the MLP.
    pub hidden_act: Activation,
    /// The experts of layers that have some instead of an MLP.
    pub experts: Option<ExpertsConfig>,
    /// What attention's scores are multiplied by before the softmax.
    pub attention_scale: f64,
    /// Scores become `cap * tanh(score / cap)` (Gemma 2).
    pub attention_softcap: Option<f64>,
    /// Logits become `cap * tanh(logit / cap)` (Gemma 2).
    pub logit_softcap: Option<f64>,
    /// What the rows of the embedding are multiplied by.
    pub embedding_scale: f64,
    /// What attention and MLP give is multiplied by before it is added to the residual stream (Granite).
    pub residual_scale: f64,
    /// What logits are multiplied by (Granite).
    pub logit_scale: f64,
    /// Added to the weights of norms as they are stored: Gemma's folders hold them less 1.
    pub norm_offset: f64,
    /// The token that starts a text.
    pub bos_id: Option<u32>,
    /// The tokens that end one, from every place that names some.
    pub eos_ids: Vec<u32>,
}

/// A mixture of experts: MLPs of which each token goes through a few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertsConfig {
    /// How many there are.
    pub count: usize,
    /// How many each token goes through.
    pub chosen: usize,
    /// Width inside one.
    pub width: usize,
    /// Whether the weights of a token's experts add up to 1.
    pub normalized: bool,
    /// Width inside the expert that every token goes through besides, if there is one.
    pub shared_width: Option<usize>,
    /// For each layer, whether it has experts; the others have an MLP.
    pub layers: Vec<bool>,
}

/// Gated delta nets (Yang, Kautz and Hatamizadeh, 2024): which layers they are, and their widths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaNets {
    /// For each layer, whether it is one.
    pub layers: Vec<bool>,
    /// Heads of queries and keys.
    pub key_heads: usize,
    /// Heads of values; a multiple of `key_heads`.
    pub value_heads: usize,
    /// Width of a query or key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// Tokens that the convolution before the heads sees, a token itself included.
    pub taps: usize,
    /// Whether value heads go around the key heads, as in llama.cpp's files of Qwen3.5; otherwise neighbours share one.
    pub tiled: bool,
}

impl DeltaNets {
    /// Channels of the convolution: queries, keys and values.
    pub fn channels(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.values()
    }

    /// Elements of a token's values.
    pub fn values(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Bytes that all these layers keep of a text, however long it is.
    pub fn state_bytes(&self) -> u64 {
        let layer = (self.taps - 1) * self.channels() + self.key_dim * self.values();
        4 * (layer * self.layers.iter().filter(|&&is| is).count()) as u64
    }
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
    /// Whether pairs are neighbours (GGUF files of llama, whose rows are permuted) or halves of the rotated part.
    pub interleaved: bool,
    /// Elements of a head that are rotated, from its first; even.
    pub dims: usize,
}

/// How rotary frequencies are scaled; the formulas are those of transformers' `modeling_rope_utils`.
#[derive(Debug, Clone, PartialEq)]
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
    /// LongRoPE (Ding et al., 2024): each frequency divided by its element of one of two lists. A context of up to
    /// `original` tokens takes the short one, a longer one the other for all of its tokens.
    LongRope {
        /// Divisors within the context of the training, one for each rotated pair.
        short: Vec<f32>,
        /// Divisors beyond it.
        long: Vec<f32>,
        /// Context of the training.
        original: usize,
        /// Multiplies cosine and sine.
        attention_factor: f64,
    },
    /// Each frequency divided by its element of the tensor `rope_freqs.weight`, `[dims / 2]` floats.
    Factors,
}

impl ModelConfig {
    /// Which projections have biases: to queries, keys and values; the attention's output; the MLP's.
    pub(super) fn set_biases(&mut self, qkv: bool, output: bool, mlp: bool) {
        (self.attention_bias, self.attention_output_bias, self.mlp_bias) = (qkv, output, mlp);
    }

    /// Layers with attention, which keep keys and values.
    pub fn attention_layers(&self) -> usize {
        let nets = self.delta_nets.iter().flat_map(|nets| &nets.layers);
        self.layers - nets.filter(|&&is| is).count()
    }

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
        if !self.rope.dims.is_multiple_of(2) || self.rope.dims > self.head_dim {
            let expected = format!("an even number up to {}, the width of a head", self.head_dim);
            return fail(keys.rope_dims, expected, self.rope.dims);
        }
        if let RopeScaling::LongRope { short, long, .. } = &self.rope.scaling
            && let Some(list) = [short, long].into_iter().find(|list| list.len() != self.rope.dims / 2)
        {
            let expected = format!("{} numbers in short and long list", self.rope.dims / 2);
            return fail("LongRoPE factors", expected, list.len());
        }
        if let Some(nets) =
            self.delta_nets.as_ref().filter(|nets| !nets.value_heads.is_multiple_of(nets.key_heads))
        {
            let expected = format!("a multiple of the {} key heads", nets.key_heads);
            return fail(keys.delta_heads, expected, nets.value_heads);
        }
        if self.head_dim as u64 * self.heads as u64 > LIMIT {
            return fail(keys.head_dim, format!("at most {} for all heads", LIMIT), self.head_dim);
        }
        if let Some(experts) = self.experts.as_ref().filter(|e| e.chosen > e.count) {
            let expected = format!("at most the {} experts that there are", experts.count);
            return fail(keys.chosen_experts, expected, experts.chosen);
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
    pub(super) rope_dims: &'a str,
    pub(super) delta_heads: &'a str,
    pub(super) bos: &'a str,
    pub(super) chosen_experts: &'a str,
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

/// LongRoPE's multiplier of cosine and sine for a context stretched by `factor` from `original`.
pub(super) fn longrope_factor(factor: f64, original: usize) -> f64 {
    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() }
}

/// YaRN's multiplier of cosine and sine for a `factor`, weighted with `weight`.
pub(super) fn yarn_mscale(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
}
