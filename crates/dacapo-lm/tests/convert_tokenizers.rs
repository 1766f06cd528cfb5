//! Tokenizers and chat templates of checkpoints that were converted.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dacapo_lm::checkpoint::Format;
use dacapo_lm::convert::{Target, convert};
use dacapo_lm::{ChatTemplate, Checkpoint, Tokenizer};

fn tokenizers_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers")
}

const TEXTS: [&str; 6] = [
    "Once upon a time, there were 1234 cats.",
    " two  spaces\n\nand\tlines",
    "ü — 漢字 🙂 it's",
    "<s> [INST] <|im_start|>user<|eot_id|>",
    "I'LL don't \r\n \n x",
    "",
];

/// Fails unless both checkpoints give the same tokens for all texts.
fn assert_same_tokens(before: &Checkpoint, after: &Checkpoint, what: &str) {
    let [before, after] = [before, after].map(|c| Tokenizer::from_checkpoint(c).unwrap());
    for text in TEXTS {
        for special in [true, false] {
            let expected = before.encode(text, special).unwrap();
            let found = after.encode(text, special).unwrap();
            assert_eq!(found, expected, "{what}: {text:?}, special {special}");
            assert_eq!(after.decode(&expected, false), before.decode(&expected, false), "{what}: {text:?}");
        }
    }
    assert_eq!(after.bos(), before.bos(), "{what}");
    assert_eq!(after.eos_ids().first(), before.eos_ids().first(), "{what}");
}

/// A tiny llama in plain values with the tokenizer of a folder.
fn with_tokenizer(folder: &Path, tokenizer: &Path) {
    let tokens: serde_json::Value =
        serde_json::from_slice(&std::fs::read(tokenizer.join("tokenizer.json")).unwrap()).unwrap();
    let last = |list: &serde_json::Value| list["id"].as_u64().unwrap();
    let added = tokens["added_tokens"].as_array().unwrap().iter().map(last).max().unwrap_or(0);
    let vocab = tokens["model"]["vocab"].as_object().unwrap().values();
    let size = vocab.map(|id| id.as_u64().unwrap()).max().unwrap().max(added) as usize + 3;
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": size, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "bos_token_id": null, "eos_token_id": null,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let square = [32usize, 32];
    let layer = "model.layers.0";
    let mut header = serde_json::Map::new();
    let mut at = 0;
    let mut add = |name: String, shape: &[usize]| {
        let bytes = 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [at, at + bytes]});
        header.insert(name, entry);
        at += bytes;
    };
    add("model.embed_tokens.weight".into(), &[size, 32]);
    add("model.norm.weight".into(), &[32]);
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        add(format!("{layer}.{norm}.weight"), &[32]);
    }
    for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        add(format!("{layer}.self_attn.{part}.weight"), &square);
    }
    for part in ["gate_proj", "up_proj", "down_proj"] {
        add(format!("{layer}.mlp.{part}.weight"), &square);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + at, 0);
    std::fs::write(folder.join("model.safetensors"), file).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tokenizer.join(name), folder.join(name)).unwrap();
    }
}

#[test]
fn tokenizers_and_templates_survive_both_ways() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo/mlx");
    for name in ["llama2", "llama3", "qwen2", "demo"] {
        let folder = tempfile::tempdir().unwrap();
        let source = match name {
            "demo" => demo.clone(),
            name => {
                with_tokenizer(folder.path(), &tokenizers_folder().join(name));
                folder.path().to_path_buf()
            }
        };
        let q8_0 = Target::Gguf("Q8_0".parse().unwrap());
        let (file, back) = (folder.path().join("out.gguf"), folder.path().join("back"));
        let source = Checkpoint::open(source).unwrap();
        convert(&source, &file, q8_0, false, &mut |_, _| ControlFlow::Continue(())).unwrap().unwrap();
        let as_gguf = Checkpoint::open(&file).unwrap();
        assert_same_tokens(&source, &as_gguf, &format!("{name} as GGUF"));
        convert(&as_gguf, &back, Target::Mlx { bits: 8, group: 32 }, false, &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap()
        .unwrap();
        let back = Checkpoint::open(&back).unwrap();
        assert_eq!(back.format(), Format::Mlx);
        assert_same_tokens(&as_gguf, &back, &format!("{name} back"));
        let templates =
            [&source, &as_gguf, &back].map(|c| ChatTemplate::from_checkpoint(c).unwrap().is_some());
        assert_eq!(templates, [templates[0]; 3], "{name}");
    }
}
