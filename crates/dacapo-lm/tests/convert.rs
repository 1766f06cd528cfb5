//! Conversions: every fixture into every kind of file, and what happens when one fails.

mod support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dacapo_lm::checkpoint::{Format, safetensors};
use dacapo_lm::convert::{Converted, Target, convert};
use dacapo_lm::{Checkpoint, Error};
use support::fixtures::{Fixture, fixture, for_all};
use support::{Differences, load, logits};

const MLX8: Target = Target::Mlx { bits: 8, group: 32 };

fn gguf(name: &str) -> Target {
    Target::Gguf(name.parse().unwrap())
}

fn go_on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Converts a fixture into a folder; gives where it is.
fn converted(f: &Fixture, folder: &Path, target: Target) -> Result<(PathBuf, Converted), Error> {
    let out = folder.join("out");
    let checkpoint = Checkpoint::open(f.path())?;
    let done = convert(&checkpoint, &out, target, false, &mut go_on)?.expect("nobody stops it");
    Ok((out, done))
}

/// Folders of models that GGUF's metadata of their family cannot describe: the layers of Ministral, Gemma 3 and SmolLM 3 that
/// have windows or no rotation are others than those of published models here, and Gemma 2's scores are scaled otherwise.
const UNDESCRIBED: [&str; 4] = ["-ministral", "-gemma3", "-smollm3", "-gemma2"];

/// Whether this is between a folder and a GGUF file and cannot be.
fn is_refused(f: &Fixture, target: Target) -> bool {
    let checkpoint = Checkpoint::open(f.path()).unwrap();
    let folder = checkpoint.format() != Format::Gguf;
    let to_gguf = matches!(target, Target::Gguf(_));
    folder && to_gguf && UNDESCRIBED.iter().any(|part| f.name.contains(part))
}

/// What differs between the logits of a fixture's model and those of what it became.
fn wrong_after(f: &Fixture, target: Target, exact: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let result = converted(f, folder.path(), target);
    if is_refused(f, target) {
        let left = folder.path().read_dir().unwrap().count();
        return match result {
            Err(Error::Unconvertible { .. }) if left == 0 => vec![],
            other => vec![format!("expected a refusal, found {other:?} and {left} files")],
        };
    }
    let (out, done) = match result {
        Ok(done) => done,
        Err(error) => return vec![error.to_string()],
    };
    let (before, after) = (load(&f.path(), 2, true), load(&out, 2, true));
    let prompt = f.reference().tokens("prompt").unwrap();
    let run = |model: &dacapo_lm::Model| logits(&mut model.session().unwrap(), &prompt).unwrap();
    let vocabulary = before.config().vocab_size;
    let differences = Differences::measure(&run(&after), &run(&before), vocabulary);
    let sensitive = before.config().experts.is_some() || before.config().delta_nets.is_some();
    let mut wrong = differences.outside(match (exact, sensitive) {
        (true, _) => &support::F32,
        (false, false) => &support::INT8,
        (false, true) => &support::EIGHT_BITS,
    });
    let checkpoint = Checkpoint::open(&out).unwrap();
    let stored: u64 = checkpoint.tensors().iter().map(|tensor| tensor.len as u64).sum();
    if stored != done.tensor_bytes {
        wrong.push(format!("{stored} bytes of tensors, {} are reported", done.tensor_bytes));
    }
    wrong
}

#[test]
fn plain_values_lose_nothing_on_the_way_to_gguf() {
    // Names, the order of rows, rotary scaling, windows and biases are all right, or logits would be far off.
    for_all(|f| {
        // The values of FP8 are run in BF16.
        let target = if f.name.contains("fp8") && !f.name.contains("mxfp8") { "BF16" } else { "F32" };
        wrong_after(f, gguf(target), true)
    });
}

/// The values of a GGUF file in F32 by the names of its tensors, with their shapes.
fn values(file: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let checkpoint = Checkpoint::open(file).unwrap();
    let of = |tensor: &dacapo_lm::checkpoint::Tensor| {
        let words = tensor.bytes().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        (tensor.file_name.clone(), (tensor.shape.clone(), words.collect()))
    };
    checkpoint.tensors().iter().map(of).collect()
}

#[test]
fn every_value_of_an_mlx_folder_is_near_that_of_the_source() {
    // A row, head or expert in the place of another would be far off. Both are compared as GGUF files, which lose nothing.
    let plain = gguf("F32");
    for_all(|f| {
        if is_refused(f, plain) {
            return vec![];
        }
        let [first, second, third] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let (expected, _) = converted(f, first.path(), plain).unwrap();
        let (mlx, _) = converted(f, second.path(), MLX8).unwrap();
        let found = third.path().join("out");
        convert(&Checkpoint::open(mlx).unwrap(), &found, plain, false, &mut go_on).unwrap().unwrap();
        let (expected, found) = (values(&expected), values(&found));
        let names = |of: &BTreeMap<String, _>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{}", f.name);
        let far = expected.iter().filter(|(name, (shape, values))| {
            let (found_shape, found) = &found[*name];
            let most = values.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.02 * most;
            found_shape != shape || !values.iter().zip(found).all(near)
        });
        far.map(|(name, _)| format!("{name} differs")).collect()
    });
}

#[test]
fn eight_bits_are_near_the_source_in_an_mlx_folder() {
    for_all(|f| wrong_after(f, MLX8, false));
}

#[test]
fn eight_bits_are_near_the_source_in_a_gguf_file() {
    for_all(|f| wrong_after(f, gguf("Q8_0"), false));
}

#[test]
fn what_became_a_folder_becomes_a_gguf_file_again() {
    for name in [
        "gguf-gemma2-q8_0",
        "gguf-gemma3-q8_0",
        "gguf-smollm3-q4_0",
        "gguf-phi4-mini-q4_0",
        "gguf-llama-q8_0",
    ] {
        let first = tempfile::tempdir().unwrap();
        let (between, _) = converted(&fixture(name), first.path(), MLX8).unwrap();
        let second = tempfile::tempdir().unwrap();
        let out = second.path().join("again");
        let checkpoint = Checkpoint::open(&between).unwrap();
        convert(&checkpoint, &out, gguf("F32"), false, &mut go_on).unwrap().unwrap();
        let prompt = fixture(name).reference().tokens("prompt").unwrap();
        let run = |path: &Path| logits(&mut load(path, 2, true).session().unwrap(), &prompt).unwrap();
        let vocabulary = checkpoint.model_config().unwrap().vocab_size;
        let differences = Differences::measure(&run(&out), &run(&between), vocabulary);
        assert_eq!(differences.outside(&support::F32), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn every_type_can_be_written_and_loaded() {
    let prompt = [1, 2, 3, 4];
    for mix in dacapo_lm::convert::Mix::ALL {
        for name in ["hf-llama-bf16", "gguf-llama-q4_k"] {
            let folder = tempfile::tempdir().unwrap();
            let (out, done) = converted(&fixture(name), folder.path(), Target::Gguf(mix)).unwrap();
            let found = logits(&mut load(&out, 1, false).session().unwrap(), &prompt).unwrap();
            assert!(found.iter().all(|v| v.is_finite()), "{name} as {}", mix.name());
            assert_eq!(std::fs::metadata(&out).unwrap().len(), done.bytes);
        }
    }
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            let folder = tempfile::tempdir().unwrap();
            let (out, _) =
                converted(&fixture("hf-qwen3-f16"), folder.path(), Target::Mlx { bits, group }).unwrap();
            logits(&mut load(&out, 1, false).session().unwrap(), &prompt).unwrap();
        }
    }
}

/// The tensors of an MLX folder with one file.
fn tensors(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let entries = safetensors::parse(&path, &bytes).unwrap().tensors;
    entries.into_iter().map(|e| (e.name, bytes[e.offset..e.offset + e.len].to_vec())).collect()
}

#[test]
fn what_is_quantized_already_keeps_its_values() {
    // Quantizing the values of codes again gives the same values where the type can hold them.
    let folder = tempfile::tempdir().unwrap();
    let f = fixture("mlx-qwen2-q8-g32-f16");
    let (out, _) = converted(&f, folder.path(), MLX8).unwrap();
    let (before, after) = (tensors(&f.path()), tensors(&out));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let biases = before.keys().filter(|name| name.ends_with("proj.bias") || name.contains("norm"));
    for name in biases {
        assert_eq!(before[name], after[name], "{name}");
    }
    let wrong = wrong_after(&fixture("gguf-qwen3-q4_0"), gguf("Q4_0"), true);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn experts_in_small_floats_may_stay_so() {
    for name in ["hf-gpt-oss-mxfp4", "mlx-gpt-oss-mxfp4", "mlx-qwen3-moe-mxfp4", "gguf-gpt-oss-mxfp4"] {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let f = fixture(name);
        let (small, _) = converted(&f, first.path(), gguf("MXFP4_MOE")).unwrap();
        let (expected, _) = converted(&f, second.path(), gguf("F32")).unwrap();
        let whole = first.path().join("whole");
        convert(&Checkpoint::open(&small).unwrap(), &whole, gguf("F32"), false, &mut go_on).unwrap().unwrap();
        let kind = |name: &str| Checkpoint::open(&small).unwrap().require(name).unwrap().kind.name();
        let block = if name.contains("gpt-oss") { "experts" } else { "switch_mlp" };
        assert_eq!(kind(&format!("model.layers.0.mlp.{block}.up_proj.weight")), "MXFP4", "{name}");
        assert_eq!(kind("model.layers.0.self_attn.q_proj.weight"), "Q8_0", "{name}");
        let (expected, found) = (values(&expected), values(&whole));
        let experts: Vec<_> = expected.keys().filter(|name| name.ends_with("_exps.weight")).collect();
        assert!(experts.len() >= 3);
        for expert in experts {
            assert_eq!(found[expert], expected[expert], "{name}: {expert}");
        }
    }
}

#[test]
fn keys_of_a_gguf_file_are_carried_over() {
    let folder = tempfile::tempdir().unwrap();
    let f = fixture("gguf-llama-f16");
    let (out, _) = converted(&f, folder.path(), gguf("Q8_0")).unwrap();
    let (before, after) = (Checkpoint::open(f.path()).unwrap(), Checkpoint::open(&out).unwrap());
    let (before, after) = (before.gguf().unwrap(), after.gguf().unwrap());
    for key in before.keys().filter(|key| !key.starts_with("general.")) {
        assert!(after.get(key).is_some(), "{key}");
    }
    assert_eq!(after.unsigned("general.file_type").unwrap(), Some(7));
    assert_eq!(after.unsigned("general.quantization_version").unwrap(), Some(2));
}

#[test]
fn rotary_numbers_are_given_in_older_words_too() {
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = converted(&fixture("hf-llama-bf16"), folder.path(), MLX8).unwrap();
    let config = Checkpoint::open(&out).unwrap().config().unwrap().clone();
    assert_eq!(config["rope_theta"], config["rope_parameters"]["rope_theta"]);
    assert_eq!(config["rope_scaling"]["rope_type"], "llama3");
    assert_eq!(config["rope_scaling"]["factor"], config["rope_parameters"]["factor"]);
    assert_eq!(config["quantization"], serde_json::json!({"group_size": 32, "bits": 8, "mode": "affine"}));
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_conversion_that_is_stopped_leaves_nothing_and_spoils_nothing() {
    let checkpoint = Checkpoint::open(fixture("hf-llama-bf16").path()).unwrap();
    for (target, name) in [(MLX8, "folder"), (gguf("Q8_0"), "file")] {
        let work = tempfile::tempdir().unwrap();
        let out = work.path().join(name);
        for stop_at in [1, 5] {
            let mut calls = 0;
            let stopped = convert(&checkpoint, &out, target, false, &mut |done, total| {
                assert!(done <= total);
                calls += 1;
                if calls == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(stopped.unwrap(), None);
            assert_eq!(names(work.path()), Vec::<String>::new());
        }
        convert(&checkpoint, &out, target, false, &mut go_on).unwrap().unwrap();
        assert_eq!(names(work.path()), [name]);
        let again = convert(&checkpoint, &out, target, false, &mut go_on);
        assert!(matches!(again, Err(Error::Exists { replaceable: true, .. })), "{again:?}");
        let stopped = convert(&checkpoint, &out, target, true, &mut |_, _| ControlFlow::Break(()));
        assert_eq!(stopped.unwrap(), None);
        assert!(Checkpoint::open(&out).is_ok(), "what was there is there still");
        // A folder gives way to a file, and a file to a folder.
        let other = if target == MLX8 { gguf("Q4_0") } else { MLX8 };
        convert(&checkpoint, &out, other, true, &mut go_on).unwrap().unwrap();
        assert_eq!(Checkpoint::open(&out).unwrap().format() == Format::Gguf, target == MLX8);
        assert_eq!(names(work.path()), [name]);
    }
}

#[test]
fn what_is_no_checkpoint_is_never_replaced() {
    let checkpoint = Checkpoint::open(fixture("gguf-llama-q4_0").path()).unwrap();
    let work = tempfile::tempdir().unwrap();
    let folder = work.path().join("precious");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("notes"), "mine").unwrap();
    let refused = convert(&checkpoint, &folder, MLX8, true, &mut go_on);
    assert!(matches!(refused, Err(Error::Exists { replaceable: false, .. })), "{refused:?}");
    assert_eq!(names(&folder), ["notes"]);
}

#[test]
fn a_source_is_not_written_over() {
    let work = tempfile::tempdir().unwrap();
    let f = fixture("hf-qwen3-f16");
    for name in names(&f.path()) {
        std::fs::copy(f.path().join(&name), work.path().join(&name)).unwrap();
    }
    let checkpoint = Checkpoint::open(work.path()).unwrap();
    let refused = convert(&checkpoint, work.path(), MLX8, true, &mut go_on);
    assert!(matches!(refused, Err(Error::Unconvertible { .. })), "{refused:?}");
}

#[test]
fn a_weight_that_is_not_finite_ends_the_conversion() {
    let work = tempfile::tempdir().unwrap();
    let f = fixture("hf-llama-bf16");
    let source = work.path().join("source");
    std::fs::create_dir(&source).unwrap();
    for name in names(&f.path()) {
        std::fs::copy(f.path().join(&name), source.join(&name)).unwrap();
    }
    let path = source.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let entries = safetensors::parse(&path, &bytes).unwrap().tensors;
    let entry = entries.iter().find(|e| e.name.ends_with("0.mlp.up_proj.weight")).unwrap();
    let at = entry.offset + 2 * (3 * entry.shape[1] + 7);
    bytes[at..at + 2].copy_from_slice(&0x7f80u16.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let checkpoint = Checkpoint::open(&source).unwrap();
    for target in [MLX8, gguf("Q4_K_M")] {
        match convert(&checkpoint, &work.path().join("out"), target, false, &mut go_on) {
            Err(Error::BadWeight { tensor, reason, .. }) => {
                assert!(tensor.ends_with("0.mlp.up_proj.weight"), "{tensor}");
                assert!(reason.contains("inf in row 3"), "{reason}");
            }
            other => panic!("expected a refusal, found {other:?}"),
        }
        assert_eq!(names(work.path()), ["source"]);
    }
}

/// A copy of a folder with another configuration, and tensors of zeros besides.
fn changed(f: &Fixture, folder: &Path, keys: serde_json::Value, more: &[(&str, &[usize])]) -> PathBuf {
    let out = folder.join("source");
    std::fs::create_dir(&out).unwrap();
    for name in names(&f.path()) {
        std::fs::copy(f.path().join(&name), out.join(&name)).unwrap();
    }
    let path = out.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    std::fs::write(path, config.to_string()).unwrap();
    let path = out.join("model.safetensors");
    let file = std::fs::read(&path).unwrap();
    let (length, rest) = file.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let mut data = data.to_vec();
    for (name, shape) in more {
        let start = data.len();
        data.resize(start + 2 * shape.iter().product::<usize>(), 0);
        header[*name] =
            serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()]});
    }
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length[..], header.as_bytes(), &data].concat()).unwrap();
    out
}

#[test]
fn what_a_target_cannot_say_is_refused() {
    let f = fixture("hf-qwen3-moe-bf16");
    let bias = "model.layers.0.mlp.experts.0.gate_proj.bias";
    for (keys, tensors, target, expected) in [
        // llama.cpp's Qwen3-MoE always makes the weights of experts add up to 1.
        (
            serde_json::json!({"norm_topk_prob": false}),
            vec![],
            gguf("Q8_0"),
            "experts that it would read differently",
        ),
        (serde_json::json!({}), vec![(bias, &[64usize][..])], gguf("Q8_0"), bias),
        (serde_json::json!({}), vec![(bias, &[64][..])], MLX8, bias),
    ] {
        let work = tempfile::tempdir().unwrap();
        let source = Checkpoint::open(changed(&f, work.path(), keys, &tensors)).unwrap();
        match convert(&source, &work.path().join("out"), target, false, &mut go_on) {
            Err(Error::Unconvertible { found, .. }) => assert!(found.contains(expected), "{found}"),
            other => panic!("expected a refusal for {expected}, found {other:?}"),
        }
        assert_eq!(names(work.path()), ["source"]);
    }
    // A folder says it.
    let work = tempfile::tempdir().unwrap();
    let source = changed(&f, work.path(), serde_json::json!({"norm_topk_prob": false}), &[]);
    let out = work.path().join("out");
    convert(&Checkpoint::open(source).unwrap(), &out, MLX8, false, &mut go_on).unwrap().unwrap();
    let config = Checkpoint::open(out).unwrap().model_config().unwrap();
    assert!(!config.experts.unwrap().normalized);
}

#[test]
fn numbers_that_do_not_fit_the_tensors_do_no_harm() {
    let (mut written, mut refused) = (0, 0);
    for name in ["hf-qwen3-next-moe-bf16", "hf-qwen3_5-moe-bf16", "hf-gpt-oss-mxfp4", "hf-mixtral-bf16"] {
        let f = fixture(name);
        let config = Checkpoint::open(f.path()).unwrap().config().unwrap().clone();
        let numbers = config.as_object().unwrap().iter().filter(|(_, value)| value.is_u64());
        for ((key, _), number) in numbers.flat_map(|entry| [1, 3, 1 << 20].map(|number| (entry, number))) {
            let work = tempfile::tempdir().unwrap();
            let keys = serde_json::json!({key: number});
            let source = Checkpoint::open(changed(&f, work.path(), keys, &[])).unwrap();
            for target in [MLX8, gguf("Q8_0")] {
                match convert(&source, &work.path().join("out"), target, true, &mut go_on) {
                    Ok(_) => written += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    // Many numbers have no tensor that they could contradict.
    assert!(written > 20 && refused > 100, "{written} written, {refused} refused");
}

#[test]
fn gpt_oss_without_yarn_says_so() {
    let plain = serde_json::json!({"rope_parameters": {"rope_type": "default", "rope_theta": 15e4}});
    let work = tempfile::tempdir().unwrap();
    let source = changed(&fixture("hf-gpt-oss-bf16"), work.path(), plain, &[]);
    let [file, folder] = ["file", "folder"].map(|name| work.path().join(name));
    convert(&Checkpoint::open(&source).unwrap(), &file, gguf("Q8_0"), false, &mut go_on).unwrap().unwrap();
    convert(&Checkpoint::open(&file).unwrap(), &folder, MLX8, false, &mut go_on).unwrap().unwrap();
    let [before, after] =
        [source, folder].map(|path| Checkpoint::open(path).unwrap().model_config().unwrap());
    assert_eq!(before.rope, after.rope);
}

#[test]
fn what_is_no_part_of_the_model_of_text_is_left_out() {
    let f = fixture("hf-qwen3_5-moe-bf16");
    let more: [(&str, &[usize]); 4] = [
        ("mtp.layers.0.norm.weight", &[64]),
        ("mtp.layers.0.mlp.experts.0.gate_proj.weight", &[32, 32]),
        ("mtp.layers.0.linear_attn.conv1d.weight", &[8, 1, 4]),
        ("model.visual.x.weight", &[2, 2]),
    ];
    for target in [MLX8, gguf("Q8_0")] {
        let work = tempfile::tempdir().unwrap();
        let source = Checkpoint::open(changed(&f, work.path(), serde_json::json!({}), &more)).unwrap();
        let out = work.path().join("out");
        convert(&source, &out, target, false, &mut go_on).unwrap().unwrap();
        let written = Checkpoint::open(&out).unwrap();
        let more = written.tensors().iter().find(|t| t.name.contains("mtp") || t.name.contains("visual"));
        assert!(more.is_none(), "{more:?}");
    }
}

#[test]
fn the_text_part_of_a_model_that_sees_images_has_the_names_of_mlx() {
    for name in ["mlx-gemma3-images-q4-g64-bf16", "mlx-qwen3_5-moe-images-q4-g32-bf16"] {
        let folder = tempfile::tempdir().unwrap();
        let f = fixture(name);
        let (out, _) = converted(&f, folder.path(), MLX8).unwrap();
        let (before, after) = (tensors(&f.path()), tensors(&out));
        let weights = |of: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
            of.keys().filter(|name| name.ends_with(".weight")).cloned().collect()
        };
        assert_eq!(weights(&before), weights(&after), "{name}");
    }
}

#[test]
fn configurations_have_words_that_mlx_knows() {
    for (name, keys) in [
        ("hf-qwen3_5-bf16", vec![("model_type", "\"qwen3_5\""), ("partial_rotary_factor", "0.25")]),
        ("gguf-qwen3_5-q8_0", vec![("model_type", "\"qwen3_5\""), ("full_attention_interval", "2")]),
        ("hf-qwen3_5-moe-bf16", vec![("model_type", "\"qwen3_5_moe\"")]),
        ("gguf-mixtral-q5_0", vec![("num_local_experts", "4"), ("num_experts_per_tok", "2")]),
        ("gguf-qwen3-moe-q4_0", vec![("num_experts", "6"), ("mlp_only_layers", "[0]")]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (out, _) = converted(&fixture(name), folder.path(), MLX8).unwrap();
        let config = Checkpoint::open(&out).unwrap().config().unwrap().clone();
        for (key, expected) in keys {
            assert_eq!(config[key].to_string(), expected, "{name}: {key}");
        }
    }
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let checkpoint = Checkpoint::open(fixture("gguf-llama-q4_0").path()).unwrap();
    let work = tempfile::tempdir().unwrap();
    for (bits, group) in [(7, 64), (1, 64), (4, 16)] {
        let refused =
            convert(&checkpoint, &work.path().join("out"), Target::Mlx { bits, group }, false, &mut go_on);
        assert!(matches!(refused, Err(Error::Option { .. })), "{refused:?}");
    }
    assert_eq!(names(work.path()), Vec::<String>::new());
}

#[test]
fn a_model_compared_with_its_quantization_is_near_it_and_with_itself_the_same() {
    let f = fixture("hf-llama-bf16");
    let folder = tempfile::tempdir().unwrap();
    let (out, _) = converted(&f, folder.path(), gguf("Q8_0")).unwrap();
    let tokens = f.reference().tokens("prompt").unwrap();
    let compare = |path: &Path| {
        let [mut a, mut b] = [f.path().as_path(), path].map(|path| load(path, 2, true).session().unwrap());
        dacapo_lm::compare(&mut a, &mut b, &tokens, 16, &mut |_, _| ControlFlow::Continue(()))
            .unwrap()
            .unwrap()
    };
    let same = compare(&f.path());
    assert_eq!((same.max_divergence, same.same_likeliest), (0.0, 1.0));
    assert_eq!(same.reference, same.candidate);
    let mut session = load(&f.path(), 2, true).session().unwrap();
    let alone =
        dacapo_lm::perplexity(&mut session, &tokens, 16, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(same.reference, alone, "as `perplexity` has it");
    let near = compare(&out);
    assert!(near.mean_divergence > 0.0 && near.mean_divergence < 1e-2, "{near:?}");
    assert!(near.max_divergence >= near.mean_divergence);
}
