//! [`ModelConfig`] from GGUF metadata, with the defaults of llama.cpp.

use super::Checkpoint;
use super::config::{
    Activation, Keys, LIMIT, MAX_LAYERS, ModelConfig, RopeConfig, RopeScaling, in_range, positive,
    yarn_mscale,
};
use super::families::{self, Family};
use super::gguf::Gguf;
use super::value::MetaValue;
use crate::embed::Pooling;
use crate::error::{Error, Result};

/// The keys under an architecture's name.
pub(super) struct Keyed<'a> {
    gguf: &'a Gguf,
    architecture: &'a str,
}

impl Keyed<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// A count from 1 to `limit`; `None` if absent.
    pub(super) fn count(&self, name: &str, limit: u64) -> Result<Option<usize>> {
        let key = self.key(name);
        match self.gguf.unsigned(&key)? {
            Some(n) => in_range(self.gguf.path(), &key, n, 1..=limit).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn required(&self, name: &str, limit: u64) -> Result<usize> {
        self.count(name, limit)?.ok_or_else(|| self.fail(name, "an integer", "nothing"))
    }

    /// A positive finite number; `None` if absent.
    pub(super) fn positive(&self, name: &str) -> Result<Option<f64>> {
        let key = self.key(name);
        match self.gguf.float(&key)? {
            Some(x) => positive(self.gguf.path(), &key, x).map(Some),
            None => Ok(None),
        }
    }

    /// The window of each layer. `default` is the window if there is no key; which layers have it is in a list, or it is
    /// all but the last of each `every`.
    pub(super) fn windows(
        &self,
        default: Option<usize>,
        every: usize,
        layers: usize,
    ) -> Result<Vec<Option<usize>>> {
        let window = match self.gguf.unsigned(&self.key("attention.sliding_window"))? {
            None => default,
            Some(0) => None,
            Some(_) => self.count("attention.sliding_window", LIMIT)?,
        };
        let name = "attention.sliding_window_pattern";
        let slides = match self.gguf.get(&self.key(name)) {
            Some(MetaValue::Array(_)) => self.flags(name, layers)?,
            _ => {
                let every = self.count(name, LIMIT)?.unwrap_or(every);
                (1..=layers).map(|layer| !layer.is_multiple_of(every)).collect()
            }
        };
        Ok(slides.into_iter().map(|slides| window.filter(|_| slides)).collect())
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, name: &str) -> bool {
        self.gguf.get(&self.key(name)).is_some()
    }

    /// A list of truth values, one for each layer.
    pub(super) fn flags(&self, name: &str, layers: usize) -> Result<Vec<bool>> {
        let list = self.gguf.bools(&self.key(name))?.unwrap_or_default();
        if list.len() == layers {
            return Ok(list);
        }
        Err(self.fail(name, format!("{layers} of true and false"), list.len()))
    }

    pub(super) fn fail(&self, name: &str, expected: impl Into<String>, found: impl ToString) -> Error {
        Error::config(self.gguf.path(), self.key(name), expected, found.to_string())
    }
}

/// Parses the metadata of `gguf`; some answers are in which tensors `checkpoint` has.
pub(super) fn parse(gguf: &Gguf, checkpoint: &Checkpoint) -> Result<ModelConfig> {
    let path = gguf.path();
    let architecture = gguf
        .str("general.architecture")?
        .ok_or_else(|| Error::config(path, "general.architecture", "an architecture's name", "nothing"))?;
    let keyed = Keyed { gguf, architecture };
    let experts = keyed.count("expert_count", LIMIT).unwrap_or(None);
    let family = families::by_gguf(architecture, experts.is_some()).ok_or_else(|| {
        match experts.filter(|_| families::by_gguf(architecture, false).is_some()) {
            None => Error::unknown_architecture(path, architecture),
            Some(count) => Error::unknown_architecture(path, &format!("{architecture} with {count} experts")),
        }
    })?;
    let hidden_size = keyed.required("embedding_length", LIMIT)?;
    // Layers that foresee further tokens stand behind the others, and are not run.
    let foreseeing = keyed.gguf.unsigned(&keyed.key("nextn_predict_layers"))?.unwrap_or(0);
    let blocks = keyed.required("block_count", MAX_LAYERS)?;
    let layers = match blocks.checked_sub(usize::try_from(foreseeing).unwrap_or(usize::MAX)) {
        Some(layers @ 1..) => layers,
        _ => return Err(keyed.fail("nextn_predict_layers", format!("fewer than {blocks}"), foreseeing)),
    };
    let heads = keyed.required("attention.head_count", LIMIT)?;
    let head_dim = head_dim(&keyed, hidden_size, heads)?;
    let context_length = keyed.required("context_length", LIMIT)?;
    let window = match gguf.unsigned(&keyed.key("attention.sliding_window"))? {
        Some(0) | None => None,
        Some(_) => keyed.count("attention.sliding_window", LIMIT)?,
    };
    let has = |name: &str| checkpoint.tensor(name).is_some();
    let (bos_id, eos_ids) = token_ids(gguf)?;
    let mut config = ModelConfig {
        architecture: family.name.to_string(),
        hidden_size,
        intermediate_size: keyed.required("feed_forward_length", LIMIT)?,
        layers,
        heads,
        kv_heads: keyed.count("attention.head_count_kv", LIMIT)?.unwrap_or(heads),
        head_dim,
        vocab_size: vocab_size(&keyed, checkpoint)?,
        context_length,
        rms_eps: keyed
            .positive("attention.layer_norm_rms_epsilon")?
            .or(keyed.positive("attention.layer_norm_epsilon")?)
            .ok_or_else(|| keyed.fail("attention.layer_norm_rms_epsilon", "a positive number", "nothing"))?
            as f32,
        rope: rope(&keyed, family, checkpoint, context_length, head_dim)?,
        local_rope: None,
        rotated: vec![true; layers],
        causal: true,
        token_types: 0,
        pooling: pooling(&keyed)?,
        tie_word_embeddings: !has("lm_head.weight"),
        attention_bias: has("model.layers.0.self_attn.q_proj.bias"),
        attention_output_bias: has("model.layers.0.self_attn.o_proj.bias"),
        mlp_bias: has("model.layers.0.mlp.up_proj.bias"),
        sliding_windows: vec![window; layers],
        delta_nets: None,
        hidden_act: Activation::Silu,
        experts: None,
        attention_scale: keyed.positive("attention.scale")?.unwrap_or((head_dim as f64).powf(-0.5)),
        attention_softcap: None,
        logit_softcap: None,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logit_scale: 1.0,
        norm_offset: 0.0,
        bos_id,
        eos_ids,
    };
    (family.adapt_gguf)(&keyed, checkpoint, &mut config)?;
    config.check(
        path,
        &Keys {
            kv_heads: &keyed.key("attention.head_count_kv"),
            head_dim: &keyed.key("attention.key_length"),
            rope_dims: &keyed.key("rope.dimension_count"),
            delta_heads: &keyed.key("ssm.time_step_rank"),
            bos: "tokenizer.ggml.bos_token_id",
            chosen_experts: &keyed.key("expert_used_count"),
        },
    )?;
    Ok(config)
}

fn head_dim(keyed: &Keyed<'_>, hidden_size: usize, heads: usize) -> Result<usize> {
    let head_dim = match keyed.count("attention.key_length", LIMIT)? {
        Some(head_dim) => head_dim,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => return Err(keyed.fail("attention.head_count", "a divisor of embedding_length", heads)),
    };
    same_width(keyed, "attention.value_length", head_dim)?;
    Ok(head_dim)
}

/// Refuses another number than the width of a head.
fn same_width(keyed: &Keyed<'_>, name: &str, head_dim: usize) -> Result<()> {
    match keyed.count(name, LIMIT)?.filter(|&other| other != head_dim) {
        None => Ok(()),
        Some(other) => Err(keyed.fail(name, format!("{head_dim}, the width of a head"), other)),
    }
}

/// Rows of the embedding; the metadata's own number is only a hint, and often absent.
fn vocab_size(keyed: &Keyed<'_>, checkpoint: &Checkpoint) -> Result<usize> {
    let embedding = ["model.embed_tokens.weight", "embeddings.word_embeddings.weight"];
    let rows = embedding.iter().find_map(|name| checkpoint.tensor(name)?.shape.first().copied());
    let rows = match rows {
        Some(rows) => Some(rows as u64),
        None => match keyed.count("vocab_size", LIMIT)? {
            Some(n) => Some(n as u64),
            None => keyed.gguf.array("tokenizer.ggml.tokens")?.map(|tokens| tokens.len as u64),
        },
    };
    let rows = rows.ok_or_else(|| keyed.fail("vocab_size", "an integer", "nothing"))?;
    in_range(keyed.gguf.path(), &keyed.key("vocab_size"), rows, 1..=LIMIT)
}

/// How states are pooled, by llama.cpp's numbers.
fn pooling(keyed: &Keyed<'_>) -> Result<Option<Pooling>> {
    match keyed.gguf.unsigned(&keyed.key("pooling_type"))? {
        None | Some(0) => Ok(None),
        Some(1) => Ok(Some(Pooling::Mean)),
        Some(2) => Ok(Some(Pooling::Cls)),
        Some(3) => Ok(Some(Pooling::Last)),
        Some(other) => Err(keyed.fail("pooling_type", "0 (none), 1 (mean), 2 (first) or 3 (last)", other)),
    }
}

/// The start token and the end tokens.
fn token_ids(gguf: &Gguf) -> Result<(Option<u32>, Vec<u32>)> {
    let id = |name: &str| -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match gguf.unsigned(&key)? {
            // Converters write -1, as an unsigned number, for none.
            None | Some(0xffff_ffff) => Ok(None),
            Some(n) => in_range(gguf.path(), &key, n, 0..=LIMIT).map(|n| Some(n as u32)),
        }
    };
    let mut eos = Vec::new();
    for name in ["eos", "eot", "eom"] {
        if let Some(id) = id(name)?.filter(|id| !eos.contains(id)) {
            eos.push(id);
        }
    }
    Ok((id("bos")?, eos))
}

fn rope(
    keyed: &Keyed<'_>,
    family: &Family,
    checkpoint: &Checkpoint,
    context: usize,
    head_dim: usize,
) -> Result<RopeConfig> {
    let dims = keyed.count("rope.dimension_count", LIMIT)?.unwrap_or(head_dim);
    if !family.partial_rotation {
        same_width(keyed, "rope.dimension_count", head_dim)?;
    }
    let theta = keyed.positive("rope.freq_base")?.unwrap_or(10000.0);
    let kind = keyed.gguf.str(&keyed.key("rope.scaling.type"))?;
    let factor = match keyed.gguf.float(&keyed.key("rope.scaling.factor"))? {
        // Zero stands for none in llama.cpp.
        Some(0.0) | None => keyed.positive("rope.scale_linear")?.unwrap_or(1.0),
        Some(_) => keyed.positive("rope.scaling.factor")?.unwrap_or(1.0),
    };
    let scaling = match kind {
        _ if checkpoint.tensor("rope_freqs.weight").is_some() => RopeScaling::Factors,
        // The family reads the lists, which are tensors.
        Some("none" | "longrope") => RopeScaling::None,
        Some("linear") | None if factor == 1.0 => RopeScaling::None,
        Some("linear") | None => RopeScaling::Linear { factor },
        Some("yarn") => RopeScaling::Yarn {
            factor,
            original: keyed.count("rope.scaling.original_context_length", LIMIT)?.unwrap_or(context),
            beta_fast: keyed.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: keyed.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            attention_factor: keyed.positive("rope.scaling.attn_factor")?.unwrap_or(1.0)
                * yarn_mscale(factor, 1.0),
            truncate: true,
        },
        Some(other) => {
            return Err(keyed.fail("rope.scaling.type", "none, linear or yarn", format!("{other:?}")));
        }
    };
    Ok(RopeConfig { theta, scaling, interleaved: family.permuted, dims })
}
