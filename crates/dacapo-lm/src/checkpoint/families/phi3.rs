//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini.

use super::{Defaults, Family, window};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::{LIMIT, ModelConfig, RopeScaling};
use crate::checkpoint::config_gguf::Keyed;

pub(super) const PHI3: Family = Family {
    name: "phi3",
    model_types: &["phi3"],
    in_gguf: true,
    experts: Some(false),
    permuted: false,
    partial_rotation: true,
    defaults: Defaults {
        vocab_size: 32064,
        hidden_size: 3072,
        intermediate_size: 8192,
        layers: 32,
        heads: 32,
        kv_heads: None,
        head_dim: None,
        context_length: 4096,
        rms_eps: 1e-5,
        theta: 10000.0,
        tied: false,
        bos: Some(1),
        eos: &[32000],
    },
    adapt_hf: |fields, config| {
        config.set_biases(false, false, false);
        config.sliding_windows = vec![window(fields, None)?; config.layers];
        Ok(())
    },
    adapt_gguf: |keyed: &Keyed<'_>, checkpoint: &Checkpoint, config: &mut ModelConfig| {
        config.set_biases(false, false, false);
        let pairs = config.rope.dims / 2;
        let list = |name: &str| checkpoint.float_values(name, &[pairs]);
        if checkpoint.tensor("rope_factors_long.weight").is_some() {
            config.rope.scaling = RopeScaling::LongRope {
                short: list("rope_factors_short.weight")?,
                long: list("rope_factors_long.weight")?,
                original: keyed
                    .count("rope.scaling.original_context_length", LIMIT)?
                    .unwrap_or(config.context_length),
                attention_factor: keyed.positive("rope.scaling.attn_factor")?.unwrap_or(1.0),
            };
        }
        Ok(())
    },
};
