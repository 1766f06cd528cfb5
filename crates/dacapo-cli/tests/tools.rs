//! The verbs that look at models: logits, perplexity, embed, tokenize, bench, inspect, devices, completions, and help.

mod common;

use common::{failure, json, repository_path, run, run_with_input, stdout_of, text};
use serde_json::Value;

/// Header and data of a safetensors file.
fn safetensors(bytes: &[u8]) -> (Value, &[u8]) {
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    assert!(length.is_multiple_of(8));
    (serde_json::from_slice(&rest[..length]).unwrap(), &rest[length..])
}

#[test]
fn logits_foretell_what_generate_takes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    let ids = text(&["tokenize", "Once upon a time"]).trim().replace(' ', ",");
    assert_eq!(text(&["logits", "--tokens", &ids, "--out", out.to_str().unwrap()]), "");
    let bytes = std::fs::read(&out).unwrap();
    let (header, data) = safetensors(&bytes);
    assert_eq!(header["logits"]["dtype"], "F32");
    assert_eq!(header["logits"]["shape"], serde_json::json!([4, 1536]));
    assert_eq!(header["tokens"]["dtype"], "I32");
    assert_eq!(header["tokens"]["shape"], serde_json::json!([4]));
    let part = |name: &str| {
        let offset = |i: usize| header[name]["data_offsets"][i].as_u64().unwrap() as usize;
        data[offset(0)..offset(1)].chunks_exact(4).map(|b| b.try_into().unwrap()).collect::<Vec<[u8; 4]>>()
    };
    let tokens = part("tokens").into_iter().map(i32::from_le_bytes).collect::<Vec<_>>();
    assert_eq!(tokens.iter().map(i32::to_string).collect::<Vec<_>>().join(","), ids);
    let logits = part("logits").into_iter().map(f32::from_le_bytes).collect::<Vec<_>>();
    let last = &logits[3 * 1536..];
    let likeliest = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
    let report = json(&["generate", "--raw", "Once upon a time", "--max-tokens", "1", "--json"]);
    assert_eq!(report["tokens"][0], likeliest);
    assert_eq!(data.len(), 4 * 4 * 1537);
}

#[test]
fn logits_of_a_text_and_of_its_tokens_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name).to_str().unwrap().to_string());
    let ids = text(&["tokenize", "The cat"]).trim().replace(' ', ",");
    text(&["logits", "--prompt", "The cat", "--out", &a, "--exact"]);
    text(&["logits", "--tokens", &ids, "--out", &b, "--exact", "--threads", "3"]);
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}

#[test]
fn logits_refuse_tokens_that_there_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let line = failure(&run(&["logits", "--tokens", "1,1536", "--out", out.to_str().unwrap()]));
    assert_eq!(line, "dacapo: --tokens: expected token ids below 1536, found 1536");
    let line =
        failure(&run(&["logits", "--tokens", "1,2,3", "--context", "2", "--out", out.to_str().unwrap()]));
    assert_eq!(line, "dacapo: prompt of 3 tokens does not fit the context of 2 tokens");
    assert!(!out.exists());
}

#[test]
fn perplexity_tells_the_models_own_language_from_another() {
    let folder = tempfile::tempdir().unwrap();
    let value = |name: &str, content: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let report =
            json(&["perplexity", "--file", file.to_str().unwrap(), "--context", "16", "--json", "--exact"]);
        assert_eq!(report["window"], 16);
        report["perplexity"].as_f64().unwrap()
    };
    let own = value("own", "Once upon a time, there was a little girl who loved to climb trees.");
    let other = value("other", "xq zvv 99 kkpj ;; wqx mmn trrr 51 zzg qqy vbx");
    assert!(own < 20.0 && other > 100.0, "{own} {other}");
}

#[test]
fn perplexity_needs_something_to_score() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty");
    std::fs::write(&file, "").unwrap();
    let line = failure(&run(&["perplexity", "--file", file.to_str().unwrap()]));
    assert!(line.ends_with("expected at least two tokens to a window, found 0 tokens in windows of 512"));
}

#[test]
fn tokens_turn_back_into_their_text() {
    for model in ["models/demo/mlx", "models/demo/demo-q4_0.gguf"] {
        let model = repository_path(model);
        for original in ["Once upon a time", " two  spaces", "ü — 漢字 🙂 <|im_start|>", "a\n\nb\t"] {
            let ids = text(&["tokenize", "--model", &model, "--prompt", original]);
            assert_eq!(ids.lines().count(), 1);
            let back = run_with_input(&["tokenize", "--model", &model, "--decode", "-"], &ids);
            assert_eq!(stdout_of(&back), original);
        }
    }
}

/// The lines of `dacapo embed`, as objects.
fn vectors(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn texts_are_embedded_line_by_line() {
    let texts = "Once upon a time\nThe end.\n";
    let lines = vectors(&stdout_of(&run_with_input(&["embed", "-"], texts)));
    assert_eq!(lines.len(), 2);
    for (index, (line, text_of)) in lines.iter().zip(texts.lines()).enumerate() {
        assert_eq!(line["index"], index);
        let ids = text(&["tokenize", text_of]);
        assert_eq!(line["tokens"], ids.split_whitespace().count());
        let vector: Vec<f64> = serde_json::from_value(line["embedding"].clone()).unwrap();
        let length: f64 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
        // Alone, and from a file, it is the same.
        assert_eq!(vectors(&text(&["embed", text_of]))[0]["embedding"], line["embedding"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("texts.txt");
    std::fs::write(&file, texts).unwrap();
    assert_eq!(vectors(&text(&["embed", "--prompt-file", file.to_str().unwrap()])), lines);
    let plain = text(&["embed", "--format", "plain", "Once upon a time"]);
    let numbers: Vec<f32> = plain.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let first: Vec<f32> = serde_json::from_value(lines[0]["embedding"].clone()).unwrap();
    assert_eq!(numbers, first);
    let mean =
        text(&["embed", "--pooling", "mean", "--no-normalize", "--format", "plain", "Once upon a time"]);
    assert_ne!(mean, plain);
}

#[test]
fn an_encoder_embeds_and_does_not_generate() {
    let model = repository_path("crates/dacapo-lm/tests/fixtures/embeddings/bert-f16");
    let line = &vectors(&text(&["embed", "--model", &model, "The cat."]))[0];
    assert_eq!((line["tokens"].as_u64(), line["embedding"].as_array().unwrap().len()), (Some(5), 64));
    let refused = failure(&run(&["generate", "--model", &model, "--raw", "The cat."]));
    let expected =
        "dacapo: bert: expected a model that goes on with a text, found an encoder, which only embeds texts";
    assert_eq!(refused, expected);
}

#[test]
fn a_chat_is_tokenized_with_its_template() {
    let ids = text(&["tokenize", "--chat", "Hello."]);
    let decoded = text(&["tokenize", "--decode", &ids]);
    assert!(decoded.contains("Hello.") && decoded.contains("<|im_start|>assistant"), "{decoded}");
    assert!(!text(&["tokenize", "--decode", "--skip-special", &ids]).contains("<|im_start|>"));
}

#[test]
fn only_ids_can_be_decoded() {
    let line = failure(&run(&["tokenize", "--decode", "1 two"]));
    assert_eq!(line, "dacapo: ids: expected token ids, found \"two\"");
    let line = failure(&run(&["tokenize", "--decode", "4000000"]));
    assert_eq!(line, "dacapo: ids: expected token ids below 1536, found 4000000");
}

#[test]
fn a_bench_reports_every_test() {
    let args = ["bench", "-p", "8,16", "-n", "4", "--depth", "0,32", "--repeat", "2", "--json"];
    let output = run(&args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let tests = report["tests"].as_array().unwrap();
    let names =
        tests.iter().map(|t| (t["test"].as_str().unwrap(), t["tokens"].as_u64(), t["depth"].as_u64()));
    let expected = [0, 32].map(|depth| {
        [("prompt", 8), ("prompt", 16), ("generation", 4)].map(|(test, n)| (test, Some(n), Some(depth)))
    });
    assert_eq!(names.collect::<Vec<_>>(), expected.concat());
    for test in tests {
        let speed = |key: &str| test[key].as_f64().unwrap();
        assert!(speed("min") > 0.0 && speed("min") <= speed("median") && speed("median") <= speed("max"));
        assert_eq!(test["bytes_per_token"].is_null(), test["test"] == "prompt");
    }
    let at_depth = |index: usize| tests[index]["bytes_per_token"].as_u64().unwrap();
    assert!(at_depth(5) > at_depth(2), "keys and values are read too");
    assert!(report["memory_bytes_per_second"].as_f64().unwrap() > 0.0);
    assert!(report["weight_bytes"].as_u64().unwrap() > 1_000_000);
}

#[test]
fn a_bench_beyond_the_context_is_refused() {
    let output = run(&["bench", "-p", "2000", "--repeat", "1"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    let line = errors.lines().last().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        line,
        "dacapo: bench: expected tests that fit the context of 1024 tokens, found pp 2000, which needs 2000"
    );
}

#[test]
fn inspect_adds_up() {
    for (model, format) in [("models/demo/mlx", "MLX"), ("models/demo/demo-q4_0.gguf", "GGUF")] {
        let model = repository_path(model);
        let report = json(&["inspect", "--model", &model, "--tensors", "--json"]);
        assert_eq!(report["format"], format);
        assert_eq!(report["architecture"], "qwen3");
        assert_eq!(report["parameters"], 5_509_120, "as many as the model was trained with");
        assert_eq!(report["chat_template"], true);
        assert_eq!(report["tokenizer_error"], Value::Null);
        let sum = |list: &str| {
            report[list].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).sum::<u64>()
        };
        assert_eq!(report["bytes"], sum("tensors"));
        assert_eq!(report["bytes"], sum("formats"));
        let bits = report["bits_per_weight"].as_f64().unwrap();
        assert!((4.0..5.0).contains(&bits), "{bits}");
        let table = text(&["inspect", "--model", &model, "--tensors"]);
        for row in report["tensors"].as_array().unwrap() {
            assert!(table.contains(row["name"].as_str().unwrap()));
        }
    }
}

#[test]
fn inspect_tells_of_experts() {
    let model = repository_path("crates/dacapo-lm/tests/fixtures/models/gguf-qwen2-moe-q8_0/model.gguf");
    let report = json(&["inspect", "--model", &model, "--json"]);
    let expected =
        serde_json::json!({"count": 5, "per_token": 2, "width": 64, "shared_width": 96, "layers": 1});
    assert_eq!(report["experts"], expected);
    let table = text(&["inspect", "--model", &model]);
    let line = "experts         5 of width 64, 2 for each token, in 1 layer; one of width 96 for all tokens";
    assert!(table.contains(line), "{table}");
}

#[test]
fn inspect_tells_what_states_take() {
    let model = repository_path("crates/dacapo-lm/tests/fixtures/models/hf-qwen3_5-bf16");
    let nets = &json(&["inspect", "--model", &model, "--json"])["delta_nets"];
    assert_eq!((nets["layers"].as_u64(), nets["state_bytes"].as_u64()), (Some(2), Some(11_264)));
    let report = text(&["inspect", "--model", &model]);
    assert!(report.contains("in 2 layers, 4 heads of values on 2 of keys, widths 16 and 16"), "{report}");
}

#[test]
fn the_processor_is_a_device() {
    let devices = json(&["devices", "--json"]);
    assert_eq!(devices[0]["device"], "cpu");
    assert!(devices[0]["threads"].as_u64().unwrap() >= 1);
    assert!(text(&["devices"]).contains("cpu"));
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(text(&["completions", shell]).contains("perplexity"), "{shell}");
    }
}

#[test]
fn every_verb_shows_examples() {
    let verbs = [
        "generate",
        "chat",
        "logits",
        "perplexity",
        "tokenize",
        "bench",
        "profile",
        "inspect",
        "quantize",
        "devices",
        "completions",
    ];
    for verb in verbs {
        let help = text(&[verb, "--help"]);
        assert!(help.contains(&format!("Examples:\n  dacapo {verb}")), "{help}");
    }
    assert!(text(&["--help"]).contains("Examples:"));
    assert!(text(&["--version"]).starts_with("dacapo "));
}
