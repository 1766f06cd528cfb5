//! [`ModelConfig`] from `config.json`, with the defaults of transformers' configuration classes.

use std::path::Path;

use serde_json::Value;

use super::config::{
    Activation, Keys, LIMIT, MAX_LAYERS, ModelConfig, RopeConfig, RopeScaling, longrope_factor, yarn_mscale,
};
use super::families::{self, Defaults, Family};
use super::fields::Fields;
use crate::embed::Pooling;
use crate::error::{Error, Result};

/// Parses `config`, the content of the file at `path`, and the end tokens of `generation_config.json`.
pub(super) fn parse(path: &Path, config: &Value, generation: Option<&Value>) -> Result<ModelConfig> {
    let whole = Fields { path, prefix: "", object: config };
    // A model that sees images has the configuration of its text part inside.
    let fields = match whole.get("text_config") {
        Some(object) => Fields { prefix: "text_config.", object, ..whole },
        None => whole,
    };
    let name = whole.str("model_type")?.ok_or_else(|| whole.fail("model_type", "an architecture's name"))?;
    let family = families::by_model_type(name).ok_or_else(|| Error::unknown_architecture(path, name))?;
    let defaults = &family.defaults;
    let count =
        |key: &str, default: usize| -> Result<usize> { Ok(fields.count(key, 1..=LIMIT)?.unwrap_or(default)) };

    let hidden_size = count("hidden_size", defaults.hidden_size)?;
    let heads = count("num_attention_heads", defaults.heads)?;
    let layers = fields.count("num_hidden_layers", 1..=MAX_LAYERS)?.unwrap_or(defaults.layers);
    // An explicit null means as many as query heads; only an absent key takes the class's default.
    let explicit = fields.object.get("num_key_value_heads").is_some();
    let kv_default = if explicit { None } else { defaults.kv_heads };
    let kv_heads = count("num_key_value_heads", kv_default.unwrap_or(heads))?;
    let head_dim = match fields.count("head_dim", 1..=LIMIT)?.or(defaults.head_dim) {
        Some(head_dim) => head_dim,
        None if hidden_size % heads == 0 => hidden_size / heads,
        None => return Err(fields.fail("num_attention_heads", "a divisor of hidden_size")),
    };
    let context_length = count("max_position_embeddings", defaults.context_length)?;
    let attention_bias = fields.bool("attention_bias", false)?;
    let (bos_id, eos_ids) = token_ids(&whole, &fields, defaults, generation)?;
    let mut parsed = ModelConfig {
        architecture: family.name.to_string(),
        hidden_size,
        intermediate_size: count("intermediate_size", defaults.intermediate_size)?,
        layers,
        heads,
        kv_heads,
        head_dim,
        vocab_size: count("vocab_size", defaults.vocab_size)?,
        context_length,
        rms_eps: fields.positive("rms_norm_eps")?.unwrap_or(defaults.rms_eps) as f32,
        rope: main_rope(&fields, family, head_dim, context_length)?,
        local_rope: None,
        rotated: vec![true; layers],
        causal: true,
        token_types: 0,
        pooling: None,
        tie_word_embeddings: fields.bool("tie_word_embeddings", defaults.tied)?,
        attention_bias,
        attention_output_bias: attention_bias,
        mlp_bias: fields.bool("mlp_bias", false)?,
        sliding_windows: vec![None; layers],
        delta_nets: None,
        hidden_act: activation(&fields, "hidden_act", Activation::Silu)?,
        experts: None,
        attention_scale: (head_dim as f64).powf(-0.5),
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logit_scale: 1.0,
        norm_offset: 0.0,
        bos_id,
        eos_ids,
    };
    (family.adapt_hf)(&fields, &mut parsed)?;
    let keys = Keys {
        kv_heads: "num_key_value_heads",
        head_dim: "head_dim",
        rope_dims: "partial_rotary_factor",
        delta_heads: "linear_num_value_heads",
        bos: "bos_token_id",
        chosen_experts: "num_experts_per_tok",
    };
    parsed.check(path, &keys)?;
    Ok(parsed)
}

/// How states are pooled, from the configuration of sentence-transformers' module.
pub(super) fn pooling(path: &Path, config: &Value) -> Result<Option<Pooling>> {
    let fields = Fields { path, prefix: "", object: config };
    for (key, pooling) in [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_lasttoken", Pooling::Last),
    ] {
        if fields.bool(key, false)? {
            return Ok(Some(pooling));
        }
    }
    Ok(None)
}

/// The activation function of this key.
pub(super) fn activation(fields: &Fields<'_>, key: &str, default: Activation) -> Result<Activation> {
    match fields.str(key)? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu") => Ok(Activation::Gelu),
        Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
        Some(_) => Err(fields.fail(key, "silu, gelu or gelu_pytorch_tanh")),
    }
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
    whole: &Fields<'_>,
    text: &Fields<'_>,
    defaults: &Defaults,
    generation: Option<&Value>,
) -> Result<(Option<u32>, Vec<u32>)> {
    let absent = |key: &str| whole.object.get(key).or_else(|| text.object.get(key)).is_none();
    let inner = text.token_ids("bos_token_id")?;
    let bos = whole.token_ids("bos_token_id")?.first().or(inner.first()).copied();
    let bos = if absent("bos_token_id") { defaults.bos } else { bos };
    let mut eos = eos_ids(whole.path, whole.object, generation)?;
    if eos.is_empty() {
        eos = text.token_ids("eos_token_id")?;
    }
    if eos.is_empty() && absent("eos_token_id") {
        eos = defaults.eos.to_vec();
    }
    Ok((bos, eos))
}

/// Rotary embedding: `rope_parameters` of transformers 5, or `rope_theta` beside `rope_scaling`.
fn main_rope(fields: &Fields<'_>, family: &Family, head_dim: usize, context: usize) -> Result<RopeConfig> {
    let (prefix, object) = match (fields.get("rope_parameters"), fields.get("rope_scaling")) {
        (Some(object), _) => ("rope_parameters.", object),
        (None, Some(object)) => ("rope_scaling.", object),
        (None, None) => ("", &Value::Null),
    };
    if !object.is_object() && !object.is_null() {
        return Err(fields.fail(prefix.trim_end_matches('.'), "an object"));
    }
    let inner = Fields { path: fields.path, prefix, object };
    let theta = fields.positive("rope_theta")?.unwrap_or(family.defaults.theta);
    let rope = rope(&inner, fields, theta, head_dim, context)?;
    if rope.dims != head_dim && !family.partial_rotation {
        let at = if inner.get("partial_rotary_factor").is_some() { &inner } else { fields };
        return Err(at.fail("partial_rotary_factor", "1"));
    }
    Ok(rope)
}

/// The rotation that `inner` describes, in the configuration `fields`.
pub(super) fn rope(
    inner: &Fields<'_>,
    fields: &Fields<'_>,
    theta: f64,
    head_dim: usize,
    context: usize,
) -> Result<RopeConfig> {
    let part = match inner.positive("partial_rotary_factor")? {
        Some(part) => part,
        None => fields.positive("partial_rotary_factor")?.unwrap_or(1.0),
    };
    Ok(RopeConfig {
        theta: inner.positive("rope_theta")?.unwrap_or(theta),
        scaling: scaling(inner, fields, context)?,
        interleaved: false,
        dims: (head_dim as f64 * part) as usize,
    })
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
        "yarn" if long_lists(rope) => longrope(rope, original()?.unwrap_or(context), context),
        "yarn" => yarn(rope, original()?.unwrap_or(context), context),
        "longrope" | "su" => longrope(rope, original()?.unwrap_or(context), context),
        _ => Err(rope.fail(key, "default, linear, llama3, yarn or longrope")),
    }
}

/// Early files of Phi-3 call LongRoPE YaRN.
fn long_lists(rope: &Fields<'_>) -> bool {
    rope.get("long_factor").is_some()
}

fn longrope(rope: &Fields<'_>, original: usize, context: usize) -> Result<RopeScaling> {
    let factor = rope.positive("factor")?.unwrap_or(context as f64 / original as f64);
    let list = |key: &str| -> Result<Vec<f32>> {
        let fail = || rope.fail(key, "a list of positive numbers");
        let list = rope.get(key).and_then(Value::as_array).ok_or_else(fail)?;
        let number = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite() && *x > 0.0);
        list.iter().map(number).collect::<Option<_>>().ok_or_else(fail)
    };
    Ok(RopeScaling::LongRope {
        short: list("short_factor")?,
        long: list("long_factor")?,
        original,
        attention_factor: rope
            .positive("attention_factor")?
            .unwrap_or_else(|| longrope_factor(factor, original)),
    })
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
