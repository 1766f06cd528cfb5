//! Gemma 2, and the text part of Gemma 3.

use super::{Defaults, Family, ropes_by_kind, window, windows};
use crate::checkpoint::config::{Activation, LIMIT, ModelConfig, RopeConfig, RopeScaling};
use crate::checkpoint::config_gguf::Keyed;
use crate::checkpoint::config_hf::activation;
use crate::checkpoint::fields::Fields;
use crate::error::{Error, Result};

pub(super) const GEMMA2: Family = Family {
    name: "gemma2",
    model_types: &["gemma2"],
    in_gguf: true,
    experts: Some(false),
    permuted: false,
    partial_rotation: false,
    defaults: Defaults {
        vocab_size: 256000,
        hidden_size: 2304,
        intermediate_size: 9216,
        layers: 26,
        heads: 8,
        kv_heads: Some(4),
        head_dim: Some(256),
        context_length: 8192,
        rms_eps: 1e-6,
        theta: 10000.0,
        tied: true,
        bos: Some(2),
        eos: &[1],
    },
    adapt_hf: |fields, config| {
        both(fields, config, Some(50.0), Some(30.0))?;
        let window = window(fields, Some(4096))?;
        config.sliding_windows = windows(fields, window, config.layers, |i| i.is_multiple_of(2))?;
        Ok(())
    },
    adapt_gguf: |keyed, _, config| {
        both_gguf(keyed, config, Some(50.0), Some(30.0), 46)?;
        config.sliding_windows = keyed.windows(Some(4096), 2, config.layers)?;
        Ok(())
    },
};

/// Configurations with images have the text's in `text_config`; what asks for this family has looked there.
pub(super) const GEMMA3: Family = Family {
    name: "gemma3",
    model_types: &["gemma3_text", "gemma3"],
    defaults: Defaults { vocab_size: 262_208, context_length: 131_072, theta: 1e6, ..GEMMA2.defaults },
    adapt_hf: |fields, config| {
        both(fields, config, None, None)?;
        let every = fields.count("sliding_window_pattern", 1..=LIMIT)?.unwrap_or(6);
        let window = window(fields, Some(4096))?;
        config.sliding_windows = windows(fields, window, config.layers, |i| !(i + 1).is_multiple_of(every))?;
        let local = match ropes_by_kind(fields, config, [1e6, 1e4])? {
            Some([rope, local]) => {
                config.rope = rope;
                local
            }
            None => {
                let theta = fields.positive("rope_local_base_freq")?.unwrap_or(1e4);
                RopeConfig { theta, scaling: RopeScaling::None, ..config.rope.clone() }
            }
        };
        config.local_rope = Some(local);
        Ok(())
    },
    adapt_gguf: |keyed, _, config| {
        both_gguf(keyed, config, None, None, 62)?;
        config.sliding_windows = keyed.windows(None, 6, config.layers)?;
        let theta = keyed.positive("rope.freq_base_swa")?.unwrap_or(1e4);
        config.local_rope = Some(RopeConfig { theta, scaling: RopeScaling::None, ..config.rope.clone() });
        Ok(())
    },
    ..GEMMA2
};

/// What both have in common. An absent cap is the class's, null is none.
fn both(
    fields: &Fields<'_>,
    config: &mut ModelConfig,
    attention_cap: Option<f64>,
    logit_cap: Option<f64>,
) -> Result<()> {
    if fields.bool("use_bidirectional_attention", false)? {
        return Err(fields.fail("use_bidirectional_attention", "false"));
    }
    let cap = |key: &str, default: Option<f64>| {
        let default = default.filter(|_| fields.object.get(key).is_none());
        Ok::<_, Error>(fields.positive(key)?.or(default))
    };
    config.attention_softcap = cap("attn_logit_softcapping", attention_cap)?;
    config.logit_softcap = cap("final_logit_softcapping", logit_cap)?;
    config.attention_scale = fields.positive("query_pre_attn_scalar")?.unwrap_or(256.0).powf(-0.5);
    config.hidden_act = activation(fields, "hidden_activation", Activation::GeluTanh)?;
    config.norm_offset = 1.0;
    config.mlp_bias = false;
    common(config);
    Ok(())
}

/// The same from metadata, which do not hold the scale of the scores: the largest model, told by its layers, has another.
fn both_gguf(
    keyed: &Keyed<'_>,
    config: &mut ModelConfig,
    attention_cap: Option<f64>,
    logit_cap: Option<f64>,
    largest: usize,
) -> Result<()> {
    config.attention_softcap = keyed.positive("attn_logit_softcapping")?.or(attention_cap);
    config.logit_softcap = keyed.positive("final_logit_softcapping")?.or(logit_cap);
    if config.layers == largest && keyed.positive("attention.scale")?.is_none() {
        config.attention_scale = ((config.hidden_size / config.heads) as f64).powf(-0.5);
    }
    config.hidden_act = Activation::GeluTanh;
    common(config);
    Ok(())
}

fn common(config: &mut ModelConfig) {
    // In single precision, as transformers has it where activations are.
    config.embedding_scale = f64::from((config.hidden_size as f64).sqrt() as f32);
}
