//! Families whose layers have experts: Mixtral, and Qwen 2 and 3 with experts.

use serde_json::Value;

use super::llama::LLAMA;
use super::qwen::{QWEN2, QWEN3};
use super::{Defaults, Family, window, windows};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::{ExpertsConfig, LIMIT, MAX_LAYERS, ModelConfig};
use crate::checkpoint::config_gguf::Keyed;
use crate::checkpoint::fields::Fields;
use crate::error::Result;

/// The most experts of a layer: what a router can choose among.
const MOST_EXPERTS: u64 = 4096;

pub(super) const MIXTRAL: Family = Family {
    name: "mixtral",
    model_types: &["mixtral"],
    experts: Some(true),
    defaults: Defaults {
        intermediate_size: 14336,
        kv_heads: Some(8),
        context_length: 131072,
        rms_eps: 1e-5,
        theta: 1e6,
        ..LLAMA.defaults
    },
    adapt_hf: |fields, config| {
        config.set_biases(false, false, false);
        config.sliding_windows = vec![window(fields, None)?; config.layers];
        config.experts = Some(everywhere(fields, config, [8, 2])?);
        Ok(())
    },
    adapt_gguf: |keyed, checkpoint, config| gguf(keyed, checkpoint, config, true),
    ..LLAMA
};

pub(super) const QWEN3_MOE: Family = Family {
    name: "qwen3moe",
    model_types: &["qwen3_moe"],
    experts: Some(true),
    defaults: Defaults {
        hidden_size: 2048,
        intermediate_size: 6144,
        layers: 24,
        kv_heads: Some(4),
        head_dim: None,
        ..QWEN3.defaults
    },
    adapt_hf: |fields, config| {
        config.mlp_bias = false;
        let used = fields.bool("use_sliding_window", false)?;
        config.sliding_windows = vec![window(fields, Some(4096))?.filter(|_| used); config.layers];
        config.experts = Some(qwen(fields, config, [128, 8, 768])?);
        Ok(())
    },
    adapt_gguf: |keyed, checkpoint, config| gguf(keyed, checkpoint, config, true),
    ..QWEN3
};

/// With an expert that every token goes through, behind a gate.
pub(super) const QWEN2_MOE: Family = Family {
    name: "qwen2moe",
    model_types: &["qwen2_moe"],
    experts: Some(true),
    defaults: Defaults {
        hidden_size: 2048,
        intermediate_size: 5632,
        layers: 24,
        heads: 16,
        kv_heads: Some(16),
        ..QWEN2.defaults
    },
    adapt_hf: |fields, config| {
        config.set_biases(fields.bool("qkv_bias", true)?, false, false);
        let used = fields.bool("use_sliding_window", false)?;
        let first = fields.count("max_window_layers", 0..=LIMIT)?.unwrap_or(28);
        // Without use_sliding_window transformers writes a window of 0.
        let window = if used { window(fields, Some(4096))? } else { None };
        // Every other layer, among the first.
        let slides = |layer: usize| layer.is_multiple_of(2) && layer < first;
        config.sliding_windows = windows(fields, window, config.layers, slides)?;
        let experts = qwen(fields, config, [60, 4, 1408])?;
        let shared = fields.count("shared_expert_intermediate_size", 1..=LIMIT)?.unwrap_or(5632);
        config.experts = Some(ExpertsConfig { shared_width: Some(shared), ..experts });
        Ok(())
    },
    adapt_gguf: |keyed, checkpoint, config| gguf(keyed, checkpoint, config, false),
    ..QWEN2
};

/// How many experts there are, and how many a token goes through. transformers 5 says `num_local_experts` for all families.
fn numbers(fields: &Fields<'_>, defaults: [usize; 2]) -> Result<[usize; 2]> {
    let count = match fields.count("num_experts", 1..=MOST_EXPERTS)? {
        Some(count) => Some(count),
        None => fields.count("num_local_experts", 1..=MOST_EXPERTS)?,
    };
    let chosen = fields.count("num_experts_per_tok", 1..=MOST_EXPERTS)?;
    Ok([count.unwrap_or(defaults[0]), chosen.unwrap_or(defaults[1])])
}

/// Experts in every layer, as wide as the MLPs of the configuration, whose weights add up to 1. Defaults are those of count and
/// number for each token.
pub(super) fn everywhere(
    fields: &Fields<'_>,
    config: &ModelConfig,
    defaults: [usize; 2],
) -> Result<ExpertsConfig> {
    let [count, chosen] = numbers(fields, defaults)?;
    Ok(ExpertsConfig {
        count,
        chosen,
        width: config.intermediate_size,
        normalized: true,
        shared_width: None,
        layers: vec![true; config.layers],
    })
}

/// The experts of Qwen: in every `decoder_sparse_step`-th layer but those of `mlp_only_layers`. Defaults are those of count,
/// number for each token and width.
pub(super) fn qwen(
    fields: &Fields<'_>,
    config: &ModelConfig,
    [count, chosen, width]: [usize; 3],
) -> Result<ExpertsConfig> {
    let [count, chosen] = numbers(fields, [count, chosen])?;
    let step = fields.count("decoder_sparse_step", 1..=MAX_LAYERS)?.unwrap_or(1);
    let plain = plain_layers(fields)?;
    let sparse = |layer: usize| (layer + 1).is_multiple_of(step) && !plain.contains(&(layer as u64));
    Ok(ExpertsConfig {
        count,
        chosen,
        width: fields.count("moe_intermediate_size", 1..=LIMIT)?.unwrap_or(width),
        normalized: fields.bool("norm_topk_prob", false)?,
        shared_width: None,
        layers: (0..config.layers).map(sparse).collect(),
    })
}

/// The layers that `mlp_only_layers` names.
fn plain_layers(fields: &Fields<'_>) -> Result<Vec<u64>> {
    const KEY: &str = "mlp_only_layers";
    let fail = || fields.fail(KEY, "a list of layers");
    let Some(list) = fields.get(KEY) else { return Ok(Vec::new()) };
    list.as_array().ok_or_else(fail)?.iter().map(Value::as_u64).collect::<Option<_>>().ok_or_else(fail)
}

/// The experts of a GGUF file: its layers have some where there is a router.
pub(super) fn gguf(
    keyed: &Keyed<'_>,
    checkpoint: &Checkpoint,
    config: &mut ModelConfig,
    normalized: bool,
) -> Result<()> {
    let width = keyed.count("expert_feed_forward_length", LIMIT)?.unwrap_or(config.intermediate_size);
    let shared = checkpoint.tensor("model.layers.0.mlp.shared_expert.gate_proj.weight");
    let shared_width = match (keyed.count("expert_shared_feed_forward_length", LIMIT)?, shared) {
        (Some(width), _) => Some(width),
        // Older files say it with the tensor alone.
        (None, tensor) => tensor.and_then(|tensor| tensor.shape.first().copied()),
    };
    let router = |layer: usize| {
        let at = format!("model.layers.{layer}");
        ["mlp", "block_sparse_moe"]
            .iter()
            .any(|block| checkpoint.tensor(&format!("{at}.{block}.gate.weight")).is_some())
    };
    config.experts = Some(ExpertsConfig {
        count: keyed.required("expert_count", MOST_EXPERTS)?,
        chosen: keyed.required("expert_used_count", MOST_EXPERTS)?,
        width,
        normalized,
        shared_width,
        layers: (0..config.layers).map(router).collect(),
    });
    Ok(())
}
