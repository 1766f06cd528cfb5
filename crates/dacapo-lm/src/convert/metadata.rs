//! Keys of a GGUF file: those of another one, or those that say what a folder's files say.

use crate::checkpoint::gguf::Gguf;
use crate::checkpoint::{Checkpoint, ModelConfig, RopeScaling};
use crate::error::Result;

use super::mix::Mix;
use super::special::gguf_architecture;
use super::{special, vocabulary};

/// The version of GGML's block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// Keys and values in a GGUF file's bytes.
#[derive(Debug, Default)]
pub(super) struct Keys {
    count: u64,
    bytes: Vec<u8>,
}

fn push_string(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Keys {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn start(&mut self, key: &str, kind: u32) -> &mut Vec<u8> {
        self.count += 1;
        push_string(key, &mut self.bytes);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        &mut self.bytes
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.start(key, 4).extend_from_slice(&value.to_le_bytes());
    }

    /// A count, which the configuration has checked.
    pub(super) fn count_of(&mut self, key: &str, value: usize) {
        self.u32(key, u32::try_from(value).unwrap_or(u32::MAX));
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.start(key, 6).extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, key: &str, value: bool) {
        self.start(key, 7).push(value.into());
    }

    pub(super) fn string(&mut self, key: &str, value: &str) {
        push_string(value, self.start(key, 8));
    }

    fn start_array(&mut self, key: &str, kind: u32, len: usize) -> &mut Vec<u8> {
        let out = self.start(key, 9);
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&(len as u64).to_le_bytes());
        out
    }

    pub(super) fn strings(&mut self, key: &str, values: &[String]) {
        let out = self.start_array(key, 8, values.len());
        values.iter().for_each(|value| push_string(value, out));
    }

    pub(super) fn f32s(&mut self, key: &str, values: &[f32]) {
        let out = self.start_array(key, 6, values.len());
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }

    pub(super) fn bools(&mut self, key: &str, values: impl ExactSizeIterator<Item = bool>) {
        let out = self.start_array(key, 7, values.len());
        values.for_each(|value| out.push(value.into()));
    }

    pub(super) fn i32s(&mut self, key: &str, values: &[i32]) {
        let out = self.start_array(key, 5, values.len());
        values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
    }
}

/// The keys of another GGUF file, with the type of its tensors changed.
pub(super) fn from_gguf(gguf: &Gguf, mix: Mix) -> Keys {
    let mut keys = Keys::default();
    let ours = ["general.file_type", "general.quantization_version", "general.alignment"];
    for (key, bytes) in gguf.raw_entries() {
        if !ours.contains(&key) && !key.starts_with("split.") {
            keys.count += 1;
            keys.bytes.extend_from_slice(bytes);
        }
    }
    add_types(&mut keys, mix);
    keys
}

fn add_types(keys: &mut Keys, mix: Mix) {
    keys.u32("general.quantization_version", QUANTIZATION_VERSION);
    keys.u32("general.file_type", mix.file_type());
}

/// The keys that say what the configuration and tokenizer of a folder say.
///
/// # Errors
/// [`Error::Unconvertible`](crate::Error::Unconvertible) if GGUF has no words for it.
pub(super) fn from_folder(checkpoint: &Checkpoint, model: &ModelConfig, mix: Mix) -> Result<Keys> {
    check_widths(checkpoint, model)?;
    let architecture = gguf_architecture(model);
    let mut keys = Keys::default();
    keys.string("general.architecture", architecture);
    keys.string("general.type", "model");
    if let Some(name) = checkpoint.path().canonicalize().ok().as_deref().and_then(|path| path.file_name()) {
        keys.string("general.name", &name.to_string_lossy());
    }
    let key = |name: &str| format!("{architecture}.{name}");
    keys.count_of(&key("context_length"), model.context_length);
    keys.count_of(&key("embedding_length"), model.hidden_size);
    keys.count_of(&key("block_count"), model.layers);
    keys.count_of(&key("feed_forward_length"), model.intermediate_size);
    keys.count_of(&key("attention.head_count"), model.heads);
    keys.count_of(&key("attention.head_count_kv"), model.kv_heads);
    keys.f32(&key("attention.layer_norm_rms_epsilon"), model.rms_eps);
    for name in ["attention.key_length", "attention.value_length"] {
        keys.count_of(&key(name), model.head_dim);
    }
    keys.count_of(&key("rope.dimension_count"), model.rope.dims);
    keys.count_of(&key("vocab_size"), model.vocab_size);
    if let Some(window) = special::window(model) {
        keys.count_of(&key("attention.sliding_window"), window);
    }
    special::add_keys(&mut keys, checkpoint, model);
    add_rope(&mut keys, architecture, model);
    vocabulary::add(&mut keys, checkpoint, model)?;
    add_types(&mut keys, mix);
    Ok(keys)
}

/// Checks the widths by which lists are made against tensors, so that files cannot ask for more than they hold.
fn check_widths(checkpoint: &Checkpoint, model: &ModelConfig) -> Result<()> {
    checkpoint.linear("model.embed_tokens", model.vocab_size, model.hidden_size)?;
    let queries = model.heads * model.head_dim;
    let (query, rows) = match model.architecture.as_str() {
        "phi3" => ("qkv_proj", queries + 2 * model.kv_heads * model.head_dim),
        // With a gate for each query.
        _ if model.delta_nets.is_some() => ("q_proj", 2 * queries),
        _ => ("q_proj", queries),
    };
    let has_attention = |layer: &usize| model.delta_nets.as_ref().is_none_or(|nets| !nets.layers[*layer]);
    if let Some(layer) = (0..model.layers).find(has_attention) {
        checkpoint.linear(&format!("model.layers.{layer}.self_attn.{query}"), rows, model.hidden_size)?;
    }
    Ok(())
}

fn add_rope(keys: &mut Keys, architecture: &str, model: &ModelConfig) {
    let key = |name: &str| format!("{architecture}.rope.{name}");
    keys.f32(&key("freq_base"), model.rope.theta as f32);
    match model.rope.scaling {
        // Llama 3.1's and those of a file are a tensor of factors, those of LongRoPE two.
        RopeScaling::None
        | RopeScaling::Llama3 { .. }
        | RopeScaling::Factors
        | RopeScaling::LongRope { .. } => {}
        RopeScaling::Linear { factor } => {
            keys.string(&key("scaling.type"), "linear");
            keys.f32(&key("scaling.factor"), factor as f32);
        }
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, .. } => {
            keys.string(&key("scaling.type"), "yarn");
            keys.f32(&key("scaling.factor"), factor as f32);
            keys.count_of(&key("scaling.original_context_length"), original);
            keys.f32(&key("scaling.yarn_beta_fast"), beta_fast as f32);
            keys.f32(&key("scaling.yarn_beta_slow"), beta_slow as f32);
        }
    }
}

/// Llama 3.1's divisors of the rotary frequencies, which GGUF files carry as a tensor; `None` for other models.
pub(super) fn rope_factors(model: &ModelConfig) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original } =
        model.rope.scaling
    else {
        return None;
    };
    let factors = (0..model.head_dim / 2).map(|i| {
        let wavelength =
            2.0 * std::f64::consts::PI * model.rope.theta.powf(2.0 * i as f64 / model.head_dim as f64);
        let blend = ((original as f64 / wavelength - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - blend) / factor + blend)) as f32
    });
    Some(factors.collect())
}
