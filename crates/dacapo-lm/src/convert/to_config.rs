//! `config.json` and the tokenizer's files, from the metadata of a GGUF file.

use serde_json::{Value, json};

use super::metadata::rope_factors;
use super::special::shortest;
use super::{special, unconvertible};
use crate::checkpoint::{Activation, Checkpoint, ModelConfig, RopeScaling};
use crate::error::{Error, Result};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// Files by name.
type Files = Vec<(String, Vec<u8>)>;

/// The configuration, and the other files.
///
/// # Errors
/// [`Error::Unconvertible`] if `config.json` has no words for it; if the tokenizer cannot be loaded.
pub(super) fn files(checkpoint: &Checkpoint, model: &ModelConfig) -> Result<(Value, Files)> {
    let config = config(checkpoint, model)?;
    let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
    let mut json = tokenizer.to_json()?;
    let pretty =
        |value: &Value| serde_json::to_vec_pretty(value).map_err(|e| Error::io(checkpoint.path(), e.into()));
    let special = tokenizer.around();
    if let (Some(json), Some(bos)) = (json.as_object_mut(), special.0) {
        let name = tokenizer.id_to_token(bos).unwrap_or_default();
        json.insert("post_processor".into(), before(&name, bos));
    }
    let name = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id)).map_or(Value::Null, Value::from);
    let mut tokens = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": name(tokenizer.bos()),
        "eos_token": name(tokenizer.eos_ids().first().copied()),
        "model_max_length": model.context_length,
        "clean_up_tokenization_spaces": false,
    });
    if let Some(template) = ChatTemplate::source_of(checkpoint)? {
        tokens["chat_template"] = template.into();
    }
    let mut generation = json!({"eos_token_id": tokenizer.eos_ids()});
    if let Some(bos) = tokenizer.bos() {
        generation["bos_token_id"] = bos.into();
    }
    let files = vec![
        ("tokenizer.json".to_string(), pretty(&json)?),
        ("tokenizer_config.json".to_string(), pretty(&tokens)?),
        ("generation_config.json".to_string(), pretty(&generation)?),
    ];
    Ok((config, files))
}

/// A post-processor that puts a token before texts.
fn before(name: &str, id: u32) -> Value {
    let token = |type_id: u32| json!({"SpecialToken": {"id": name, "type_id": type_id}});
    let text = |part: &str, type_id: u32| json!({"Sequence": {"id": part, "type_id": type_id}});
    json!({
        "type": "TemplateProcessing",
        "single": [token(0), text("A", 0)],
        "pair": [token(0), text("A", 0), token(1), text("B", 1)],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]}},
    })
}

fn config(checkpoint: &Checkpoint, model: &ModelConfig) -> Result<Value> {
    let (kind, class) = special::model_type(model);
    let mut config = json!({
        "architectures": [class],
        "model_type": kind,
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "max_position_embeddings": model.context_length,
        "rms_norm_eps": shortest(model.rms_eps.into()),
        "hidden_act": match model.hidden_act {
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
        },
        "tie_word_embeddings": model.tie_word_embeddings,
        "rope_theta": model.rope.theta,
        "rope_scaling": scaling(checkpoint, model)?,
        "bos_token_id": model.bos_id,
        "eos_token_id": model.eos_ids,
        "torch_dtype": "bfloat16",
    });
    if let Some(config) = config.as_object_mut() {
        special::add_config(config, kind, checkpoint, model);
    }
    Ok(config)
}

/// The shortest decimals.
fn decimals(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| shortest(value.into())).collect()
}

fn scaling(checkpoint: &Checkpoint, model: &ModelConfig) -> Result<Value> {
    Ok(match model.rope.scaling {
        // Where it is null, readers take YaRN.
        RopeScaling::None if model.architecture == "gpt-oss" => json!({"rope_type": "default"}),
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attention_factor, truncate } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "attention_factor": attention_factor,
            "truncate": truncate,
        }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            llama3(factor, low_freq_factor, high_freq_factor, original)
        }
        RopeScaling::Factors => return find_factors(checkpoint, model),
        RopeScaling::LongRope { ref short, ref long, attention_factor, .. } => json!({
            "type": "longrope",
            "rope_type": "longrope",
            "short_factor": decimals(short),
            "long_factor": decimals(long),
            "attention_factor": attention_factor,
        }),
    })
}

fn llama3(factor: f64, low: f64, high: f64, original: usize) -> Value {
    json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    })
}

/// The numbers of Llama 3.1's kind of scaling whose factors are those of the file.
fn find_factors(checkpoint: &Checkpoint, model: &ModelConfig) -> Result<Value> {
    let tensor = checkpoint.floats("rope_freqs.weight", &[model.head_dim / 2])?;
    let stored: Vec<f32> =
        tensor.bytes().chunks_exact(4).filter_map(|b| Some(f32::from_le_bytes(b.try_into().ok()?))).collect();
    // Low frequencies are divided by the whole factor, which is the last; the context is a power of two.
    let factor = f64::from(stored.last().copied().unwrap_or(1.0));
    let pairs = [(1.0, 4.0), (1.0, 2.0), (1.0, 8.0), (1.0, 32.0)];
    for (low, high) in pairs {
        for original in (3..24).map(|bits| 1usize << bits) {
            let mut tried = model.clone();
            tried.rope.scaling =
                RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original };
            let factors = rope_factors(&tried).unwrap_or_default();
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs();
            if factors.len() == stored.len() && factors.iter().zip(&stored).all(near) {
                return Ok(llama3(factor, low, high, original));
            }
        }
    }
    let expected = "rope_freqs.weight with the factors of Llama 3.1's scaling";
    Err(unconvertible(checkpoint.path(), expected, "others"))
}
