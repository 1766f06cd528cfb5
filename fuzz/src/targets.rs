//! What is fed, and the valid files that the damage starts from.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use dacapo_lm::checkpoint::safetensors as safetensors_file;
use dacapo_lm::convert::{self as conversion, Mix, convert};
use dacapo_lm::{ChatTemplate, Checkpoint, Message, TemplateOptions, Tokenizer};

use crate::files::{GgufFile, TINY_CONFIG, safetensors, tiny_gguf, tiny_mlx};

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
pub const TARGETS: [Target; 12] = [
    Target {
        name: "safetensors",
        seed: tiny_mlx,
        run: |bytes, _| drop(safetensors_file::parse(Path::new("f"), bytes)),
    },
    Target { name: "gguf", seed: gguf_seed, run: gguf },
    Target { name: "gguf-tokenizer", seed: || vocabulary("llama3"), run: gguf },
    Target { name: "gguf-sentencepiece", seed: || vocabulary("llama2"), run: gguf },
    Target { name: "gguf-split", seed: || part(1).build(), run: split },
    Target { name: "modes", seed: modes_seed, run: modes },
    Target { name: "convert-gguf", seed: gguf_seed, run: convert_gguf },
    Target { name: "convert-folder", seed: || llama_config().into_bytes(), run: convert_folder },
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

/// The first or the second part of a GGUF file.
fn part(number: u16) -> GgufFile {
    let file = if number == 0 { tiny_gguf("llama") } else { GgufFile::default() };
    file.raw("split.no", 2, &number.to_le_bytes())
        .raw("split.count", 2, &2u16.to_le_bytes())
        .raw("split.tensors.count", 5, &2i32.to_le_bytes())
        .tensor(&format!("blk.{number}.attn_norm.weight"), &[32], 0, 128)
}

fn split(bytes: &[u8], folder: &Path) {
    write(folder, "m-00001-of-00002.gguf", &part(0).build());
    write(folder, "m-00002-of-00002.gguf", bytes);
    read(&folder.join("m-00001-of-00002.gguf"));
    write(folder, "m-00001-of-00002.gguf", bytes);
    read(&folder.join("m-00001-of-00002.gguf"));
}

const MODES: &str = r#"{"quantization":{"group_size":32,"bits":4,"mode":"mxfp4","b":{"group_size":16,"bits":4,"mode":"nvfp4"}}}"#;

fn modes_seed() -> Vec<u8> {
    safetensors(&[
        ("a.weight", "U32", &[2, 8], 64),
        ("a.scales", "U8", &[2, 2], 4),
        ("b.weight", "U32", &[2, 8], 64),
        ("b.scales", "U8", &[2, 4], 8),
        ("c.weight", "F8_E4M3", &[2, 64], 128),
        ("c.weight_scale_inv", "F32", &[1, 1], 4),
    ])
}

fn modes(bytes: &[u8], folder: &Path) {
    write(folder, "config.json", MODES.as_bytes());
    write(folder, "model.safetensors", bytes);
    let Ok(checkpoint) = Checkpoint::open(folder) else { return };
    for module in ["a", "b", "c"] {
        let _ = checkpoint.linear(module, 2, 64);
    }
}

/// Writes a checkpoint in both ways, whatever comes of it.
fn convert_both(path: &Path, folder: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    let out = folder.join("converted");
    for target in [conversion::Target::Mlx { bits: 4, group: 32 }, conversion::Target::Gguf(Mix::ALL[7])] {
        let _ = convert(&checkpoint, &out, target, true, &mut |_, _| ControlFlow::Continue(()));
    }
}

fn convert_gguf(bytes: &[u8], folder: &Path) {
    write(folder, "m.gguf", bytes);
    convert_both(&folder.join("m.gguf"), folder);
}

/// The configuration of a tiny llama whose embedding and norm are all that there is.
fn llama_config() -> String {
    TINY_CONFIG.replace(r#""rope_theta""#, r#""tie_word_embeddings":true,"rope_theta""#)
}

fn convert_folder(bytes: &[u8], folder: &Path) {
    let folder = folder.join("folder");
    let _ = std::fs::create_dir_all(&folder);
    write(&folder, "config.json", bytes);
    write(&folder, "tokenizer.json", &tokenizer_seed());
    write(&folder, "model.safetensors", &convertible());
    if let Some(parent) = folder.parent() {
        convert_both(&folder, parent);
    }
}

/// The tensors that a conversion looks at.
fn convertible() -> Vec<u8> {
    safetensors(&[
        ("model.embed_tokens.weight", "BF16", &[4, 64], 512),
        ("model.layers.0.self_attn.q_proj.weight", "BF16", &[64, 64], 8192),
        ("model.norm.weight", "F16", &[64], 128),
    ])
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
