//! The demo model, in both of its exports: it must do as well here as in transformers.
//!
//! `tools/demo_model/evaluate.py` makes the references under `models/demo/eval` and says what is in them.

mod support;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dacapo_lm::template::{Message, TemplateOptions};
use dacapo_lm::{FinishReason, GenerateOptions, Model, Session, perplexity};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use support::{Differences, F32, Reference, load, logits};

const EXPORTS: [(&str, &str); 2] = [("mlx", "mlx"), ("gguf", "demo-q4_0.gguf")];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join("eval").join(name)).unwrap()
}

fn read_lines<T: DeserializeOwned>(name: &str) -> Vec<T> {
    read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn expected() -> Value {
    serde_json::from_str(&read("expected.json")).unwrap()
}

/// The tokens of a conversation of one question, as the model was trained on them.
fn chat(model: &Model, question: &str) -> Vec<u32> {
    let template = model.chat_template().unwrap().expect("a chat template");
    let options = TemplateOptions { add_generation_prompt: true, ..Default::default() };
    let text = template.render(&[Message::new("user", question)], &options).unwrap();
    model.tokenizer().unwrap().encode(&text, false).unwrap()
}

fn answer(session: &mut Session, question: &str) -> String {
    let prompt = chat(session.model(), question);
    let options = GenerateOptions { max_tokens: Some(64), ..Default::default() };
    session.generate(&prompt, &options, &mut |_| ControlFlow::Continue(())).unwrap().text
}

#[test]
fn logits_are_the_references() {
    for (name, file) in EXPORTS {
        let model = load(&folder().join(file), 2, true);
        let reference = Reference::open(&folder().join(format!("eval/logits-{name}.safetensors")));
        let found = logits(&mut model.session().unwrap(), &reference.tokens("tokens").unwrap()).unwrap();
        let expected = reference.floats("logits").unwrap();
        let wrong = Differences::measure(&found, &expected, model.config().vocab_size).outside(&F32);
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

#[test]
fn greedy_tokens_are_the_references() {
    for (name, file) in EXPORTS {
        let model = load(&folder().join(file), 2, true);
        let expected = expected();
        for case in expected["exports"][name]["greedy"].as_array().unwrap() {
            let ids = |key: &str| serde_json::from_value::<Vec<u32>>(case[key].clone()).unwrap();
            let text = case["prompt"].as_str().unwrap();
            let prompt = match case["kind"].as_str().unwrap() {
                "chat" => chat(&model, text),
                _ => model.tokenizer().unwrap().encode(text, false).unwrap(),
            };
            assert_eq!(prompt, ids("prompt_ids"), "{name}: {text}");
            let options = GenerateOptions { max_tokens: Some(64), ..Default::default() };
            let mut session = model.session().unwrap();
            let found = session.generate(&prompt, &options, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(found.tokens, ids("ids"), "{name}: {text}");
            let ended =
                if found.tokens.len() < 64 { FinishReason::EndOfText } else { FinishReason::MaxTokens };
            assert_eq!(found.finish, ended, "{name}: {text}");
        }
    }
}

fn perplexity_is_near_the_reference(exact: bool) {
    let expected = expected();
    let window = expected["window"].as_u64().unwrap() as usize;
    for (name, file) in EXPORTS {
        let model = load(&folder().join(file), 2, exact);
        let figures = &expected["exports"][name];
        let tokens = model.tokenizer().unwrap().encode(&read("heldout.txt"), false).unwrap();
        assert_eq!(tokens.len() as u64, figures["tokens"]);
        let mut session = model.session().unwrap();
        let found = perplexity(&mut session, &tokens, window, &mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(found.scored as u64, figures["scored_tokens"]);
        let reference = figures["perplexity"].as_f64().unwrap();
        let change = found.value() / reference - 1.0;
        assert!(change.abs() <= 0.005, "{name}: {} is {change:+.4} off {reference}", found.value());
    }
}

#[test]
fn perplexity_with_exact_activations() {
    perplexity_is_near_the_reference(true);
}

#[test]
fn perplexity_with_int8_activations() {
    perplexity_is_near_the_reference(false);
}

/// Asks every question, and wants 95 of 100 answers to be right.
fn check_answers<'a>(cases: impl Iterator<Item = (&'a str, Box<dyn Fn(&str) -> bool + 'a>)> + Clone) {
    for (name, file) in EXPORTS {
        let model = load(&folder().join(file), 2, false);
        let mut session = model.session().unwrap();
        let (mut count, mut wrong) = (0, Vec::new());
        for (question, right) in cases.clone() {
            let found = answer(&mut session, question);
            count += 1;
            if !right(&found) {
                wrong.push((question, found));
            }
        }
        assert!(count >= 100 && wrong.len() * 20 <= count, "{name}: of {count} answers wrong: {wrong:#?}");
    }
}

#[derive(Deserialize)]
struct Sum {
    prompt: String,
    answer: i64,
}

#[test]
fn sums_are_right() {
    let sums: Vec<Sum> = read_lines("sums.jsonl");
    check_answers(sums.iter().map(|sum| {
        let number = sum.answer.to_string();
        let right = move |found: &str| found.trim_end_matches('.').rsplit(" is ").next() == Some(&number);
        (sum.prompt.as_str(), Box::new(right) as Box<dyn Fn(&str) -> bool>)
    }));
}

#[derive(Deserialize)]
struct Question {
    prompt: String,
    expected: String,
}

#[test]
fn questions_are_answered() {
    let questions: Vec<Question> = read_lines("questions.jsonl");
    check_answers(questions.iter().map(|question| {
        let right = |found: &str| found.contains(&question.expected);
        (question.prompt.as_str(), Box::new(right) as Box<dyn Fn(&str) -> bool>)
    }));
}
