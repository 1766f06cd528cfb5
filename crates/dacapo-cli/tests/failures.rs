//! Exit codes, and what the program says when something is wrong.

mod common;

use common::{dacapo, failure, repository, run};
use std::io::Read;
use std::process::Stdio;

#[test]
fn wrong_usage_is_code_2() {
    let cases: &[&[&str]] = &[
        &[],
        &["sing"],
        &["generate"],
        &["generate", "a", "--prompt", "b"],
        &["generate", "a", "--temperature", "-1"],
        &["generate", "a", "--top-p", "2"],
        &["generate", "a", "--threads", "0"],
        &["generate", "a", "--max-tokens", "0"],
        &["generate", "a", "--seed", "x"],
        &["generate", "a", "--stop", ""],
        &["generate", "a", "--logit-bias", "1"],
        &["generate", "a", "--device", "abacus"],
        &["generate", "a", "--raw", "--system", "b"],
        &["logits", "--prompt", "a"],
        &["logits", "--tokens", "1,x", "--out", "f"],
        &["logits", "--tokens", "1", "--prompt", "a", "--out", "f"],
        &["perplexity"],
        &["tokenize"],
        &["tokenize", "--decode", "--chat", "1"],
        &["bench", "--repeat", "0"],
        &["completions", "abacus"],
    ];
    for args in cases {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    }
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let line = failure(&run(&["generate", "a", "--device", "metal"]));
    assert!(line.starts_with("dacapo: device metal: not built in; expected one of: cpu"), "{line}");
    // What is missing differs from machine to machine: the loader, a driver, or the device.
    for device in ["vulkan:99", "vulkan:no such name"] {
        let line = failure(&run(&["generate", "a", "--device", device]));
        assert!(line.starts_with("dacapo: no such device: "), "{line}");
    }
}

#[test]
fn a_missing_model_is_named() {
    let verbs: [&[&str]; 6] = [
        &["generate", "a"],
        &["chat"],
        &["logits", "--prompt", "a", "--out", "never-written"],
        &["tokenize", "a"],
        &["bench"],
        &["inspect"],
    ];
    for verb in verbs {
        let output = run(&[verb, &["--model", "no/such/model"]].concat());
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb:?}");
        assert!(
            errors.lines().last().unwrap().starts_with("dacapo: no/such/model: No such file"),
            "{errors}"
        );
    }
}

#[test]
fn a_truncated_model_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(repository("models/demo/demo-q4_0.gguf")).unwrap();
    let path = folder.path().join("model.gguf");
    for length in [0, 3, 100, whole.len() / 2, whole.len() - 1000] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let line = failure(&run(&["generate", "a", "--model", path.to_str().unwrap()]));
        assert!(line.contains("model.gguf") && line.contains("expected"), "{line}");
    }
}

#[test]
fn a_text_that_is_not_utf8_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, b"ab\xffc").unwrap();
    let path = path.to_str().unwrap();
    for args in [["generate", "--prompt-file", path], ["perplexity", "--file", path]] {
        let line = failure(&run(&args));
        assert_eq!(line, format!("dacapo: {path}: expected UTF-8 text, found byte 0xff at offset 2"));
    }
}

#[test]
fn a_folder_is_no_place_for_logits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let line = failure(&run(&["logits", "--tokens", "1", "--out", path]));
    assert!(line.starts_with(&format!("dacapo: {path}: ")), "{line}");
    let nowhere = folder.path().join("no/such/file");
    let nowhere = nowhere.to_str().unwrap();
    let line = failure(&run(&["logits", "--tokens", "1", "--out", nowhere]));
    assert!(line.starts_with(&format!("dacapo: {nowhere}: ")), "{line}");
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let mut child = dacapo(&["generate", "--raw", "Once upon a time", "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // The pipe is closed by now: its end went out of scope.
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
mod full_disk {
    use super::*;
    use std::process::Command;

    fn full() -> std::fs::File {
        std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap()
    }

    #[test]
    fn standard_output_on_a_full_disk_is_a_failure() {
        let verbs: [&[&str]; 5] = [
            &["generate", "Hello."],
            &["tokenize", "Hello."],
            &["inspect"],
            &["devices", "--json"],
            &["completions", "bash"],
        ];
        for args in verbs {
            let output = dacapo(args).stdout(full()).output().unwrap();
            let line = failure(&output);
            assert!(line.starts_with("dacapo: standard output: No space left"), "{args:?} {line}");
        }
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let line = failure(&run(&["logits", "--tokens", "1,2", "--out", "/dev/full"]));
        assert!(line.starts_with("dacapo: /dev/full: No space left"), "{line}");
        assert!(!std::fs::metadata("/dev/full").unwrap().is_file());
    }

    #[test]
    fn a_file_that_cannot_be_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("logits.safetensors");
        // A limit on the size of files stands for a full disk; signal 25, SIGXFSZ, is ignored so that the write
        // itself fails.
        let script = r#"trap '' 25; ulimit -f 8; exec "$0" logits --prompt "Once upon a time" --out "$1""#;
        let output = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_dacapo"), out.to_str().unwrap()])
            .output()
            .unwrap();
        let line = failure(&output);
        assert!(line.contains("logits.safetensors: File too large"), "{line}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn ctrl_c_ends_a_text_with_code_130_and_keeps_what_came() {
        let mut child =
            dacapo(&["generate", "--raw", "Once upon a time", "--ignore-eos", "--context", "1000000"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
        let mut first = [0];
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut first).unwrap();
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(130), ""));
    }
}

#[test]
fn models_are_found_in_the_cache_of_hugging_face() {
    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("hub/models--someone--demo");
    let snapshot = repository.join("snapshots/0123abc");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), "0123abc").unwrap();
    std::fs::copy(common::repository("models/demo/demo-q4_0.gguf"), snapshot.join("demo.gguf")).unwrap();
    let run = |model: &str| {
        let mut command = common::dacapo(&["inspect", "--model", model]);
        command
            .env("HF_HOME", cache.path())
            .env("HF_HUB_OFFLINE", "1")
            .env_remove("HF_HUB_CACHE")
            .env_remove("HUGGINGFACE_HUB_CACHE");
        command.output().unwrap()
    };
    assert!(common::stdout_of(&run("someone/demo")).contains("qwen3"));
    let line = common::failure(&run("someone/else"));
    assert!(line.starts_with("dacapo: someone/else: expected a file, a folder, or a model"), "{line}");
}
