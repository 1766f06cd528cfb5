//! `dacapo generate` and `dacapo chat` on the demo model.

mod common;

use common::{failure, json, repository_path, run, run_with_input, stdout_of, text};

#[test]
fn the_demo_model_answers_a_sum() {
    assert_eq!(text(&["generate", "--prompt", "What is 7 + 15?"]), "7 + 15 is 22.");
}

#[test]
fn both_shipped_forms_answer() {
    for model in ["models/demo/mlx", "models/demo/demo-q4_0.gguf"] {
        let model = repository_path(model);
        assert_eq!(text(&["generate", "--model", &model, "What is 7 + 15?", "--exact"]), "7 + 15 is 22.");
    }
}

#[test]
fn standard_output_is_the_text_and_nothing_else() {
    let args = ["generate", "--raw", "--prompt", "Once upon a time", "--max-tokens", "30"];
    let report = json(&[&args[..], &["--json"]].concat());
    assert_eq!(text(&args), report["text"].as_str().unwrap());
    assert_eq!(report["finish_reason"], "max_tokens");
    assert_eq!(report["generated_tokens"], 30);
    assert_eq!(report["tokens"].as_array().unwrap().len(), 30);
    assert_eq!(report["prompt_tokens"], 4);
    assert_eq!(report["cached_tokens"], 0);
    for time in ["load_s", "prefill_s", "decode_s"] {
        assert!(report["times"][time].as_f64().unwrap() > 0.0, "{time}");
    }
    assert!(report["decode_tokens_per_second"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_prompt_comes_from_an_option_a_file_or_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt");
    std::fs::write(&file, "What is 7 + 15?\r\n").unwrap();
    let expected = "7 + 15 is 22.";
    assert_eq!(text(&["generate", "What is 7 + 15?"]), expected);
    assert_eq!(text(&["generate", "--prompt-file", file.to_str().unwrap()]), expected);
    for args in [["generate", "--prompt", "-"].as_slice(), &["generate", "-"]] {
        assert_eq!(stdout_of(&run_with_input(args, "What is 7 + 15?\n")), expected);
    }
}

#[test]
fn the_same_seed_gives_the_same_text_on_any_number_of_threads() {
    let sample = |seed: &str, threads: &str| {
        text(&[
            "generate",
            "--raw",
            "Once upon a time",
            "--temperature",
            "1.2",
            "--max-tokens",
            "40",
            "--seed",
            seed,
            "--threads",
            threads,
        ])
    };
    let one = sample("7", "1");
    assert_eq!(one, sample("7", "2"));
    assert_eq!(one, sample("7", "3"));
    assert_ne!(one, sample("8", "1"));
}

#[test]
fn a_stop_text_ends_the_text_before_it() {
    let whole = text(&["generate", "--raw", "Once upon a time", "--max-tokens", "60"]);
    let (before, _) = whole.split_once(". ").expect("a sentence");
    let report = json(&["generate", "--raw", "Once upon a time", "--stop", ". ", "--json"]);
    assert_eq!(report["text"], before);
    assert_eq!(report["finish_reason"], "stop_string");
}

#[test]
fn a_bias_forbids_a_token() {
    let args = ["generate", "--raw", "Once upon a time", "--max-tokens", "1", "--json"];
    let first = json(&args)["tokens"][0].as_u64().unwrap();
    let other = json(&[&args[..], &["--logit-bias", &format!("{first}=-inf")]].concat());
    assert_ne!(other["tokens"][0].as_u64().unwrap(), first);
    let line = failure(&run(&["generate", "x", "--logit-bias", "1536=1"]));
    assert_eq!(line, "dacapo: --logit-bias: expected token ids below 1536, found 1536");
}

#[test]
fn a_system_message_is_part_of_the_prompt() {
    let count = |extra: &[&str]| {
        let args = [&["generate", "Hello.", "--max-tokens", "1", "--json"], extra].concat();
        json(&args)["prompt_tokens"].as_u64().unwrap()
    };
    assert!(count(&["--system", "Be kind."]) > count(&[]));
}

#[test]
fn a_prompt_beyond_the_context_is_refused() {
    let line = failure(&run(&["generate", "--raw", "Once upon a time", "--context", "3"]));
    assert_eq!(line, "dacapo: prompt of 4 tokens does not fit the context of 3 tokens");
}

#[test]
fn a_full_context_ends_the_text() {
    let report =
        json(&["generate", "--raw", "Once upon a time", "--context", "16", "--ignore-eos", "--json"]);
    assert_eq!(report["finish_reason"], "context_full");
}

#[test]
fn an_empty_prompt_is_refused() {
    let line = failure(&run(&["generate", "--raw", ""]));
    assert_eq!(line, "dacapo: prompt: expected at least one token, found an empty text");
}

#[test]
fn a_chat_answers_line_by_line_and_remembers() {
    let output = run_with_input(&["chat"], "What is 7 + 15?\n\nWhat is 12 minus 5?\n/quit\nnever read\n");
    let answers = stdout_of(&output);
    let lines = answers.lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 2, "{answers}");
    assert!(lines[0].contains("22") && lines[1].contains('7'), "{answers}");
}

#[test]
fn a_chat_tells_its_statistics_and_forgets() {
    let output = run_with_input(&["chat"], "/stats\nWhat is 7 + 15?\n/stats\n/reset\n/stats\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "7 + 15 is 22.\n");
    let errors = String::from_utf8(output.stderr).unwrap();
    let contexts = errors.lines().filter(|line| line.starts_with("context: ")).collect::<Vec<_>>();
    assert_eq!(contexts.len(), 3, "{errors}");
    assert!(contexts[0].starts_with("context: 0 of 1024 tokens"), "{errors}");
    assert!(!contexts[1].starts_with("context: 0 "), "{errors}");
    assert_eq!(contexts[0], contexts[2]);
}

#[test]
fn a_script_that_chats_beyond_the_context_fails() {
    let output = run_with_input(&["chat", "--context", "4"], "What is 7 + 15?\n");
    let line = failure(&output);
    assert!(line.contains("does not fit the context of 4 tokens"), "{line}");
}
