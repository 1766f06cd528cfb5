//! Qwen3-Next and Qwen3.5, whose layers are gated delta nets but for every fourth.

use super::qwen::QWEN2;
use super::{Defaults, Family, moe};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::{DeltaNets, ExpertsConfig, LIMIT, MAX_LAYERS, ModelConfig};
use crate::checkpoint::config_gguf::Keyed;
use crate::checkpoint::fields::Fields;
use crate::error::Result;

/// The widest convolution and key that kernels know.
const MOST_TAPS: u64 = dacapo_ops::ops::depthwise_conv::MOST_TAPS as u64;
const MOST_KEY_DIM: u64 = dacapo_ops::ops::gated_delta::MOST_KEY_DIM as u64;
/// The most heads, and the widest value.
const MOST: u64 = 1 << 12;

pub(super) const QWEN3_NEXT: Family = Family {
    name: "qwen3next",
    model_types: &["qwen3_next"],
    partial_rotation: true,
    defaults: Defaults {
        hidden_size: 2048,
        intermediate_size: 5632,
        layers: 48,
        heads: 16,
        kv_heads: Some(2),
        head_dim: Some(256),
        ..QWEN2.defaults
    },
    experts: None,
    adapt_hf: |fields, config| {
        if fields.count("num_experts", 0..=LIMIT)? != Some(0) {
            config.experts = Some(experts(fields, config, [512, 10])?);
        }
        both(fields, config)
    },
    adapt_gguf: |keyed, checkpoint, config| {
        if keyed.count("expert_count", LIMIT)?.is_some() {
            moe::gguf(keyed, checkpoint, config, true)?;
        }
        both_gguf(keyed, config, false)
    },
    ..QWEN2
};

/// Configurations with images have the text's in `text_config`; what asks for this family has looked there.
pub(super) const QWEN35: Family = Family {
    name: "qwen35",
    model_types: &["qwen3_5", "qwen3_5_text"],
    defaults: Defaults {
        vocab_size: 248_320,
        hidden_size: 4096,
        intermediate_size: 12288,
        layers: 32,
        kv_heads: Some(4),
        ..QWEN3_NEXT.defaults
    },
    experts: Some(false),
    adapt_hf: both,
    adapt_gguf: |keyed, _, config| both_gguf(keyed, config, true),
    ..QWEN3_NEXT
};

/// Qwen3.5 with experts.
pub(super) const QWEN35_MOE: Family = Family {
    name: "qwen35moe",
    model_types: &["qwen3_5_moe", "qwen3_5_moe_text"],
    experts: Some(true),
    defaults: Defaults { hidden_size: 2048, layers: 40, kv_heads: Some(2), ..QWEN35.defaults },
    adapt_hf: |fields, config| {
        config.experts = Some(experts(fields, config, [256, 8])?);
        both(fields, config)
    },
    adapt_gguf: |keyed, checkpoint, config| {
        moe::gguf(keyed, checkpoint, config, true)?;
        both_gguf(keyed, config, true)
    },
    ..QWEN35
};

/// The experts, and the one that every token goes through. Defaults are those of count and number for each token.
fn experts(fields: &Fields<'_>, config: &ModelConfig, [count, chosen]: [usize; 2]) -> Result<ExpertsConfig> {
    let shared = fields.count("shared_expert_intermediate_size", 1..=LIMIT)?.unwrap_or(512);
    Ok(ExpertsConfig {
        normalized: fields.bool("norm_topk_prob", true)?,
        shared_width: Some(shared),
        ..moe::qwen(fields, config, [count, chosen, 512])?
    })
}

/// What both have in common.
fn both(fields: &Fields<'_>, config: &mut ModelConfig) -> Result<()> {
    if !fields.bool("attn_output_gate", true)? {
        return Err(fields.fail("attn_output_gate", "true"));
    }
    let rope = fields.get("rope_parameters").or(fields.get("rope_scaling"));
    let part = |object: Option<&serde_json::Value>| {
        object.is_some_and(|object| object.get("partial_rotary_factor").is_some_and(|part| !part.is_null()))
    };
    if !part(rope) && !part(Some(fields.object)) {
        config.rope.dims = config.head_dim / 4;
    }
    config.norm_offset = 1.0;
    config.mlp_bias = false;
    let count = |key: &str, default: usize, most: u64| -> Result<usize> {
        Ok(fields.count(key, 1..=most)?.unwrap_or(default))
    };
    config.delta_nets = Some(DeltaNets {
        layers: layers(fields, config.layers)?,
        key_heads: count("linear_num_key_heads", 16, MOST)?,
        value_heads: count("linear_num_value_heads", 32, MOST)?,
        key_dim: count("linear_key_head_dim", 128, MOST_KEY_DIM)?,
        value_dim: count("linear_value_head_dim", 128, MOST)?,
        taps: fields.count("linear_conv_kernel_dim", 2..=MOST_TAPS)?.unwrap_or(4),
        tiled: false,
    });
    Ok(())
}

/// Which layers are gated delta nets: those that `layer_types` names, or all but the last of each `full_attention_interval`.
fn layers(fields: &Fields<'_>, layers: usize) -> Result<Vec<bool>> {
    let Some(types) = fields.get("layer_types") else {
        let every = fields.count("full_attention_interval", 1..=LIMIT)?.unwrap_or(4);
        return Ok(all_but_each(every, layers));
    };
    let fail = || fields.fail("layer_types", &format!("{layers} of linear_attention and full_attention"));
    let types = types.as_array().filter(|list| list.len() == layers).ok_or_else(fail)?;
    let is_net = |kind: &serde_json::Value| match kind.as_str() {
        Some("linear_attention") => Some(true),
        Some("full_attention") => Some(false),
        _ => None,
    };
    types.iter().map(is_net).collect::<Option<_>>().ok_or_else(fail)
}

fn all_but_each(every: usize, layers: usize) -> Vec<bool> {
    (1..=layers).map(|layer| !layer.is_multiple_of(every)).collect()
}

/// The same from metadata, where all numbers must be. Norms are stored as they are.
fn both_gguf(keyed: &Keyed<'_>, config: &mut ModelConfig, tiled: bool) -> Result<()> {
    let value_heads = keyed.required("ssm.time_step_rank", MOST)?;
    let values = keyed.required("ssm.inner_size", LIMIT)?;
    if !values.is_multiple_of(value_heads) {
        return Err(keyed.fail("ssm.inner_size", format!("a multiple of the {value_heads} heads"), values));
    }
    let taps = keyed.required("ssm.conv_kernel", MOST_TAPS)?;
    if taps < 2 {
        return Err(keyed.fail("ssm.conv_kernel", "at least 2", taps));
    }
    let recurrent = "attention.recurrent_layers";
    let every = keyed.count("full_attention_interval", LIMIT)?.unwrap_or(4);
    config.delta_nets = Some(DeltaNets {
        layers: match keyed.has(recurrent) {
            // Blocks that foresee further tokens are listed too.
            true => keyed.flags(recurrent, keyed.required("block_count", MAX_LAYERS)?)?,
            false => all_but_each(every, config.layers),
        },
        key_heads: keyed.required("ssm.group_count", MOST)?,
        value_heads,
        key_dim: keyed.required("ssm.state_size", MOST_KEY_DIM)?,
        value_dim: values / value_heads,
        taps,
        tiled,
    });
    if let Some(nets) = &mut config.delta_nets {
        nets.layers.truncate(config.layers);
    }
    // Biases are asked of a layer with attention.
    config.set_biases(false, false, false);
    Ok(())
}

/// What only a folder's tensors tell: mlx-lm's converter adds to norms the 1 that is taken from them elsewhere. It also turns the
/// convolutions' weights, from `[C, 1, K]` to `[C, K, 1]`, by which its folders are known.
pub(in crate::checkpoint) fn see_tensors(checkpoint: &Checkpoint, config: &mut ModelConfig) {
    let Some(nets) = &config.delta_nets else { return };
    let Some(layer) = nets.layers.iter().position(|&is| is) else { return };
    let convolution = checkpoint.tensor(&format!("model.layers.{layer}.linear_attn.conv1d.weight"));
    if convolution.is_some_and(|tensor| tensor.shape.last() == Some(&1)) {
        config.norm_offset = 0.0;
    }
}
