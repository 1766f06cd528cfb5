//! gpt-oss.

use super::moe::{everywhere, gguf};
use super::{Defaults, Family, window, windows};
use crate::checkpoint::config::{ModelConfig, RopeScaling, yarn_mscale};
use crate::checkpoint::fields::Fields;
use crate::error::Result;

/// Of its gated unit: all published models have these.
const CLAMPED: [(&str, f64); 2] = [("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)];

pub(super) const GPT_OSS: Family = Family {
    name: "gpt-oss",
    model_types: &["gpt_oss"],
    in_gguf: true,
    experts: Some(true),
    permuted: false,
    partial_rotation: false,
    defaults: Defaults {
        vocab_size: 201_088,
        hidden_size: 2880,
        intermediate_size: 2880,
        layers: 36,
        heads: 64,
        kv_heads: Some(8),
        head_dim: Some(64),
        context_length: 131_072,
        rms_eps: 1e-5,
        theta: 150_000.0,
        tied: false,
        bos: None,
        eos: &[],
    },
    adapt_hf: |fields, config| {
        let biased = fields.bool("attention_bias", true)?;
        config.set_biases(biased, biased, false);
        let window = window(fields, Some(128))?;
        config.sliding_windows = windows(fields, window, config.layers, |layer| layer.is_multiple_of(2))?;
        if fields.get("rope_parameters").or(fields.get("rope_scaling")).is_none() {
            config.rope.scaling = default_rope();
        }
        check_clamped(fields)?;
        config.experts = Some(everywhere(fields, config, [128, 4])?);
        Ok(())
    },
    adapt_gguf: |keyed, checkpoint, config| {
        gguf(keyed, checkpoint, config, true)?;
        config.sliding_windows = keyed.windows(Some(128), 2, config.layers)?;
        // Metadata does not say it.
        if let RopeScaling::Yarn { truncate, .. } = &mut config.rope.scaling {
            *truncate = false;
        }
        every_layer(config);
        Ok(())
    },
};

/// Its routers have another name than those that are looked for.
fn every_layer(config: &mut ModelConfig) {
    if let Some(experts) = &mut config.experts {
        experts.layers = vec![true; config.layers];
    }
}

/// YaRN as transformers assumes it.
fn default_rope() -> RopeScaling {
    RopeScaling::Yarn {
        factor: 32.0,
        original: 4096,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: yarn_mscale(32.0, 1.0),
        truncate: false,
    }
}

fn check_clamped(fields: &Fields<'_>) -> Result<()> {
    for (key, expected) in CLAMPED {
        if fields.positive(key)?.is_some_and(|found| found != expected) {
            return Err(fields.fail(key, &expected.to_string()));
        }
    }
    Ok(())
}
