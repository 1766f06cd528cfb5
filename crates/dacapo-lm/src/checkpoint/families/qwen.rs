//! Qwen 2 and 3.

use super::{Defaults, Family, plain_gguf, window, windows};
use crate::checkpoint::config::{LIMIT, ModelConfig};
use crate::checkpoint::fields::Fields;
use crate::error::Result;

pub(super) const QWEN2: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    in_gguf: true,
    experts: Some(false),
    permuted: false,
    partial_rotation: false,
    defaults: Defaults {
        vocab_size: 151936,
        hidden_size: 4096,
        intermediate_size: 22016,
        layers: 32,
        heads: 32,
        kv_heads: Some(32),
        head_dim: None,
        context_length: 32768,
        rms_eps: 1e-6,
        theta: 10000.0,
        tied: false,
        bos: None,
        eos: &[],
    },
    adapt_hf: |fields, config| {
        config.set_biases(true, false, false);
        upper_windows(fields, config)
    },
    adapt_gguf: plain_gguf,
};

pub(super) const QWEN3: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    defaults: Defaults { head_dim: Some(128), ..QWEN2.defaults },
    adapt_hf: |fields, config| {
        config.mlp_bias = false;
        upper_windows(fields, config)
    },
    ..QWEN2
};

/// Windows are off without `use_sliding_window`; then they are for the layers that `layer_types` names, or those that
/// follow the first `max_window_layers`.
fn upper_windows(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<()> {
    let used = fields.bool("use_sliding_window", false)?;
    let window = window(fields, Some(4096))?.filter(|_| used);
    let first = fields.count("max_window_layers", 0..=LIMIT)?.unwrap_or(28);
    config.sliding_windows = windows(fields, window, config.layers, |layer| layer >= first)?;
    Ok(())
}
