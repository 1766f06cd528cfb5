//! What is fed, and the valid files that the damage starts from.

use std::collections::BTreeMap;
use std::path::Path;

use dacapo_lm::checkpoint::safetensors;
use dacapo_lm::{ChatTemplate, Checkpoint, Message, TemplateOptions, Tokenizer};

use crate::files::{TINY_CONFIG, tiny_gguf, tiny_mlx};

/// A reader, with valid input to damage.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// A valid input.
    pub seed: fn() -> Vec<u8>,
    /// Reads an input; it may fail, but not panic. The folder is for files that must be on disk.
    pub run: fn(&[u8], &Path),
}

/// All readers.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "safetensors",
        seed: tiny_mlx,
        run: |bytes, _| drop(safetensors::parse(Path::new("f"), bytes)),
    },
    Target { name: "gguf", seed: gguf_seed, run: gguf },
    Target { name: "gguf-tokenizer", seed: || vocabulary("llama3"), run: gguf },
    Target { name: "gguf-sentencepiece", seed: || vocabulary("llama2"), run: gguf },
    Target { name: "config", seed: || TINY_CONFIG.as_bytes().to_vec(), run: config },
    Target { name: "tokenizer-json", seed: tokenizer_seed, run: tokenizer_json },
    Target { name: "template", seed: || TEMPLATE.as_bytes().to_vec(), run: template },
    Target {
        name: "decode-stream",
        seed: || b"any bytes are token ids \xff\xfe\x80".to_vec(),
        run: decode_stream,
    },
];

const TEMPLATE: &str = "{{ bos_token }}{%- for m in messages %}{% set n = m.content | trim %}{{ '<%s>' % (m.role) }}\
    {{ n[1:3] ~ (m | tojson(indent=2)) }}{% generation %}{{ n.split(' ')[-1] }}{% endgeneration %}{% endfor -%}\
    {% if add_generation_prompt %}{{ raise_exception('no') if nope else strftime_now('%d %b') }}{% endif %}";

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/dacapo-lm/tests/fixtures/tokenizers");
    std::fs::read(folder.join(name)).unwrap_or_default()
}

fn vocabulary(kind: &str) -> Vec<u8> {
    fixture(&format!("{kind}/vocab.gguf"))
}

fn tokenizer_seed() -> Vec<u8> {
    fixture("llama2/tokenizer.json")
}

fn gguf_seed() -> Vec<u8> {
    tiny_gguf("llama")
        .u32("general.alignment", 32)
        .strings("tokenizer.ggml.merges", &["a b"])
        .tensor("token_embd.weight", &[32, 4], 2, 72)
        .tensor("blk.0.attn_q.weight", &[32, 32], 8, 1088)
        .tensor("blk.0.attn_norm.weight", &[32], 0, 128)
        .build()
}

/// Reads all that a checkpoint gives, whatever fails.
fn read(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    for tensor in checkpoint.tensors() {
        let _ = tensor.bytes().first();
    }
    if let Ok(config) = checkpoint.model_config() {
        for module in ["model.embed_tokens", "lm_head", "model.layers.0.self_attn.q_proj"] {
            let _ = checkpoint.linear(module, config.vocab_size, config.hidden_size);
        }
    }
    if let Ok(Some(template)) = ChatTemplate::from_checkpoint(&checkpoint) {
        let _ = template.render(&[Message::new("user", "hi")], &TemplateOptions::default());
    }
    if let Ok(tokenizer) = Tokenizer::from_checkpoint(&checkpoint)
        && let Ok(ids) = tokenizer.encode("a b  ab <s> 12 \u{e9}\u{1f600}\n", true)
    {
        let _ = tokenizer.decode(&ids, false);
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    // A file that cannot be written is a file that is not there, which is input as well.
    let _ = std::fs::write(folder.join(name), bytes);
}

fn gguf(bytes: &[u8], folder: &Path) {
    write(folder, "m.gguf", bytes);
    read(&folder.join("m.gguf"));
}

fn config(bytes: &[u8], folder: &Path) {
    write(folder, "config.json", bytes);
    write(folder, "model.safetensors", &tiny_mlx());
    read(folder);
}

fn tokenizer_json(bytes: &[u8], folder: &Path) {
    write(folder, "tokenizer.json", bytes);
    config(TINY_CONFIG.as_bytes(), folder);
}

fn template(bytes: &[u8], _: &Path) {
    let source = String::from_utf8_lossy(bytes);
    let tokens = BTreeMap::from([("bos_token".to_string(), "<s>".to_string())]);
    if let Ok(template) = ChatTemplate::new(Path::new("f"), &source, tokens) {
        let messages = [Message::new("user", " a b "), Message::new("assistant", "\u{e9}")];
        let options = TemplateOptions { add_generation_prompt: true, ..TemplateOptions::default() };
        let _ = template.render(&messages, &options);
    }
}

fn decode_stream(bytes: &[u8], folder: &Path) {
    let path = folder.join("vocab.gguf");
    if !path.exists() {
        write(folder, "vocab.gguf", &vocabulary("llama2"));
    }
    let Ok(checkpoint) = Checkpoint::open(&path) else { return };
    let Ok(tokenizer) = Tokenizer::from_checkpoint(&checkpoint) else { return };
    let ids: Vec<u32> =
        bytes.chunks(2).map(|pair| pair.iter().fold(0, |id, &b| id << 3 | u32::from(b))).collect();
    let mut stream = tokenizer.decode_stream(bytes.len().is_multiple_of(2));
    let mut text = String::new();
    ids.iter().for_each(|&id| text.extend(stream.push(id)));
    text.extend(stream.flush());
    assert_eq!(text, tokenizer.decode(&ids, bytes.len().is_multiple_of(2)));
}
