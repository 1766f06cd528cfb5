//! Llama and those that are closest to it: Mistral, Granite, SmolLM 3, OLMo 2.

use super::{Defaults, Family, flags, plain_gguf, ropes_by_kind, window, windows};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::{LIMIT, ModelConfig, RopeConfig, RopeScaling};
use crate::checkpoint::config_gguf::Keyed;
use crate::error::Error;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 11008,
    layers: 32,
    heads: 32,
    kv_heads: None,
    head_dim: None,
    context_length: 2048,
    rms_eps: 1e-6,
    theta: 10000.0,
    tied: false,
    bos: Some(1),
    eos: &[2],
};

pub(super) const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama"],
    in_gguf: true,
    experts: Some(false),
    permuted: true,
    partial_rotation: false,
    defaults: DEFAULTS,
    adapt_hf: |_, _| Ok(()),
    adapt_gguf: plain_gguf,
};

/// Its GGUF files say "llama".
pub(super) const MISTRAL: Family = Family {
    name: "mistral",
    model_types: &["mistral", "ministral"],
    in_gguf: false,
    defaults: Defaults { intermediate_size: 14336, kv_heads: Some(8), context_length: 131072, ..DEFAULTS },
    adapt_hf: |fields, config| {
        // Mistral's window is for all layers, Ministral's for those of `layer_types`.
        let window = window(fields, Some(4096))?;
        config.sliding_windows = match fields.str("model_type")? {
            Some("ministral") => windows(fields, window, config.layers, |_| true)?,
            _ => vec![window; config.layers],
        };
        config.set_biases(false, false, false);
        Ok(())
    },
    ..LLAMA
};

pub(super) const GRANITE: Family = Family {
    name: "granite",
    model_types: &["granite"],
    adapt_hf: |fields, config| {
        let multiplier = |key: &str| Ok::<_, Error>(fields.positive(key)?.unwrap_or(1.0));
        config.embedding_scale = multiplier("embedding_multiplier")?;
        config.attention_scale = multiplier("attention_multiplier")?;
        config.residual_scale = multiplier("residual_multiplier")?;
        config.logit_scale = 1.0 / multiplier("logits_scaling")?;
        Ok(())
    },
    adapt_gguf: |keyed, _, config| {
        config.embedding_scale = keyed.positive("embedding_scale")?.unwrap_or(1.0);
        config.residual_scale = keyed.positive("residual_scale")?.unwrap_or(1.0);
        config.logit_scale = 1.0 / keyed.positive("logit_scale")?.unwrap_or(1.0);
        Ok(())
    },
    ..LLAMA
};

pub(super) const SMOLLM3: Family = Family {
    name: "smollm3",
    model_types: &["smollm3"],
    defaults: Defaults {
        vocab_size: 128256,
        hidden_size: 2048,
        layers: 36,
        heads: 16,
        kv_heads: Some(4),
        context_length: 32768,
        theta: 2e6,
        tied: true,
        bos: Some(128000),
        eos: &[128001],
        ..DEFAULTS
    },
    adapt_hf: |fields, config| {
        let every = fields.count("no_rope_layer_interval", 1..=LIMIT)?.unwrap_or(4);
        config.rotated = match flags(fields, "no_rope_layers", config.layers)? {
            // Ones in the list of layers "without" are those with.
            Some(rotated) => rotated,
            None => rotated_but_every(every, config.layers),
        };
        let used = fields.bool("use_sliding_window", false)?;
        let window = if used { window(fields, None)? } else { None };
        config.sliding_windows = windows(fields, window, config.layers, |layer| !config.rotated[layer])?;
        Ok(())
    },
    adapt_gguf: |_, _, config| {
        config.rotated = rotated_but_every(4, config.layers);
        Ok(())
    },
    ..LLAMA
};

/// All layers rotate but the last of each `every`.
fn rotated_but_every(every: usize, layers: usize) -> Vec<bool> {
    (1..=layers).map(|layer| !layer.is_multiple_of(every)).collect()
}

/// The base of OLMo 3's frequencies, if its configuration does not say it.
const OLMO3_THETA: f64 = 5e5;

/// OLMo 2, and OLMo 3, which adds windows.
pub(super) const OLMO2: Family = Family {
    name: "olmo2",
    model_types: &["olmo2", "olmo3"],
    permuted: false,
    defaults: Defaults { vocab_size: 50304, rms_eps: 1e-5, bos: None, eos: &[50279], ..DEFAULTS },
    adapt_hf: |fields, config| {
        config.mlp_bias = false;
        if fields.str("model_type")? == Some("olmo3") {
            let window = window(fields, Some(4096))?;
            config.sliding_windows = windows(fields, window, config.layers, |i| !(i + 1).is_multiple_of(4))?;
            match ropes_by_kind(fields, config, [OLMO3_THETA; 2])? {
                None => stretch_only_global(config),
                Some([rope, local]) => {
                    config.local_rope = (local != rope).then_some(local);
                    config.rope = rope;
                }
            }
        }
        Ok(())
    },
    adapt_gguf: |keyed: &Keyed<'_>, _: &Checkpoint, config: &mut ModelConfig| {
        config.sliding_windows = keyed.windows(None, 4, config.layers)?;
        stretch_only_global(config);
        Ok(())
    },
    ..LLAMA
};

/// Layers with a window keep the frequencies of the training.
fn stretch_only_global(config: &mut ModelConfig) {
    if config.rope.scaling != RopeScaling::None && config.sliding_windows.iter().any(Option::is_some) {
        config.local_rope = Some(RopeConfig { scaling: RopeScaling::None, ..config.rope.clone() });
    }
}
