//! `tokenizer.json` as the keys of a GGUF file.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::metadata::Keys;
use crate::checkpoint::{Checkpoint, ModelConfig};
use crate::error::{Error, Result};
use crate::template::ChatTemplate;
use crate::tokenizer::{Tokenizer, pre_name, special_token};

// What a token is, by the ids of `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A vocabulary in the making.
struct Vocabulary {
    names: Vec<String>,
    kinds: Vec<i32>,
    /// Ranks of the merges that make a token; of several, the first.
    merges: Vec<(String, String)>,
}

/// Adds the tokenizer and the chat template.
///
/// # Errors
/// [`Error::Tokenizer`] if it is of a kind that GGUF has no words for.
pub(super) fn add(keys: &mut Keys, checkpoint: &Checkpoint, model: &ModelConfig) -> Result<()> {
    let tokenizer = Tokenizer::from_checkpoint(checkpoint)?;
    let path = tokenizer.path().to_path_buf();
    let json = checkpoint.side_json("tokenizer.json")?.unwrap_or(Value::Null);
    let bytes = json.pointer("/model/byte_fallback").and_then(Value::as_bool).unwrap_or(false);
    let mut vocabulary = Vocabulary::read(&path, &json, model.vocab_size)?;
    if bytes {
        keys.string("tokenizer.ggml.model", "llama");
        keys.string("tokenizer.ggml.pre", "default");
        keys.bool("tokenizer.ggml.add_space_prefix", adds_space(&json));
        vocabulary.name_bytes(json.pointer("/model/unk_token").and_then(Value::as_str));
        keys.f32s("tokenizer.ggml.scores", &vocabulary.scores());
    } else {
        let pre = json.get("pre_tokenizer").unwrap_or(&Value::Null);
        let name = pre_name(pre).map_err(|found| {
            Error::tokenizer(&path, "pre_tokenizer", "one that GGUF has a name for", found)
        })?;
        keys.string("tokenizer.ggml.model", "gpt2");
        keys.string("tokenizer.ggml.pre", name);
        let merges: Vec<String> = vocabulary.merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        keys.strings("tokenizer.ggml.merges", &merges);
    }
    keys.strings("tokenizer.ggml.tokens", &vocabulary.names);
    keys.i32s("tokenizer.ggml.token_type", &vocabulary.kinds);
    add_special(keys, checkpoint, model, &tokenizer)?;
    if let Some(source) = ChatTemplate::source_of(checkpoint)? {
        keys.string("tokenizer.chat_template", &source);
    }
    Ok(())
}

/// Start and end tokens, and whether texts get them.
fn add_special(
    keys: &mut Keys,
    checkpoint: &Checkpoint,
    model: &ModelConfig,
    tokenizer: &Tokenizer,
) -> Result<()> {
    let config = checkpoint.side_json("tokenizer_config.json")?.unwrap_or(Value::Null);
    let named = |key: &str| special_token(&config, key).and_then(|token| tokenizer.token_to_id(token));
    let bos = tokenizer.bos().or(model.bos_id);
    // The tokenizer's own end first: it is what ends a turn.
    let mut ends: Vec<u32> = named("eos_token").into_iter().collect();
    for &id in tokenizer.eos_ids().iter().chain(&model.eos_ids) {
        if !ends.contains(&id) && (id as usize) < model.vocab_size {
            ends.push(id);
        }
    }
    let mut id = |role: &str, id: Option<u32>| {
        if let Some(id) = id {
            keys.u32(&format!("tokenizer.ggml.{role}_token_id"), id);
        }
    };
    id("bos", bos);
    for (role, &end) in ["eos", "eot", "eom"].into_iter().zip(&ends) {
        id(role, Some(end));
    }
    id("unknown", named("unk_token"));
    id("padding", named("pad_token"));
    let (plain, special) = (tokenizer.encode("a", false)?, tokenizer.encode("a", true)?);
    let more = special.len() > plain.len();
    keys.bool("tokenizer.ggml.add_bos_token", more && special.first().copied() == bos && bos.is_some());
    let end = ends.first().copied();
    keys.bool("tokenizer.ggml.add_eos_token", more && special.last().copied() == end && end.is_some());
    Ok(())
}

/// Whether a space is put before texts.
fn adds_space(json: &Value) -> bool {
    fn any(value: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
        let inner = ["normalizers", "pretokenizers"].iter().filter_map(|key| value.get(key)?.as_array());
        test(value) || inner.flatten().any(|inner| any(inner, test))
    }
    let kind = |value: &Value, name: &str| value.get("type").and_then(Value::as_str) == Some(name);
    let prepends = |value: &Value| {
        kind(value, "Prepend")
            || kind(value, "Metaspace")
                && value.get("prepend_scheme").and_then(Value::as_str).is_none_or(|s| s != "never")
    };
    ["normalizer", "pre_tokenizer"].iter().filter_map(|key| json.get(key)).any(|part| any(part, &prepends))
}

impl Vocabulary {
    /// The tokens of `tokenizer.json`, filled up to `size`.
    fn read(path: &Path, json: &Value, size: usize) -> Result<Self> {
        let fail = |part: &str, expected: &str, found: String| Error::tokenizer(path, part, expected, found);
        let mut names = vec![None; size];
        let mut kinds = vec![UNUSED; size];
        let mut put = |name: &str, id: Option<u64>, kind: i32| {
            let slot = id.and_then(|id| names.get_mut(usize::try_from(id).ok()?).map(|slot| (id, slot)));
            let Some((id, slot)) = slot else {
                let found = id.map_or("no id".into(), |id| id.to_string());
                return Err(fail("vocab", &format!("ids below the model's {size} tokens"), found));
            };
            *slot = Some(name.to_string());
            kinds[id as usize] = kind;
            Ok(())
        };
        let vocab = json.pointer("/model/vocab").and_then(Value::as_object);
        let vocab = vocab.ok_or_else(|| fail("model.vocab", "an object of ids", "nothing".into()))?;
        for (name, id) in vocab {
            put(name, id.as_u64(), NORMAL)?;
        }
        for token in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let name = token.get("content").and_then(Value::as_str).unwrap_or_default();
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
            let kind = if special { CONTROL } else { USER_DEFINED };
            put(name, token.get("id").and_then(Value::as_u64), kind)?;
        }
        let names = (0..).zip(names).map(|(id, name)| name.unwrap_or_else(|| format!("[PAD{id}]")));
        let names = names.collect();
        let mut merges = vec![];
        for merge in json.pointer("/model/merges").and_then(Value::as_array).into_iter().flatten() {
            let pair = match merge {
                Value::String(text) => text.split_once(' '),
                Value::Array(pair) => match pair.as_slice() {
                    [a, b] => a.as_str().zip(b.as_str()),
                    _ => None,
                },
                _ => None,
            };
            let (a, b) = pair.ok_or_else(|| fail("model.merges", "pairs of tokens", merge.to_string()))?;
            merges.push((a.to_string(), b.to_string()));
        }
        Ok(Vocabulary { names, kinds, merges })
    }

    /// Marks SentencePiece's tokens for bytes and for what is unknown.
    fn name_bytes(&mut self, unknown: Option<&str>) {
        for (name, kind) in self.names.iter().zip(&mut self.kinds) {
            let is_byte = name.len() == 6 && name.starts_with("<0x") && name.ends_with('>');
            if is_byte && *kind == NORMAL {
                *kind = BYTE;
            } else if Some(name.as_str()) == unknown {
                *kind = UNKNOWN;
            }
        }
    }

    /// Scores by which pairs are merged, best first: the earlier the merge, the higher.
    fn scores(&self) -> Vec<f32> {
        let mut ranks: HashMap<String, usize> = HashMap::new();
        for (rank, (a, b)) in self.merges.iter().enumerate() {
            ranks.entry(format!("{a}{b}")).or_insert(rank);
        }
        let last = self.merges.len();
        self.names.iter().map(|name| -(ranks.get(name).copied().unwrap_or(last) as f32)).collect()
    }
}
