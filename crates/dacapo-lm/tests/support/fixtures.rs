//! Tiny checkpoints of every architecture and format, with what transformers makes of them.
//!
//! `tools/oracles/models.py` makes them and says what is in them.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use dacapo_lm::{FinishReason, GenerateOptions, Generation, Model, Session};
use serde::Deserialize;

use super::{Differences, F16_CACHE, F32, INT8, Reference, logits};

/// A fixture as `index.json` lists it.
#[derive(Deserialize)]
pub struct Fixture {
    /// Its folder.
    pub name: String,
    /// The file to load; empty if it is the folder.
    file: String,
    quantized: bool,
}

impl Fixture {
    /// What to load.
    pub fn path(&self) -> PathBuf {
        let folder = folder().join(&self.name);
        if self.file.is_empty() { folder } else { folder.join(&self.file) }
    }

    /// What transformers gave.
    pub fn reference(&self) -> Reference {
        Reference::open(&folder().join(&self.name).join("reference.safetensors"))
    }

    /// What is wrong with the logits at all positions, and at the end of the long prompt if the fixture has one.
    pub fn wrong_logits(&self, model: &Model) -> Vec<String> {
        let profile = match (model.is_exact(), self.quantized) {
            (true, _) => F32,
            (false, false) => F16_CACHE,
            (false, true) => INT8,
        };
        let reference = self.reference();
        let vocabulary = model.config().vocab_size;
        let found = logits(&mut model.session().unwrap(), &reference.tokens("prompt").unwrap()).unwrap();
        let differences = Differences::measure(&found, &reference.floats("logits").unwrap(), vocabulary);
        let mut wrong = differences.outside(&profile);
        if let (Some(tokens), Some(expected)) =
            (reference.tokens("long_prompt"), reference.floats("long_logits"))
        {
            let whole = logits(&mut model.session().unwrap(), &tokens).unwrap();
            let mut found = vec![("", whole[whole.len() - expected.len()..].to_vec())];
            if !takes_its_time(model, &tokens) {
                // As many tokens at once as generation reads, which is when rings are fullest.
                let (start, end) = tokens.split_at(tokens.len() - expected.len() / vocabulary);
                let mut parts = model.session().unwrap();
                parts.prefill(start, &mut |_, _| ControlFlow::Continue(())).unwrap();
                found.push((", prefilled", logits(&mut parts, end).unwrap()));
            }
            for (how, found) in found {
                let differences = Differences::measure(&found, &expected, vocabulary);
                let outside = differences.outside(&profile);
                wrong.extend(outside.into_iter().map(|failure| format!("long prompt{how}: {failure}")));
            }
        }
        wrong
    }

    /// What is wrong with the tokens that follow the prompt.
    pub fn wrong_greedy_tokens(&self, model: &Model) -> Vec<String> {
        let reference = self.reference();
        let mut session = model.session().unwrap();
        let mut wrong = Vec::new();
        // One session reads both, so that the long prompt takes the place of another, and is gone back from.
        for (prompt, greedy) in [("prompt", "greedy"), ("long_prompt", "long_greedy"), ("prompt", "greedy")] {
            let Some((prompt, expected)) = reference.tokens(prompt).zip(reference.tokens(greedy)) else {
                continue;
            };
            if takes_its_time(model, &prompt) {
                continue;
            }
            let found = generate(&mut session, &prompt, expected.len());
            if found.tokens != expected || found.finish != FinishReason::MaxTokens {
                let reason = found.finish.name();
                wrong.push(format!("{greedy}: expected {expected:?}, found {:?} ({reason})", found.tokens));
            }
        }
        wrong
    }
}

/// Whether a pass over hundreds of these tokens may take longer than a driver is waited for: GPUs are software ones in tests.
fn takes_its_time(model: &Model, tokens: &[u32]) -> bool {
    model.device().info().gpu.is_some() && tokens.len() > 300
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models")
}

/// All fixtures.
pub fn fixtures() -> Vec<Fixture> {
    let fixtures: Vec<Fixture> =
        serde_json::from_slice(&std::fs::read(folder().join("index.json")).unwrap()).unwrap();
    assert!(!fixtures.is_empty());
    fixtures
}

/// The fixture of this name.
pub fn fixture(name: &str) -> Fixture {
    fixtures().into_iter().find(|f| f.name == name).unwrap()
}

/// Checks all fixtures, and reports every one that fails.
pub fn for_all(check: impl Fn(&Fixture) -> Vec<String>) {
    let failures: Vec<String> = fixtures()
        .iter()
        .flat_map(|f| {
            check(f).into_iter().map(|failure| format!("{}: {failure}", f.name)).collect::<Vec<_>>()
        })
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Greedy tokens behind a prompt.
pub fn generate(session: &mut Session, prompt: &[u32], count: usize) -> Generation {
    let options = GenerateOptions { max_tokens: Some(count), ignore_eos: true, ..Default::default() };
    session.generate(prompt, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}
