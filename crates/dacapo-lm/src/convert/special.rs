//! What only some families say: in GGUF metadata as llama.cpp's converter writes it, in `config.json` as transformers does.

use serde_json::{Map, Value, json};

use super::metadata::Keys;
use super::{delta, experts};
use crate::checkpoint::{Checkpoint, ModelConfig, RopeScaling};

/// The rotary base of Gemma 3's layers with windows, which its GGUF files leave out.
const LOCAL_THETA: f64 = 1e4;

/// What MLX's folders of the family hold norms less by: GGUF files have them whole.
pub(super) fn norm_offset(architecture: &str) -> f32 {
    if matches!(architecture, "gemma2" | "gemma3") { 1.0 } else { 0.0 }
}

/// The name that llama.cpp has for the architecture.
pub(super) fn gguf_architecture(model: &ModelConfig) -> &str {
    match model.architecture.as_str() {
        "mistral" | "mixtral" => "llama",
        other => other,
    }
}

/// Whether a folder's tensor is of a part that sees images, which a GGUF file of the text part lacks.
pub(super) fn is_vision(name: &str) -> bool {
    let name = name.strip_prefix("model.").unwrap_or(name);
    ["vision_tower.", "multi_modal_projector.", "visual."].iter().any(|start| name.starts_with(start))
}

/// Adds the keys that only this family has.
pub(super) fn add_keys(keys: &mut Keys, checkpoint: &Checkpoint, model: &ModelConfig) {
    experts::add_keys(keys, gguf_architecture(model), model);
    delta::add_keys(keys, checkpoint, model);
    let key = |name: &str| format!("{}.{name}", model.architecture);
    match model.architecture.as_str() {
        "granite" => {
            keys.f32(&key("attention.scale"), model.attention_scale as f32);
            keys.f32(&key("embedding_scale"), model.embedding_scale as f32);
            keys.f32(&key("residual_scale"), model.residual_scale as f32);
            keys.f32(&key("logit_scale"), (1.0 / model.logit_scale) as f32);
        }
        "gemma2" | "gemma3" => {
            let caps = [
                ("attn_logit_softcapping", model.attention_softcap),
                ("final_logit_softcapping", model.logit_softcap),
            ];
            for (name, cap) in caps {
                if let Some(cap) = cap {
                    keys.f32(&key(name), cap as f32);
                }
            }
            if let Some(local) = model.local_rope.as_ref().filter(|local| local.theta != LOCAL_THETA) {
                keys.f32(&key("rope.freq_base_swa"), local.theta as f32);
            }
        }
        "olmo2" if window(model).is_some() => {
            let slides = model.sliding_windows.iter().map(Option::is_some);
            keys.bools(&key("attention.sliding_window_pattern"), slides);
        }
        "phi3" => {
            if let RopeScaling::LongRope { original, attention_factor, .. } = model.rope.scaling {
                keys.count_of(&key("rope.scaling.original_context_length"), original);
                keys.f32(&key("rope.scaling.attn_factor"), attention_factor as f32);
            }
        }
        _ => {}
    }
}

/// The sliding window that metadata name; which layers have it follows from the family. Phi-3 says 0 for none.
pub(super) fn window(model: &ModelConfig) -> Option<usize> {
    first_window(model).or_else(|| (model.architecture == "phi3").then_some(0))
}

/// The sliding window of the layers that have one.
fn first_window(model: &ModelConfig) -> Option<usize> {
    model.sliding_windows.iter().copied().flatten().next()
}

/// The lists of LongRoPE, which are tensors in a GGUF file.
pub(super) fn factor_tensors(model: &ModelConfig) -> Vec<(&'static str, Vec<f32>)> {
    match &model.rope.scaling {
        RopeScaling::LongRope { short, long, .. } => {
            vec![("rope_factors_short.weight", short.clone()), ("rope_factors_long.weight", long.clone())]
        }
        _ => vec![],
    }
}

/// `model_type` and the class of transformers.
pub(super) fn model_type(model: &ModelConfig) -> (&'static str, &'static str) {
    match model.architecture.as_str() {
        // Files of both are called "llama"; only one has windows.
        "llama" if model.sliding_windows.iter().all(Option::is_none) => ("llama", "LlamaForCausalLM"),
        "llama" | "mistral" => ("mistral", "MistralForCausalLM"),
        "qwen2" => ("qwen2", "Qwen2ForCausalLM"),
        "gemma2" => ("gemma2", "Gemma2ForCausalLM"),
        "gemma3" => ("gemma3_text", "Gemma3ForCausalLM"),
        "phi3" => ("phi3", "Phi3ForCausalLM"),
        "olmo2" if window(model).is_some() => ("olmo3", "Olmo3ForCausalLM"),
        "olmo2" => ("olmo2", "Olmo2ForCausalLM"),
        "smollm3" => ("smollm3", "SmolLM3ForCausalLM"),
        "granite" => ("granite", "GraniteForCausalLM"),
        "mixtral" => ("mixtral", "MixtralForCausalLM"),
        "gpt-oss" => ("gpt_oss", "GptOssForCausalLM"),
        "qwen2moe" => ("qwen2_moe", "Qwen2MoeForCausalLM"),
        "qwen3moe" => ("qwen3_moe", "Qwen3MoeForCausalLM"),
        "qwen3next" => ("qwen3_next", "Qwen3NextForCausalLM"),
        // mlx-lm does not know the names of the text parts.
        "qwen35" => ("qwen3_5", "Qwen3_5ForCausalLM"),
        "qwen35moe" => ("qwen3_5_moe", "Qwen3_5MoeForCausalLM"),
        _ => ("qwen3", "Qwen3ForCausalLM"),
    }
}

/// Adds what only this family's configuration has.
pub(super) fn add_config(
    config: &mut Map<String, Value>,
    kind: &str,
    checkpoint: &Checkpoint,
    model: &ModelConfig,
) {
    experts::add_config(config, model);
    delta::add_config(config, checkpoint, model);
    let window = first_window(model);
    let more = match kind {
        "mistral" | "mixtral" => json!({"sliding_window": window}),
        "llama" => json!({"attention_bias": model.attention_bias, "mlp_bias": model.mlp_bias}),
        "qwen3" | "qwen3_moe" | "olmo2" => json!({"attention_bias": model.attention_bias}),
        "qwen2_moe" => json!({"qkv_bias": model.attention_bias}),
        "gpt_oss" => json!({
            "attention_bias": model.attention_bias,
            "sliding_window": window,
            "layer_types": layer_types(model),
            "swiglu_limit": 7.0,
        }),
        "olmo3" => json!({
            "attention_bias": model.attention_bias,
            "sliding_window": window,
            "layer_types": layer_types(model),
        }),
        "granite" => json!({
            "attention_bias": model.attention_bias,
            "mlp_bias": model.mlp_bias,
            "attention_multiplier": shortest(model.attention_scale),
            "embedding_multiplier": shortest(model.embedding_scale),
            "residual_multiplier": shortest(model.residual_scale),
            "logits_scaling": shortest(1.0 / model.logit_scale),
        }),
        "smollm3" => json!({
            "attention_bias": model.attention_bias,
            "mlp_bias": model.mlp_bias,
            "use_sliding_window": false,
            "no_rope_layers": model.rotated.iter().map(|&rotated| u8::from(rotated)).collect::<Vec<_>>(),
        }),
        "phi3" => json!({
            "sliding_window": window,
            "partial_rotary_factor": model.rope.dims as f64 / model.head_dim as f64,
            "original_max_position_embeddings": match model.rope.scaling {
                RopeScaling::LongRope { original, .. } => original,
                _ => model.context_length,
            },
        }),
        "gemma2" | "gemma3_text" => gemma(kind, window, model),
        _ => json!({}),
    };
    if let Value::Object(more) = more {
        config.extend(more);
    }
}

fn layer_types(model: &ModelConfig) -> Value {
    let slides = model.sliding_windows.iter().map(Option::is_some);
    slides.map(|slides| if slides { "sliding_attention" } else { "full_attention" }).collect()
}

fn gemma(kind: &str, window: Option<usize>, model: &ModelConfig) -> Value {
    let mut config = json!({
        "hidden_activation": "gelu_pytorch_tanh",
        "attention_bias": model.attention_bias,
        "query_pre_attn_scalar": whole(shortest(model.attention_scale.powi(-2))),
        "attn_logit_softcapping": model.attention_softcap,
        "final_logit_softcapping": model.logit_softcap,
        "sliding_window": window,
        "layer_types": layer_types(model),
    });
    if kind == "gemma3_text" {
        let every = model.sliding_windows.iter().position(Option::is_none).map_or(model.layers, |i| i + 1);
        config["sliding_window_pattern"] = every.into();
        config["rope_local_base_freq"] =
            model.local_rope.as_ref().map_or(LOCAL_THETA, |rope| rope.theta).into();
    }
    config
}

/// Without a point if it is whole: readers expect an integer.
fn whole(value: f64) -> Value {
    let rounded = value.round();
    if (value - rounded).abs() < 1e-4 { (rounded as u64).into() } else { value.into() }
}

/// The shortest decimal that is this number in single precision, as metadata hold it.
pub(super) fn shortest(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}
