//! Checkpoints that open and cannot be run: what is wrong shows only when weights are read.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dacapo::{Device, DeviceOptions};
use dacapo_lm::{Checkpoint, Error, GenerateOptions, LoadOptions, Model};

fn demo(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo").join(part)
}

fn load(path: &Path) -> Result<Model, Error> {
    let device = Device::open(DeviceOptions { threads: Some(2), ..DeviceOptions::default() }).unwrap();
    Model::load(&device, path, &LoadOptions::default(), &mut |_| {})
}

/// A copy of the demo model in MLX format, with `bytes` written over the start of a tensor.
fn damaged_folder(tensor: &str, bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(demo("mlx")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tensor = checkpoint.require(tensor).unwrap();
    let (path, offset) = (tensor.file.path().to_path_buf(), tensor.offset);
    let mut content = std::fs::read(&path).unwrap();
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
    std::fs::write(&path, content).unwrap();
    dir
}

const BF16_NAN: [u8; 2] = [0xC0, 0x7F];

#[test]
fn a_scale_that_is_no_number_names_its_tensor_row_and_group() {
    let name = "model.layers.2.mlp.up_proj.scales";
    let dir = damaged_folder(name, &[0, 0, BF16_NAN[0], BF16_NAN[1]]);
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("model.safetensors"), "{message}");
    assert!(message.contains("model.layers.2.mlp.up_proj.weight"), "{message}");
    assert!(message.contains("infinity or NaN in row 0, group 1"), "{message}");
}

#[test]
fn a_bias_of_a_group_that_is_infinite_is_refused() {
    let dir = damaged_folder("model.embed_tokens.biases", &[0x80, 0x7F]);
    assert!(
        matches!(load(dir.path()), Err(Error::BadWeight { tensor, .. }) if tensor == "model.embed_tokens.weight")
    );
}

#[test]
fn a_norm_that_is_no_number_names_its_element() {
    let dir = damaged_folder("model.norm.weight", &[0, 0, 0, 0, BF16_NAN[0], BF16_NAN[1]]);
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(
        message.ends_with(r#"tensor "model.norm.weight": expected finite numbers, found NaN at element 2"#),
        "{message}"
    );
}

#[test]
fn a_block_scale_of_gguf_that_is_no_number_is_refused() {
    let source = demo("demo-q4_0.gguf");
    let checkpoint = Checkpoint::open(&source).unwrap();
    let offset = checkpoint.require("model.layers.0.self_attn.q_proj.weight").unwrap().offset;
    let mut content = std::fs::read(&source).unwrap();
    content[offset..offset + 2].copy_from_slice(&[0, 0x7C]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.gguf");
    std::fs::write(&path, content).unwrap();
    let message = load(&path).unwrap_err().to_string();
    assert!(message.contains("damaged.gguf") && message.contains("blk.0.attn_q.weight"), "{message}");
}

#[test]
fn a_bias_that_the_configuration_asks_for_must_be_there() {
    let dir = damaged_folder("model.norm.weight", &[]);
    let config = dir.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace(r#""attention_bias": false"#, r#""attention_bias": true"#)).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(
        matches!(&error, Error::MissingTensor { tensor, .. } if tensor == "model.layers.0.self_attn.q_proj.bias"),
        "{error}"
    );
}

#[test]
fn damage_that_is_undone_loads() {
    let dir = damaged_folder("model.norm.weight", &[]);
    assert_eq!(load(dir.path()).unwrap().config().layers, 6);
}

#[test]
fn a_model_without_a_tokenizer_gives_tokens() {
    let dir = damaged_folder("model.norm.weight", &[]);
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let model = load(dir.path()).unwrap();
    let message = model.tokenizer().unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    let options = GenerateOptions { max_tokens: Some(5), ignore_eos: true, ..GenerateOptions::default() };
    let generate =
        |options| model.session().unwrap().generate(&[1, 2], options, &mut |_| ControlFlow::Continue(()));
    let generation = generate(&options).unwrap();
    assert_eq!((generation.tokens.len(), generation.text.as_str()), (5, ""));
    let stop = GenerateOptions { stop: vec!["x".into()], ..options.clone() };
    assert_eq!(generate(&stop).unwrap_err().to_string(), message);
}
