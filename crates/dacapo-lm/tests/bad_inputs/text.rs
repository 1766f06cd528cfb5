//! Broken tokenizers and templates.

use super::files::{GgufFile, TINY_CONFIG, tiny_gguf, tiny_mlx};
use super::{check, folder, gguf};

#[test]
fn tokenizers_and_templates() {
    let with = |files: &[(&str, &[u8])]| {
        let mut all = vec![("config.json", TINY_CONFIG.as_bytes())];
        let weights = tiny_mlx();
        all.push(("model.safetensors", &weights));
        all.extend(files);
        folder(&all)
    };
    let tokenizer = |json: &str| with(&[("tokenizer.json", json.as_bytes())]);
    let bpe = |model: &str, decoder: &str| {
        tokenizer(&format!(
            r#"{{"version":"1.0","added_tokens":[],"decoder":{decoder},"model":{{"type":"BPE","vocab":{{"a":0}},"merges":[]{model}}}}}"#
        ))
    };
    let byte_level =
        r#"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}"#;
    let embedded = |file: GgufFile| {
        gguf(
            file.tensor("token_embd.weight", &[32, 4], 0, 512)
                .tensor("output.weight", &[32, 4], 0, 512)
                .build(),
        )
    };
    check(&[
        ("no tokenizer", with(&[]), "tokenizer.json: missing file, needed by the tokenizer"),
        (
            "no JSON",
            tokenizer("{]"),
            "tokenizer.json: tokenizer: content: expected a tokenizer in JSON, found key must be a string at line 1 column 2",
        ),
        (
            "another model",
            tokenizer(r#"{"model":{"type":"Unigram"}}"#),
            "tokenizer.json: tokenizer: model.type: expected BPE or WordPiece, found \"Unigram\"",
        ),
        (
            "dropout",
            bpe(r#","dropout":0.5"#, byte_level),
            "tokenizer.json: tokenizer: model.dropout: expected none, found 0.5",
        ),
        (
            "prefix",
            bpe(r###","continuing_subword_prefix":"##""###, byte_level),
            "tokenizer.json: tokenizer: model.continuing_subword_prefix: expected none, found \"##\"",
        ),
        (
            "decoder",
            bpe("", r#"{"type":"CTC"}"#),
            "tokenizer.json: tokenizer: decoder: expected ByteLevel, Metaspace, WordPiece, or a sequence for byte fallback, found CTC",
        ),
        (
            "a special token that is used and not defined",
            tokenizer(&format!(
                r#"{{"decoder":{byte_level},"model":{{"type":"BPE","vocab":{{"a":0}},"merges":[]}},"post_processor":{{"type":"Sequence","processors":[{{"type":"TemplateProcessing","single":[{{"SpecialToken":{{"id":"<s>","type_id":0}}}}],"pair":[],"special_tokens":{{}}}}]}}}}"#
            )),
            "tokenizer.json: tokenizer: post_processor: expected special tokens that are defined, found \"<s>\" in the template alone",
        ),
        (
            "an id without sense",
            tokenizer(&format!(
                r#"{{"decoder":{byte_level},"model":{{"type":"BPE","vocab":{{"a":4000000000}},"merges":[]}}}}"#
            )),
            "tokenizer.json: tokenizer: token \"a\": expected an id below 1032 for 1 tokens, found 4000000000",
        ),
        (
            "an id given twice",
            tokenizer(&format!(
                r#"{{"decoder":{byte_level},"model":{{"type":"BPE","vocab":{{"a":0,"b":0}},"merges":[]}}}}"#
            )),
            "tokenizer.json: tokenizer: token id 0: expected one token, found several",
        ),
        (
            "a template that does not compile",
            with(&[("tokenizer_config.json", br#"{"chat_template":"{% if %}"}"#)]),
            "tokenizer_config.json: chat template: syntax error: unexpected end of block (in default:1)",
        ),
        (
            "a template that is no text",
            with(&[("tokenizer_config.json", br#"{"chat_template":7}"#)]),
            "tokenizer_config.json: chat template: neither a text nor a list of named ones",
        ),
        (
            "pre-tokenizer",
            embedded(tiny_gguf("gpt2").string("tokenizer.ggml.pre", "nothing-known")),
            "m.gguf: tokenizer: tokenizer.ggml.pre: expected default, gpt-2, llama-bpe, qwen2, qwen35, smollm, starcoder, tekken, gpt-4o, deepseek-v3, found \"nothing-known\"",
        ),
        (
            "model",
            embedded(tiny_gguf("t5")),
            "m.gguf: tokenizer: tokenizer.ggml.model: expected gpt2, llama or bert, found \"t5\"",
        ),
        (
            "merge",
            embedded(tiny_gguf("gpt2").strings("tokenizer.ggml.merges", &["a b", "ab"])),
            "m.gguf: tokenizer: tokenizer.ggml.merges[1]: expected two tokens and a space between, found \"ab\"",
        ),
        (
            "merge of unknown tokens",
            embedded(tiny_gguf("gpt2").strings("tokenizer.ggml.merges", &["b a"])),
            "m.gguf: tokenizer: tokenizer.ggml.merges: expected merges of tokens of the vocabulary, found Token `ba` out of vocabulary",
        ),
        (
            "scores",
            embedded(tiny_gguf("llama").i32s("tokenizer.ggml.scores", &[0])),
            "m.gguf: tokenizer: tokenizer.ggml.scores: expected 4 values, found 1",
        ),
        (
            "special token",
            embedded(tiny_gguf("llama").u32("tokenizer.ggml.unknown_token_id", 4)),
            "m.gguf: tokenizer: tokenizer.ggml.unknown_token_id: expected a token below 4, found 4",
        ),
    ]);
}
