//! A tokenizer from `tokenizer.json` and `tokenizer_config.json`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::pieces::{Decoder, Piece, Pieces};
use super::{Special, Tokenizer};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, one_line};

/// What this module asks of `tokenizer.json` itself; the rest is the `tokenizers` crate's.
#[derive(Deserialize)]
struct Description {
    model: Model,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    post_processor: Value,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Loads the tokenizer of a folder.
pub(super) fn load(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    let file = checkpoint.side_file("tokenizer.json")?.ok_or_else(|| Error::MissingFile {
        path: checkpoint.config_path().with_file_name("tokenizer.json"),
        needed_by: "the tokenizer".into(),
    })?;
    let path = file.path();
    let broken = |e: &dyn std::fmt::Display| {
        Error::tokenizer(path, "content", "a tokenizer in JSON", one_line(&e.to_string()))
    };
    let description: Description = serde_json::from_slice(file.bytes()).map_err(|e| broken(&e))?;
    check_model(path, &description.model)?;
    check_processor(path, &description.post_processor)?;
    let decoder = Decoder::from_json(&description.decoder).map_err(|found| {
        Error::tokenizer(
            path,
            "decoder",
            "ByteLevel, Metaspace, WordPiece, or a sequence for byte fallback",
            found,
        )
    })?;
    let mut inner = tokenizers::Tokenizer::from_bytes(file.bytes()).map_err(|e| broken(&e))?;
    inner.with_padding(None);
    inner.with_truncation(None).map_err(|e| broken(&e))?;

    let pieces = Arc::new(pieces(path, &inner, &decoder)?);
    let config = checkpoint.side_json("tokenizer_config.json")?.unwrap_or(Value::Null);
    let named = |key: &str| special_token(&config, key).and_then(|token| inner.token_to_id(token));
    let (bos, end) = (named("bos_token"), named("eos_token"));
    let mut eos = checkpoint.eos_ids()?;
    if let Some(id) = end.filter(|id| !eos.contains(id)) {
        eos.push(id);
    }
    let special = match (flag(&config, "add_bos_token"), flag(&config, "add_eos_token")) {
        (None, None) => Special::Processor,
        // As in transformers, either key replaces the post-processor.
        (before, after) => Special::Around {
            before: bos.filter(|_| before == Some(true)),
            after: end.filter(|_| after == Some(true)),
        },
    };
    Ok(Tokenizer { inner, pieces, special, bos, eos, path: path.to_path_buf() })
}

fn flag(config: &Value, key: &str) -> Option<bool> {
    config.get(key).and_then(Value::as_bool)
}

/// The special token that `tokenizer_config.json` names under `key`: a string, or an object with `content`.
pub(crate) fn special_token<'a>(config: &'a Value, key: &str) -> Option<&'a str> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// Refuses models of other kinds than plain, deterministic byte-pair encoding and WordPiece.
fn check_model(path: &Path, model: &Model) -> Result<()> {
    let fail = |key: &str, expected: &str, found: String| {
        Err(Error::tokenizer(path, format!("model.{key}"), expected, found))
    };
    match model.kind.as_deref() {
        None | Some("BPE") => {}
        Some("WordPiece") => return Ok(()),
        Some(kind) => return fail("type", "BPE or WordPiece", format!("{:?}", one_line(kind))),
    }
    if let Some(dropout) = model.dropout.filter(|&p| p != 0.0) {
        return fail("dropout", "none", dropout.to_string());
    }
    for (key, text) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            return fail(key, "none", format!("{:?}", one_line(text)));
        }
    }
    Ok(())
}

/// Refuses templates around a text that use special tokens which they do not define: the `tokenizers` crate would
/// panic at the first text.
fn check_processor(path: &Path, processor: &Value) -> Result<()> {
    for inner in processor.get("processors").and_then(Value::as_array).into_iter().flatten() {
        check_processor(path, inner)?;
    }
    let defined = |id: &str| processor.get("special_tokens").is_some_and(|tokens| tokens.get(id).is_some());
    let pieces = ["single", "pair"].into_iter().filter_map(|key| processor.get(key)?.as_array()).flatten();
    let used = pieces.filter_map(|piece| piece.get("SpecialToken")?.get("id")?.as_str());
    match used.into_iter().find(|id| !defined(id)) {
        None => Ok(()),
        Some(id) => {
            let found = format!("{:?} in the template alone", one_line(id));
            Err(Error::tokenizer(path, "post_processor", "special tokens that are defined", found))
        }
    }
}

/// The decoding table of all tokens of `inner`.
fn pieces(path: &Path, inner: &tokenizers::Tokenizer, decoder: &Decoder) -> Result<Pieces> {
    let vocab = inner.get_vocab(true);
    // Vocabularies have few holes; the table of a file that names an absurd id would not fit memory.
    let limit = vocab.len() * 8 + 1024;
    let mut table: Vec<Option<Piece>> = Vec::new();
    let special: HashSet<u32> =
        inner.get_added_tokens_decoder().iter().filter(|(_, t)| t.special).map(|(&id, _)| id).collect();
    for (name, &id) in &vocab {
        let index = id as usize;
        if index >= limit {
            let expected = format!("an id below {limit} for {} tokens", vocab.len());
            return Err(Error::tokenizer(
                path,
                format!("token {:?}", one_line(name)),
                expected,
                id.to_string(),
            ));
        }
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        if table[index].is_some() {
            return Err(Error::tokenizer(path, format!("token id {id}"), "one token", "several"));
        }
        table[index] = Some(Piece { bytes: decoder.bytes(name), special: special.contains(&id) });
    }
    Ok(Pieces::new(table, decoder.clone()))
}
