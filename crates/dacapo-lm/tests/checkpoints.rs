//! Checkpoints as they should be: every layout, both forms of configuration, every way a weight is stored.

#[path = "../../../fuzz/src/files.rs"]
#[allow(dead_code, reason = "a test needs a part of the builders")]
mod files;

use std::path::Path;

use dacapo::MappedFile;
use dacapo_lm::Checkpoint;
use dacapo_lm::checkpoint::{
    Activation, ExpertsConfig, Format, LinearWeight, ModelConfig, RopeScaling, TensorKind, ggml::GgmlType,
};
use files::{TINY_CONFIG, safetensors, safetensors_with_header, tiny_gguf, tiny_mlx};
use serde_json::{Value, json};

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let work = tempfile::tempdir().expect("temporary folder");
    for (name, content) in files {
        std::fs::write(work.path().join(name), content).expect("write");
    }
    work
}

/// The configuration that `config.json` with this content stands for.
fn parse(config: Value) -> ModelConfig {
    let files =
        folder(&[("config.json", config.to_string().as_bytes()), ("model.safetensors", &safetensors(&[]))]);
    Checkpoint::open(files.path()).expect("checkpoint").model_config().expect("configuration")
}

#[test]
fn mlx_modules_are_listed_or_inferred() {
    let files = folder(&[("config.json", TINY_CONFIG.as_bytes()), ("model.safetensors", &tiny_mlx())]);
    let checkpoint = Checkpoint::open(files.path()).expect("checkpoint");
    assert_eq!(checkpoint.format(), Format::Mlx);
    let numbers = |path: &str| match checkpoint.linear(path, 4, 64).expect(path).weight {
        LinearWeight::Affine { bits, group, weight, scales, biases } => {
            assert_eq!([&weight.name, &scales.name, &biases.name].map(|n| n.starts_with(path)), [true; 3]);
            (bits, group, scales.kind)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(numbers("model.embed_tokens"), (4, 32, TensorKind::BF16), "from the shapes");
    assert_eq!(numbers("lm_head"), (8, 64, TensorKind::F16), "from the list");
    let config = checkpoint.model_config().expect("configuration");
    assert_eq!((config.bos_id, config.eos_ids.as_slice()), (Some(1), [2, 3].as_slice()));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (2, 1, 32));
    let llama3 =
        RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 8 };
    assert_eq!(config.rope.scaling, llama3);
    assert!(!config.rope.interleaved);
}

#[test]
fn layers_with_experts_are_those_of_the_configuration() {
    let experts = |config: Value| parse(config).experts.expect("has experts");
    let qwen3 = json!({
        "model_type": "qwen3_moe", "num_hidden_layers": 6, "num_experts": 16, "num_experts_per_tok": 3,
        "moe_intermediate_size": 96, "norm_topk_prob": true, "decoder_sparse_step": 2, "mlp_only_layers": [3]
    });
    let expected = ExpertsConfig {
        count: 16,
        chosen: 3,
        width: 96,
        normalized: true,
        shared_width: None,
        layers: vec![false, true, false, false, false, true],
    };
    assert_eq!(experts(qwen3), expected);
    // As transformers 5 writes it, and defaults of the classes.
    let qwen2 = json!({"model_type": "qwen2_moe", "num_hidden_layers": 2, "num_local_experts": 7});
    let expected = ExpertsConfig {
        count: 7,
        chosen: 4,
        width: 1408,
        normalized: false,
        shared_width: Some(5632),
        layers: vec![true; 2],
    };
    assert_eq!(experts(qwen2), expected);
    let mixtral = json!({"model_type": "mixtral", "num_hidden_layers": 1, "intermediate_size": 64});
    let expected = ExpertsConfig {
        count: 8,
        chosen: 2,
        width: 64,
        normalized: true,
        shared_width: None,
        layers: vec![true],
    };
    assert_eq!(experts(mixtral), expected);
    assert!(parse(json!({"model_type": "qwen3"})).experts.is_none());
}

#[test]
fn the_same_top_level_numbers_may_mean_another_split_for_another_width() {
    // 8 words and 1 scale: 4 bits in groups of 64, or 2 bits in groups of 128.
    let tensors = safetensors(&[
        ("m.weight", "U32", &[2, 8], 64),
        ("m.scales", "F32", &[2, 1], 8),
        ("m.biases", "F32", &[2, 1], 8),
        ("m.bias", "F32", &[2], 8),
    ]);
    let config = br#"{"quantization":{"bits":4,"group_size":64}}"#;
    let files = folder(&[("config.json", config), ("model.safetensors", &tensors)]);
    let checkpoint = Checkpoint::open(files.path()).expect("checkpoint");
    for (k, expected) in [(64, (4, 64)), (128, (2, 128))] {
        let source = checkpoint.linear("m", 2, k).expect("module");
        assert!(source.bias.is_some());
        match source.weight {
            LinearWeight::Affine { bits, group, .. } => assert_eq!((bits, group), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn shards_are_found_by_index_or_by_name() {
    let (one, two) =
        (safetensors(&[("a", "F16", &[2], 4)]), safetensors(&[("b", "U8", &[3], 3), ("c", "F64", &[], 8)]));
    let index = br#"{"weight_map":{"a":"x.safetensors","b":"y.safetensors","c":"y.safetensors"}}"#;
    let indexed = folder(&[
        ("config.json", b"{}"),
        ("x.safetensors", &one),
        ("y.safetensors", &two),
        ("model.safetensors.index.json", index),
    ]);
    let named = folder(&[
        ("config.json", b"{}"),
        ("model-00001-of-00002.safetensors", &one),
        ("model-00002-of-00002.safetensors", &two),
        ("other.safetensors", b"not a model's file"),
    ]);
    for files in [indexed, named] {
        let checkpoint = Checkpoint::open(files.path()).expect("checkpoint");
        assert_eq!(checkpoint.format(), Format::HuggingFace);
        let all: Vec<_> =
            checkpoint.tensors().iter().map(|t| (t.name.as_str(), t.kind, t.shape.as_slice())).collect();
        let expected: [(&str, TensorKind, &[usize]); 3] =
            [("a", TensorKind::F16, &[2]), ("b", TensorKind::U8, &[3]), ("c", TensorKind::F64, &[])];
        assert_eq!(all, expected);
    }
}

#[test]
fn one_file_may_be_opened_by_itself_and_data_may_lie_anywhere() {
    let header = r#"{"__metadata__":{"format":"mlx"},"z":{"dtype":"F32","shape":[1],"data_offsets":[1,5]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} "#;
    let mut bytes = safetensors_with_header(header, 5);
    let data = 8 + header.len();
    bytes[data + 1..].copy_from_slice(&1.5f32.to_le_bytes());
    let files = folder(&[("config.json", b"{}"), ("weights.safetensors", &bytes)]);
    let checkpoint = Checkpoint::open(files.path().join("weights.safetensors")).expect("checkpoint");
    assert_eq!(checkpoint.format(), Format::Mlx);
    let tensor = checkpoint.require("z").expect("tensor");
    assert_eq!((tensor.offset, tensor.len), (data + 1, 4));
    assert_eq!(tensor.bytes(), 1.5f32.to_le_bytes());
    assert_eq!(checkpoint.tensors()[0].name, "a", "in the order of the data");
}

/// A file of the fixture in three parts, as `gguf-split` writes them: the metadata in the first.
fn split(folder: &Path) -> Vec<std::path::PathBuf> {
    let part = |number: u32| {
        let file = if number == 0 { tiny_gguf("llama") } else { files::GgufFile::default() };
        file.raw("split.no", 2, &(number as u16).to_le_bytes())
            .raw("split.count", 2, &3u16.to_le_bytes())
            .raw("split.tensors.count", 5, &2i32.to_le_bytes())
    };
    let parts = [
        part(0),
        part(1).tensor("token_embd.weight", &[32, 4], 0, 512),
        part(2).tensor("blk.0.attn_norm.weight", &[32], 0, 128),
    ];
    let paths = (1..=3).map(|number| folder.join(format!("tiny-0000{number}-of-00003.gguf")));
    let paths: Vec<_> = paths.collect();
    for (path, part) in paths.iter().zip(parts) {
        std::fs::write(path, part.build()).expect("write");
    }
    paths
}

#[test]
fn parts_of_a_split_file_are_found_from_any_of_them() {
    let work = tempfile::tempdir().expect("temporary folder");
    let paths = split(work.path());
    for path in &paths {
        let checkpoint = Checkpoint::open(path).expect("checkpoint");
        assert_eq!(checkpoint.tensors().len(), 2);
        assert_eq!(checkpoint.require("model.embed_tokens.weight").expect("tensor").file.path(), paths[1]);
        assert_eq!(checkpoint.model_config().expect("configuration").vocab_size, 4);
    }
}

#[test]
fn parts_of_a_split_file_that_do_not_belong_together_are_refused() {
    let refusal = |change: &dyn Fn(&[std::path::PathBuf])| {
        let work = tempfile::tempdir().expect("temporary folder");
        let paths = split(work.path());
        change(&paths);
        Checkpoint::open(&paths[0])
            .expect_err("refused")
            .to_string()
            .replace(&format!("{}/", work.path().display()), "")
    };
    let message = refusal(&|paths| std::fs::remove_file(&paths[2]).expect("remove"));
    assert_eq!(message, "tiny-00003-of-00003.gguf: missing file, needed by tiny-00001-of-00003.gguf");
    let message = refusal(&|paths| _ = std::fs::copy(&paths[1], &paths[2]).expect("copy"));
    assert_eq!(message, "tiny-00003-of-00003.gguf: split.no: expected part 2 of 3, found part 1 of 3");
    let message = refusal(&|paths| _ = std::fs::copy(&paths[1], &paths[0]).expect("copy"));
    assert!(message.contains("expected a name that ends in -00002-of-00003.gguf"), "{message}");
    let message = refusal(&|paths| {
        let lone = tiny_gguf("llama").tensor("token_embd.weight", &[32, 4], 0, 512);
        std::fs::write(&paths[1], lone.build()).expect("write");
    });
    assert_eq!(message, "tiny-00002-of-00003.gguf: split.no: expected part 1 of 3, found a whole file");
}

#[test]
fn modes_and_fp8_are_told_by_their_tensors() {
    let tensors = safetensors(&[
        ("a.weight", "U32", &[2, 8], 64),
        ("a.scales", "U8", &[2, 2], 4),
        ("b.weight", "U32", &[2, 8], 64),
        ("b.scales", "U8", &[2, 4], 8),
        ("c.weight", "U32", &[2, 16], 128),
        ("c.scales", "U8", &[2, 2], 4),
        ("d.weight", "F8_E4M3", &[2, 64], 128),
        ("d.weight_scale_inv", "F32", &[1, 1], 4),
        ("e.weight", "F8_E4M3", &[2, 64], 128),
    ]);
    let config = br#"{"quantization":{"group_size":32,"bits":4,"mode":"mxfp4","b":{"group_size":16,"bits":4,"mode":"nvfp4"},
        "c":{"group_size":32,"bits":8,"mode":"mxfp8"}}}"#;
    let files = folder(&[("config.json", config), ("model.safetensors", &tensors)]);
    let checkpoint = Checkpoint::open(files.path()).expect("checkpoint");
    for (module, name) in [("a", "mxfp4"), ("b", "nvfp4"), ("c", "mxfp8")] {
        match checkpoint.linear(module, 2, 64).expect(module).weight {
            LinearWeight::Fp { mode, .. } => assert_eq!(mode.name(), name),
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(checkpoint.linear("d", 2, 64).expect("d").weight, LinearWeight::Fp8 { .. }));
    let message = checkpoint.linear("e", 2, 64).expect_err("no scales").to_string();
    assert!(message.contains("weight_scale_inv"), "{message}");
    assert!(checkpoint.linear("a", 2, 32).is_err(), "another shape");
}

#[test]
fn gguf_answers_to_hugging_face_names() {
    let mut bytes = tiny_gguf("llama")
        .tensor("token_embd.weight", &[32, 4], 0, 512)
        .tensor("blk.0.attn_q.weight", &[32, 64], 2, 1152)
        .tensor("blk.0.attn_q.bias", &[64], 0, 256)
        .tensor("rope_freqs.weight", &[16], 0, 64)
        .build();
    // The last bytes of the file are the last tensor's.
    let end = bytes.len();
    bytes[end - 1] = 7;
    let file = MappedFile::embedded("built-in.gguf", Box::leak(bytes.into_boxed_slice()));
    let checkpoint = Checkpoint::from_files(&[file]).expect("checkpoint");
    assert_eq!(checkpoint.format(), Format::Gguf);
    assert_eq!(checkpoint.path(), Path::new("built-in.gguf"));

    let query = checkpoint.linear("model.layers.0.self_attn.q_proj", 64, 32).expect("module");
    assert!(matches!(query.weight, LinearWeight::Ggml(t) if t.kind == TensorKind::Ggml(GgmlType::Q4_0)
        && t.file_name == "blk.0.attn_q.weight" && t.shape == [64, 32] && t.len == 1152));
    assert!(query.bias.is_some());
    let embedding = checkpoint.embedding("model.embed_tokens", 4, 32).expect("module");
    assert!(matches!(embedding.weight, LinearWeight::Dense(t) if t.kind == TensorKind::F32));
    assert_eq!(checkpoint.floats("rope_freqs.weight", &[16]).expect("tensor").bytes()[63], 7);

    let config = checkpoint.model_config().expect("configuration");
    assert_eq!((config.vocab_size, config.head_dim, config.kv_heads), (4, 32, 1));
    assert_eq!(config.rope.scaling, RopeScaling::Factors);
    assert!(config.rope.interleaved && config.tie_word_embeddings && config.attention_bias);
    assert!(!config.attention_output_bias && !config.mlp_bias);
}

#[test]
fn both_forms_of_rope_are_one() {
    let flat =
        json!({"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}});
    let nested = json!({"model_type": "llama", "rope_parameters": {"rope_theta": 5e5, "rope_type": "linear", "factor": 4.0}});
    assert_eq!(parse(flat.clone()), parse(nested));
    assert_eq!(parse(flat).rope.scaling, RopeScaling::Linear { factor: 4.0 });

    let yarn = |more: Value| {
        let mut rope = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32});
        rope.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        match parse(json!({"model_type": "qwen3", "rope_parameters": rope})).rope.scaling {
            RopeScaling::Yarn { attention_factor, truncate, beta_fast, beta_slow, original, .. } => {
                assert_eq!((beta_fast, beta_slow, original), (32.0, 1.0, 32));
                (attention_factor, truncate)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(yarn(json!({})), (0.1 * 4f64.ln() + 1.0, true));
    assert_eq!(yarn(json!({"attention_factor": 1.25, "truncate": false})), (1.25, false));
    assert_eq!(yarn(json!({"mscale": 1.0, "mscale_all_dim": 1.0})), (1.0, true));
}

#[test]
fn windows_follow_transformers() {
    let windows = |config: Value| parse(config).sliding_windows;
    let mistral = |more: Value| {
        let mut config = json!({"model_type": "mistral", "num_hidden_layers": 2});
        config.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        windows(config)
    };
    assert_eq!(mistral(json!({})), [Some(4096); 2]);
    assert_eq!(mistral(json!({"sliding_window": null})), [None; 2]);
    assert_eq!(mistral(json!({"sliding_window": 8})), [Some(8); 2]);

    let qwen =
        json!({"model_type": "qwen2", "num_hidden_layers": 3, "sliding_window": 8, "max_window_layers": 2});
    assert_eq!(windows(qwen.clone()), [None; 3], "off unless asked for");
    let mut used = qwen;
    used["use_sliding_window"] = json!(true);
    assert_eq!(windows(used.clone()), [None, None, Some(8)]);
    used["layer_types"] = json!(["sliding_attention", "full_attention", "full_attention"]);
    assert_eq!(windows(used), [Some(8), None, None]);
}

#[test]
fn defaults_are_those_of_the_classes() {
    let qwen2 = parse(json!({"model_type": "qwen2"}));
    assert!(qwen2.attention_bias && !qwen2.attention_output_bias);
    assert_eq!((qwen2.vocab_size, qwen2.kv_heads, qwen2.bos_id, qwen2.eos_ids.len()), (151936, 32, None, 0));
    let qwen3 = parse(json!({"model_type": "qwen3", "attention_bias": true, "hidden_size": 64}));
    assert!(qwen3.attention_output_bias);
    assert_eq!(qwen3.head_dim, 128, "not from the hidden size");
    let llama = parse(json!({"model_type": "llama", "num_attention_heads": 8, "num_key_value_heads": null}));
    assert_eq!((llama.kv_heads, llama.head_dim, llama.bos_id, llama.eos_ids), (8, 512, Some(1), vec![2]));
    let mistral = parse(json!({"model_type": "mistral"}));
    assert_eq!((mistral.kv_heads, mistral.context_length), (8, 131072));
}

/// As google/gemma-3-4b-it has it: what the class knows is left out.
#[test]
fn the_text_part_of_a_model_that_sees_images_is_its_configuration() {
    let config = parse(json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "eos_token_id": [1, 106],
        "text_config": {
            "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024
        },
        "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27}
    }));
    assert_eq!((config.architecture.as_str(), config.hidden_size, config.layers), ("gemma3", 2560, 34));
    assert_eq!((config.heads, config.kv_heads, config.head_dim, config.vocab_size), (8, 4, 256, 262208));
    assert_eq!((config.context_length, config.tie_word_embeddings), (131072, true));
    assert_eq!((config.bos_id, config.eos_ids.as_slice()), (Some(2), [1, 106].as_slice()));
    assert_eq!(
        (config.attention_scale, config.attention_softcap, config.logit_softcap),
        (1.0 / 16.0, None, None)
    );
    let global: Vec<usize> = (0..34).filter(|&layer| config.sliding_windows[layer] != Some(1024)).collect();
    assert_eq!(global, [5, 11, 17, 23, 29]);
    assert_eq!((config.rope.theta, &config.rope.scaling), (1e6, &RopeScaling::Linear { factor: 8.0 }));
    let local = config.local_rope.expect("layers with a window rotate faster");
    assert_eq!((local.theta, &local.scaling), (1e4, &RopeScaling::None));
}

#[test]
fn rotations_by_kind_of_layer_have_two_forms() {
    let flat = json!({"model_type": "gemma3_text", "rope_theta": 5e5, "rope_local_base_freq": 2e4,
        "rope_scaling": {"rope_type": "linear", "factor": 4.0}});
    let nested = json!({"model_type": "gemma3_text", "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}}});
    assert_eq!(parse(flat), parse(nested));
    let yarn = json!({"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8192});
    let flat = json!({"model_type": "olmo3", "rope_theta": 3e5, "rope_scaling": yarn, "layer_types": null});
    let mut full = yarn.clone();
    full["rope_theta"] = json!(3e5);
    let local = json!({"rope_type": "default", "rope_theta": 3e5});
    let nested = json!({"model_type": "olmo3", "rope_parameters": {
        "full_attention": full, "sliding_attention": local}});
    assert_eq!(parse(flat), parse(nested));
    let plain = parse(json!({"model_type": "olmo3", "rope_parameters": {"full_attention": local}}));
    assert_eq!(plain.rope.theta, 3e5);
    assert_eq!(plain.local_rope.map(|rope| rope.theta), Some(5e5));
}

#[test]
fn longrope_is_read_as_published() {
    let factors: Vec<f64> = (0..48).map(|i| 1.0 + f64::from(i)).collect();
    // As microsoft/Phi-4-mini-instruct has it.
    let config = parse(json!({
        "model_type": "phi3", "hidden_size": 3072, "num_attention_heads": 24, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
        "rope_scaling": {"type": "longrope", "long_factor": factors, "short_factor": vec![1.0; 48]},
        "sliding_window": 262144, "tie_word_embeddings": true
    }));
    assert_eq!((config.head_dim, config.rope.dims), (128, 96));
    assert_eq!(config.sliding_windows[0], Some(262_144));
    match config.rope.scaling {
        RopeScaling::LongRope { short, long, original, attention_factor } => {
            assert_eq!((short.len(), long[47], original), (48, 48.0, 4096));
            assert!((attention_factor - (1.0 + 32f64.ln() / 4096f64.ln()).sqrt()).abs() < 1e-12);
        }
        other => panic!("{other:?}"),
    }
}

/// What a configuration is refused with.
fn refusal(config: Value) -> String {
    let files =
        folder(&[("config.json", config.to_string().as_bytes()), ("model.safetensors", &safetensors(&[]))]);
    let checkpoint = Checkpoint::open(files.path()).expect("checkpoint");
    checkpoint.model_config().expect_err("refused").to_string()
}

#[test]
fn delta_nets_are_read_as_published() {
    // As Qwen/Qwen3.5-9B has it, but for what is not read.
    let qwen35 = parse(json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "tie_word_embeddings": false,
        "text_config": {
            "model_type": "qwen3_5_text", "attn_output_gate": true, "eos_token_id": 248044, "head_dim": 256,
            "full_attention_interval": 4, "hidden_size": 4096, "num_hidden_layers": 8, "linear_num_value_heads": 32,
            "rope_parameters": {"mrope_interleaved": true, "mrope_section": [11, 11, 10], "rope_type": "default",
                "rope_theta": 10000000, "partial_rotary_factor": 0.25}
        },
        "vision_config": {}
    }));
    assert_eq!((qwen35.architecture.as_str(), qwen35.rope.dims, qwen35.rope.theta), ("qwen35", 64, 1e7));
    assert_eq!((qwen35.norm_offset, qwen35.attention_layers()), (1.0, 2));
    let nets = qwen35.delta_nets.expect("most layers");
    assert_eq!(nets.layers, [true, true, true, false, true, true, true, false]);
    assert_eq!((nets.key_heads, nets.value_heads, nets.key_dim, nets.value_dim), (16, 32, 128, 128));
    assert_eq!((nets.taps, nets.tiled, nets.channels(), nets.values()), (4, false, 8192, 4096));

    let next = |more: Value| {
        let mut config = json!({"model_type": "qwen3_next", "num_hidden_layers": 2, "num_experts": 0});
        config.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        config
    };
    let listed = parse(next(json!({"layer_types": ["full_attention", "linear_attention"]})));
    assert_eq!(listed.delta_nets.expect("one layer").layers, [false, true]);
    assert_eq!(listed.rope.dims, 64, "a quarter of a head");
    let published = parse(next(json!({"num_experts": null}))).experts.expect("as Qwen3-Next is published");
    assert_eq!((published.count, published.chosen, published.width), (512, 10, 512));
    assert_eq!((published.shared_width, published.normalized), (Some(512), true));
    for (more, message) in [
        (json!({"attn_output_gate": false}), "attn_output_gate"),
        (json!({"layer_types": ["full_attention"]}), "2 of linear_attention and full_attention"),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), "layer_types"),
        (json!({"linear_num_value_heads": 24}), "a multiple of the 16 key heads"),
        (json!({"linear_conv_kernel_dim": 1}), "from 2 to 8"),
        (json!({"linear_key_head_dim": 512}), "from 1 to 256"),
    ] {
        let found = refusal(next(more));
        assert!(found.contains(message), "{found:?} has no {message:?}");
    }
}

#[test]
fn factors_of_granite_and_layers_of_smollm3() {
    let granite = parse(json!({"model_type": "granite", "embedding_multiplier": 12.0, "logits_scaling": 8.0,
        "attention_multiplier": 0.015625, "residual_multiplier": 0.22}));
    assert_eq!((granite.embedding_scale, granite.logit_scale), (12.0, 0.125));
    assert_eq!((granite.attention_scale, granite.residual_scale), (0.015625, 0.22));
    let smollm3 = parse(json!({"model_type": "smollm3", "num_hidden_layers": 5}));
    assert_eq!(smollm3.rotated, [true, true, true, false, true]);
    assert_eq!((smollm3.rope.theta, smollm3.tie_word_embeddings), (2e6, true));
    let listed = parse(json!({"model_type": "smollm3", "num_hidden_layers": 2, "no_rope_layers": [0, 1]}));
    assert_eq!(listed.rotated, [false, true]);
}

#[test]
fn encoders_say_so() {
    let bert = parse(json!({"model_type": "bert", "num_hidden_layers": 2}));
    assert!(!bert.causal && bert.attention_bias && bert.attention_output_bias && bert.mlp_bias);
    assert_eq!((bert.token_types, bert.rms_eps, bert.hidden_act), (2, 1e-12, Activation::Gelu));
    assert!(parse(json!({"model_type": "llama"})).causal);
}
