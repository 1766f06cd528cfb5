//! The verb that writes checkpoints.

mod common;

use common::{failure, json, repository_path, run, text};

fn demo(kind: &str) -> String {
    repository_path(match kind {
        "mlx" => "models/demo/mlx",
        _ => "models/demo/demo-q4_0.gguf",
    })
}

#[test]
fn a_model_is_quantized_measured_and_runs() {
    for (kind, options) in [("gguf", &["--bits", "6", "--group", "32"][..]), ("mlx", &["--type", "q8_0"])] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out").to_str().unwrap().to_string();
        let source = demo(kind);
        let mut args = vec!["quantize", &source, &out, "--measure", "--json", "--device", "cpu"];
        args.extend(options);
        let report = json(&args);
        let bits = report["bits_per_weight"].as_f64().unwrap();
        let expected = if kind == "gguf" { 7.0 } else { 8.5 };
        assert!((bits - expected).abs() < 0.1, "{bits}");
        assert_eq!(report["parameters"], 5_509_120);
        let measured = |key: &str| report["measured"][key].as_f64().unwrap();
        assert!(measured("mean_divergence") < 0.01, "{report}");
        assert!((measured("perplexity") / measured("source_perplexity") - 1.0).abs() < 0.05, "{report}");
        let answer = text(&["generate", "--model", &out, "--prompt", "What is 7 + 15?"]);
        assert_eq!(answer.trim(), "7 + 15 is 22.");
        let inspected = json(&["inspect", "--model", &out, "--json"]);
        assert_eq!(inspected["format"], if kind == "gguf" { "MLX" } else { "GGUF" });
        assert_eq!(inspected["bytes"], report["tensor_bytes"]);

        let line = failure(&run(&args));
        assert!(line.ends_with("out: expected nothing, or --force, found a checkpoint"), "{line}");
        let line = text(&[&["quantize", &source, &out, "--force"], options].concat());
        assert!(line.contains("bits for a parameter"), "{line}");
    }
}

#[test]
fn wrong_usage_is_told() {
    for (args, part) in [
        (&["a", "b"][..], "required"),
        (&["a", "b", "--bits", "9"], "from 2 to 8"),
        (&["a", "b", "--type", "Q9"], "expected one of F32"),
        (&["a", "b", "--type", "Q8_0", "--bits", "4"], "cannot be used with"),
        (&["a", "b", "--type", "Q8_0", "--group", "32"], "cannot be used with"),
    ] {
        let output = run(&[&["quantize"], args].concat());
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(part), "{errors}");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").to_str().unwrap().to_string();
    let line = failure(&run(&["quantize", &demo("mlx"), &out, "--bits", "7"]));
    assert_eq!(line, "dacapo: bits: expected 2, 3, 4, 5, 6 or 8, found 7");
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    use std::io::Read;
    use std::process::Stdio;

    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source.gguf");
    let out = folder.path().join("out.gguf");
    let [source_path, out_path] = [&source, &out].map(|path| path.to_str().unwrap());
    text(&["quantize", &demo("mlx"), source_path, "--type", "F32"]);
    let mut child = common::dacapo(&["quantize", source_path, out_path, "--type", "Q2_K"])
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The file under its passing name shows that writing has begun.
    let begun = || std::fs::read_dir(folder.path()).unwrap().count() > 1;
    while !begun() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let interrupted = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.unwrap().success());
    let status = child.wait().unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    match status.code() {
        // It may have ended before it heard of it.
        Some(0) => assert!(out.exists()),
        code => {
            assert_eq!((code, errors.as_str()), (Some(130), ""));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}
