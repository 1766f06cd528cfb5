//! What the configurations of one model family have that others do not: names, defaults, keys of their own.
//!
//! Defaults are those of transformers' configuration classes. What the keys of both formats have in common is read by
//! `config_hf` and `config_gguf`; then the family changes what is special about it.

mod bert;
mod delta;
mod gemma;
mod gpt_oss;
mod llama;
mod moe;
mod phi3;
mod qwen;

pub(super) use delta::see_tensors;
use serde_json::Value;

use super::Checkpoint;
use super::config::{LIMIT, ModelConfig, RopeConfig};
use super::config_gguf::Keyed;
use super::config_hf::rope;
use super::fields::Fields;
use crate::error::Result;

/// A model family.
pub(super) struct Family {
    /// The architecture's name, here and in GGUF's `general.architecture`.
    pub name: &'static str,
    /// Its names in `model_type`.
    pub model_types: &'static [&'static str],
    /// Whether GGUF files of that name exist.
    pub in_gguf: bool,
    /// Whether layers have experts; `None` if those of some models do.
    pub experts: Option<bool>,
    /// Whether llama.cpp's converter permutes the rows of queries and keys so that rotary pairs are neighbours.
    pub permuted: bool,
    /// Whether a part of a head may be rotated and the rest not.
    pub partial_rotation: bool,
    pub defaults: Defaults,
    /// What is special in `config.json`.
    pub adapt_hf: fn(&Fields<'_>, &mut ModelConfig) -> Result<()>,
    /// What is special in GGUF metadata.
    pub adapt_gguf: fn(&Keyed<'_>, &Checkpoint, &mut ModelConfig) -> Result<()>,
}

/// What transformers assumes for keys that an architecture's configuration leaves out.
pub(super) struct Defaults {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    /// As many as query heads, if there is none.
    pub kv_heads: Option<usize>,
    /// The hidden size divided by the heads, if there is none.
    pub head_dim: Option<usize>,
    pub context_length: usize,
    pub rms_eps: f64,
    pub theta: f64,
    pub tied: bool,
    pub bos: Option<u32>,
    pub eos: &'static [u32],
}

/// All families.
pub(super) static FAMILIES: &[Family] = &[
    llama::LLAMA,
    llama::MISTRAL,
    llama::GRANITE,
    llama::SMOLLM3,
    llama::OLMO2,
    qwen::QWEN2,
    qwen::QWEN3,
    delta::QWEN3_NEXT,
    delta::QWEN35,
    delta::QWEN35_MOE,
    gemma::GEMMA2,
    gemma::GEMMA3,
    gpt_oss::GPT_OSS,
    moe::MIXTRAL,
    moe::QWEN2_MOE,
    moe::QWEN3_MOE,
    phi3::PHI3,
    bert::BERT,
];

/// The family that `model_type` means.
pub(super) fn by_model_type(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.model_types.contains(&name))
}

/// Whether the architecture's GGUF files have the rows of queries and keys permuted.
pub(crate) fn is_permuted(architecture: &str) -> bool {
    FAMILIES.iter().any(|family| family.name == architecture && family.permuted)
}

/// The family that `general.architecture` means, for a file with experts or without. Mixtral's files say "llama".
pub(super) fn by_gguf(name: &str, experts: bool) -> Option<&'static Family> {
    let name = if name == "llama" && experts { "mixtral" } else { name };
    let fits = |family: &&Family| family.experts.is_none_or(|some| some == experts);
    FAMILIES.iter().filter(fits).find(|family| family.in_gguf && family.name == name)
}

/// Nothing is special.
fn plain_gguf(_: &Keyed<'_>, _: &Checkpoint, _: &mut ModelConfig) -> Result<()> {
    Ok(())
}

/// The key `sliding_window`; `default` if it is absent, none if it is null.
fn window(fields: &Fields<'_>, default: Option<usize>) -> Result<Option<usize>> {
    let absent = fields.object.get("sliding_window").is_none();
    Ok(fields.count("sliding_window", 1..=LIMIT)?.or(if absent { default } else { None }))
}

/// The window of each layer: `window` for those that `layer_types` names, or where it is absent, for those of `slides`.
fn windows(
    fields: &Fields<'_>,
    window: Option<usize>,
    layers: usize,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>> {
    let Some(types) = fields.get("layer_types") else {
        return Ok((0..layers).map(|layer| window.filter(|_| slides(layer))).collect());
    };
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

/// The rotations of layers that see everything and of those with a window, in the form of transformers 5, each with its default
/// base; `None` if the configuration has not that form.
fn ropes_by_kind(
    fields: &Fields<'_>,
    config: &ModelConfig,
    thetas: [f64; 2],
) -> Result<Option<[RopeConfig; 2]>> {
    let kinds = ["full_attention", "sliding_attention"];
    let [full, local] = kinds.map(|kind| fields.get("rope_parameters").and_then(|all| all.get(kind)));
    if full.or(local).is_none() {
        return Ok(None);
    }
    let of = |object: Option<&Value>, theta: f64| {
        let inner = Fields { prefix: "rope_parameters.", object: object.unwrap_or(&Value::Null), ..*fields };
        rope(&inner, fields, theta, config.head_dim, config.context_length)
    };
    Ok(Some([of(full, thetas[0])?, of(local, thetas[1])?]))
}

/// A list of truth values, written as such or as 0 and 1, one for each layer.
fn flags(fields: &Fields<'_>, key: &str, layers: usize) -> Result<Option<Vec<bool>>> {
    let Some(value) = fields.get(key) else { return Ok(None) };
    let fail = || fields.fail(key, &format!("at least {layers} of 0 and 1"));
    let flag = |value: &Value| value.as_bool().or(value.as_u64().filter(|&n| n < 2).map(|n| n == 1));
    let list = value.as_array().filter(|list| list.len() >= layers).ok_or_else(fail)?;
    list[..layers].iter().map(flag).collect::<Option<Vec<_>>>().map(Some).ok_or_else(fail)
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES, by_gguf, by_model_type};
    use crate::checkpoint::ARCHITECTURES;

    #[test]
    fn the_list_of_architectures_is_that_of_the_families() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        assert_eq!(names, ARCHITECTURES);
        assert_eq!(by_model_type("gemma3_text").map(|family| family.name), Some("gemma3"));
        assert!(by_gguf("qwen3next", true).is_some() && by_gguf("qwen3next", false).is_some());
        assert_eq!(by_model_type("qwen3_5").map(|family| family.name), Some("qwen35"));
        assert!(by_gguf("mistral", false).is_none() && by_gguf("gemma3", false).is_some());
        assert_eq!(by_gguf("llama", true).map(|family| family.name), Some("mixtral"));
        assert!(by_gguf("llama", false).is_some() && by_gguf("qwen2", true).is_none());
    }
}
