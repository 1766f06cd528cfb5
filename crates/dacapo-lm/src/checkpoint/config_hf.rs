//! [`ModelConfig`] from `config.json`, with the defaults of transformers' configuration classes.

use std::path::Path;

use serde_json::Value;

use super::config::{
    Activation, Keys, LIMIT, MAX_LAYERS, ModelConfig, RopeConfig, RopeScaling, unknown_architecture,
    yarn_mscale,
};
use super::fields::Fields;
use crate::error::Result;

/// What transformers assumes for keys that an architecture's configuration leaves out.
struct Defaults {
    architecture: &'static str,
    vocab_size: usize,
    intermediate_size: usize,
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    context_length: usize,
    sliding_window: Option<usize>,
    bos: Option<u32>,
    eos: &'static [u32],
}

const DEFAULTS: [Defaults; 4] = [
    Defaults {
        architecture: "llama",
        vocab_size: 32000,
        intermediate_size: 11008,
        kv_heads: None,
        head_dim: None,
        context_length: 2048,
        sliding_window: None,
        bos: Some(1),
        eos: &[2],
    },
    Defaults {
        architecture: "mistral",
        vocab_size: 32000,
        intermediate_size: 14336,
        kv_heads: Some(8),
        head_dim: None,
        context_length: 131072,
        sliding_window: Some(4096),
        bos: Some(1),
        eos: &[2],
    },
    Defaults {
        architecture: "qwen2",
        vocab_size: 151936,
        intermediate_size: 22016,
        kv_heads: Some(32),
        head_dim: None,
        context_length: 32768,
        sliding_window: Some(4096),
        bos: None,
        eos: &[],
    },
    Defaults {
        architecture: "qwen3",
        vocab_size: 151936,
        intermediate_size: 22016,
        kv_heads: Some(32),
        head_dim: Some(128),
        context_length: 32768,
        sliding_window: Some(4096),
        bos: None,
        eos: &[],
    },
];

/// Parses `config`, the content of the file at `path`, and the end tokens of `generation_config.json`.
pub(super) fn parse(path: &Path, config: &Value, generation: Option<&Value>) -> Result<ModelConfig> {
    let fields = Fields { path, prefix: "", object: config };
    let name =
        fields.str("model_type")?.ok_or_else(|| fields.fail("model_type", "an architecture's name"))?;
    let defaults =
        DEFAULTS.iter().find(|d| d.architecture == name).ok_or_else(|| unknown_architecture(path, name))?;
    let count =
        |key: &str, default: usize| -> Result<usize> { Ok(fields.count(key, 1..=LIMIT)?.unwrap_or(default)) };

    let hidden_size = count("hidden_size", 4096)?;
    let heads = count("num_attention_heads", 32)?;
    let layers = fields.count("num_hidden_layers", 1..=MAX_LAYERS)?.unwrap_or(32);
    // An explicit null means as many as query heads; only an absent key takes the class's default.
    let kv_default = if config.get("num_key_value_heads").is_some() { None } else { defaults.kv_heads };
    let kv_heads = count("num_key_value_heads", kv_default.unwrap_or(heads))?;
    let head_dim = match fields.count("head_dim", 1..=LIMIT)?.or(defaults.head_dim) {
        Some(head_dim) => head_dim,
        None if hidden_size % heads == 0 => hidden_size / heads,
        None => return Err(fields.fail("num_attention_heads", "a divisor of hidden_size")),
    };
    let context_length = count("max_position_embeddings", defaults.context_length)?;
    let rope = rope(&fields, context_length)?;
    let attention_bias = name == "qwen2" || (name != "mistral" && fields.bool("attention_bias", false)?);
    let (bos_id, eos_ids) = token_ids(&fields, defaults, generation)?;
    let parsed = ModelConfig {
        architecture: name.to_string(),
        hidden_size,
        intermediate_size: count("intermediate_size", defaults.intermediate_size)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab_size: count("vocab_size", defaults.vocab_size)?,
        context_length,
        rms_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
        rope,
        tie_word_embeddings: fields.bool("tie_word_embeddings", false)?,
        attention_bias,
        attention_output_bias: attention_bias && name != "qwen2",
        mlp_bias: name == "llama" && fields.bool("mlp_bias", false)?,
        sliding_windows: sliding_windows(&fields, defaults, layers)?,
        hidden_act: activation(&fields)?,
        bos_id,
        eos_ids,
    };
    parsed
        .check(path, &Keys { kv_heads: "num_key_value_heads", head_dim: "head_dim", bos: "bos_token_id" })?;
    Ok(parsed)
}

fn activation(fields: &Fields<'_>) -> Result<Activation> {
    match fields.str("hidden_act")?.unwrap_or("silu") {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
        _ => Err(fields.fail("hidden_act", "silu, gelu or gelu_pytorch_tanh")),
    }
}

/// The window of each layer. Mistral applies its window to all layers; Qwen only with `use_sliding_window`,
/// to those that `layer_types` names or that follow the first `max_window_layers`.
fn sliding_windows(fields: &Fields<'_>, defaults: &Defaults, layers: usize) -> Result<Vec<Option<usize>>> {
    let absent = fields.object.get("sliding_window").is_none();
    let given = fields.count("sliding_window", 1..=LIMIT)?;
    let window = given.or(if absent { defaults.sliding_window } else { None });
    match defaults.architecture {
        "mistral" => Ok(vec![window; layers]),
        "qwen2" | "qwen3" => {
            let window = if fields.bool("use_sliding_window", false)? { window } else { None };
            if let Some(types) = fields.get("layer_types") {
                return layer_types(fields, types, window, layers);
            }
            let first = fields.count("max_window_layers", 0..=LIMIT)?.unwrap_or(28);
            Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect())
        }
        _ => Ok(vec![None; layers]),
    }
}

fn layer_types(
    fields: &Fields<'_>,
    types: &Value,
    window: Option<usize>,
    layers: usize,
) -> Result<Vec<Option<usize>>> {
    let fail = || fields.fail("layer_types", &format!("{layers} of full_attention and sliding_attention"));
    let types = types.as_array().filter(|list| list.len() == layers).ok_or_else(fail)?;
    types
        .iter()
        .map(|kind| match kind.as_str() {
            Some("full_attention") => Ok(None),
            Some("sliding_attention") => Ok(window),
            _ => Err(fail()),
        })
        .collect()
}

/// The end tokens of `config.json` and of `generation_config.json`.
pub(super) fn eos_ids(path: &Path, config: &Value, generation: Option<&Value>) -> Result<Vec<u32>> {
    let mut eos = Fields { path, prefix: "", object: config }.token_ids("eos_token_id")?;
    if let Some(object) = generation {
        let path = path.with_file_name("generation_config.json");
        for id in (Fields { path: &path, prefix: "", object }).token_ids("eos_token_id")? {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
    }
    Ok(eos)
}

/// The start token and the end tokens, with the class's own where no file names any.
fn token_ids(
    fields: &Fields<'_>,
    defaults: &Defaults,
    generation: Option<&Value>,
) -> Result<(Option<u32>, Vec<u32>)> {
    let absent = |key: &str| fields.object.get(key).is_none();
    let bos = fields.token_ids("bos_token_id")?.first().copied();
    let bos = if absent("bos_token_id") { defaults.bos } else { bos };
    let mut eos = eos_ids(fields.path, fields.object, generation)?;
    if eos.is_empty() && absent("eos_token_id") {
        eos = defaults.eos.to_vec();
    }
    Ok((bos, eos))
}

/// Rotary embedding: `rope_parameters` of transformers 5, or `rope_theta` beside `rope_scaling`.
fn rope(fields: &Fields<'_>, context: usize) -> Result<RopeConfig> {
    let (prefix, object) = match (fields.get("rope_parameters"), fields.get("rope_scaling")) {
        (Some(object), _) => ("rope_parameters.", object),
        (None, Some(object)) => ("rope_scaling.", object),
        (None, None) => ("", &Value::Null),
    };
    if !object.is_object() && !object.is_null() {
        return Err(fields.fail(prefix.trim_end_matches('.'), "an object"));
    }
    let inner = Fields { path: fields.path, prefix, object };
    let theta = match inner.positive("rope_theta")? {
        Some(theta) => theta,
        None => fields.positive("rope_theta")?.unwrap_or(10000.0),
    };
    for (at, key) in [(&inner, "partial_rotary_factor"), (fields, "partial_rotary_factor")] {
        if at.positive(key)?.is_some_and(|part| part != 1.0) {
            return Err(at.fail(key, "1"));
        }
    }
    Ok(RopeConfig { theta, scaling: scaling(&inner, fields, context)?, interleaved: false })
}

fn scaling(rope: &Fields<'_>, config: &Fields<'_>, context: usize) -> Result<RopeScaling> {
    let key = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    let original = || -> Result<Option<usize>> {
        let inner = rope.count("original_max_position_embeddings", 1..=LIMIT)?;
        Ok(inner.or(config.count("original_max_position_embeddings", 1..=LIMIT)?))
    };
    match rope.str(key)?.unwrap_or("default") {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: rope.required("factor")? }),
        "llama3" => {
            let low_freq_factor = rope.required("low_freq_factor")?;
            let high_freq_factor = rope.required("high_freq_factor")?;
            if high_freq_factor <= low_freq_factor {
                return Err(rope.fail("high_freq_factor", "more than low_freq_factor"));
            }
            Ok(RopeScaling::Llama3 {
                factor: rope.required("factor")?,
                low_freq_factor,
                high_freq_factor,
                original: original()?.unwrap_or(context),
            })
        }
        "yarn" => yarn(rope, original()?.unwrap_or(context), context),
        _ => Err(rope.fail(key, "default, linear, llama3 or yarn")),
    }
}

fn yarn(rope: &Fields<'_>, original: usize, context: usize) -> Result<RopeScaling> {
    let factor = rope.positive("factor")?.unwrap_or(context as f64 / original as f64);
    let weights = (rope.positive("mscale")?, rope.positive("mscale_all_dim")?);
    let attention_factor = match (rope.positive("attention_factor")?, weights) {
        (Some(given), _) => given,
        (None, (Some(mscale), Some(all_dim))) => yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim),
        (None, _) => yarn_mscale(factor, 1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        original,
        beta_fast: rope.positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: rope.positive("beta_slow")?.unwrap_or(1.0),
        attention_factor,
        truncate: rope.bool("truncate", true)?,
    })
}
