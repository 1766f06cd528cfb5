//! Pre-tokenizers of byte-level models, by the names that GGUF's `tokenizer.ggml.pre` gives them.
//!
//! Names and meaning are llama.cpp's; the patterns are those of the models' own tokenizers: GPT-2, Llama 3,
//! Qwen2, Qwen3.5, StarCoder, DeepSeek, Mistral's Tekken and GPT-4o.

use serde_json::Value;

/// How a text is cut before merging.
pub(super) struct PreTokenizer {
    /// Applied one after another: each cuts the pieces that those before it left.
    pub(super) patterns: &'static [&'static str],
    /// Whether a piece that is a token is taken whole, without merging.
    pub(super) ignore_merges: bool,
    /// Whether texts start with the start token where the file does not say.
    pub(super) add_bos: bool,
    /// Whether texts are brought to normal form C first. llama.cpp leaves this out; the models were
    /// trained with it.
    pub(super) nfc: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// The names that are known, for messages.
pub(super) const NAMES: &str =
    "default, gpt-2, llama-bpe, qwen2, qwen35, smollm, starcoder, tekken, gpt-4o, deepseek-v3";

/// The pre-tokenizer of this name; of the name "default" where the file has none.
pub(super) fn find(name: &str) -> Option<PreTokenizer> {
    let plain = |patterns| PreTokenizer { patterns, ignore_merges: false, add_bos: false, nfc: false };
    let starting = |patterns| PreTokenizer { patterns, ignore_merges: true, add_bos: true, nfc: false };
    Some(match name {
        "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        "gpt-2" | "phi-2" | "gigachat" | "roberta-bpe" => plain(&[GPT2]),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "dbrx" | "smaug-bpe" => starting(&[LLAMA3]),
        "qwen2" | "deepseek-r1-qwen" => PreTokenizer { nfc: true, ..plain(&[QWEN2]) },
        "qwen35" => PreTokenizer { nfc: true, ..plain(&[QWEN35]) },
        "stablelm2" | "megrez" => plain(&[QWEN2]),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => plain(&[r"\p{N}", GPT2]),
        "tekken" => starting(&[TEKKEN]),
        "gpt-4o" | "llama4" => plain(&[GPT4O]),
        "deepseek-v3" => plain(&[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK3]),
        _ => return None,
    })
}

/// The name of the pre-tokenizer that `tokenizer.json` describes; what it is, if it has none.
pub(crate) fn name_of(value: &Value) -> Result<&'static str, String> {
    let mut patterns = vec![];
    collect(value, &mut patterns)?;
    let known =
        ["llama-bpe", "qwen2", "qwen35", "tekken", "gpt-4o", "deepseek-v3", "smollm", "gpt-2", "default"];
    known
        .into_iter()
        .find(|name| find(name).is_some_and(|pre| pre.patterns == patterns))
        .ok_or_else(|| format!("the patterns {patterns:?}"))
}

/// The patterns by which a pre-tokenizer cuts, one after the other.
fn collect<'a>(value: &'a Value, patterns: &mut Vec<&'a str>) -> Result<(), String> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    match value.get("type").and_then(Value::as_str).unwrap_or("null") {
        "Sequence" => {
            let inner = value.get("pretokenizers").and_then(Value::as_array);
            inner.into_iter().flatten().try_for_each(|inner| collect(inner, patterns))?;
        }
        "Split" if flag("invert") != Some(true) => {
            let pattern = value.pointer("/pattern/Regex").and_then(Value::as_str);
            patterns.push(pattern.ok_or("a split by something other than an expression")?);
        }
        "Digits" if flag("individual_digits") == Some(true) => patterns.push(r"\p{N}"),
        "ByteLevel" if flag("use_regex") == Some(false) => {}
        "ByteLevel" => patterns.push(GPT2),
        other => return Err(other.chars().take(40).collect()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{find, name_of};

    /// As Qwen/Qwen3.5-9B's `tokenizer.json` has it: marks belong to words.
    #[test]
    fn the_pattern_of_qwen35_has_its_name() {
        let pattern = concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|",
            r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        );
        let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "invert": false});
        let bytes = json!({"type": "ByteLevel", "use_regex": false});
        let found = name_of(&json!({"type": "Sequence", "pretokenizers": [split, bytes]}));
        assert_eq!(found, Ok("qwen35"));
        assert!(find("qwen35").is_some_and(|pre| pre.nfc));
    }
}
