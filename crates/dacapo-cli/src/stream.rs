//! Generating with the text going out as it comes.

use std::ops::ControlFlow;

use dacapo_lm::{Event, FinishReason, GenerateOptions, Generation, Session};

use crate::error::Result;
use crate::interrupt::Watch;
use crate::output::{print, remark};
use crate::progress::{Progress, Unit};
use crate::units;

/// Generates what follows `prompt`, the whole conversation so far. Each piece of text is handed to `sink` at
/// once. Ctrl-C ends the generation, not the program.
///
/// # Errors
/// Those of [`Session::generate`], and the first of `sink`.
pub fn generate(
    session: &mut Session,
    prompt: &[u32],
    options: &GenerateOptions,
    watch: &Watch,
    sink: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Generation> {
    let mut progress = Progress::new("reading the prompt", Unit::Tokens);
    let mut failed = Ok(());
    let generation = session.generate(prompt, options, &mut |event| {
        match event {
            Event::Prefill { done, total } => progress.update(done as u64, total as u64),
            Event::Text { text, .. } => {
                progress.clear();
                failed = sink(text);
            }
        }
        if failed.is_err() || watch.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    failed.map(|()| generation)
}

/// The sink that streams to standard output.
///
/// # Errors
/// Those of [`print()`].
pub fn to_stdout(text: &str) -> Result<()> {
    if text.is_empty() { Ok(()) } else { print(text) }
}

/// Prompt tokens read in each second, not counting those that the session held already.
pub fn prefill_rate(generation: &Generation) -> Option<f64> {
    units::rate(generation.prompt_tokens.saturating_sub(generation.cached_tokens), generation.prefill)
}

/// Tokens generated in each second. The first token comes out of the prompt's last step, so that the time
/// after it is shared by the others.
pub fn decode_rate(generation: &Generation) -> Option<f64> {
    match generation.tokens.len() {
        0 | 1 => None,
        tokens => units::rate(tokens - 1, generation.decode),
    }
}

/// The statistics of a generation on one line.
pub fn statistics(generation: &Generation) -> String {
    let rate =
        |rate: Option<f64>| rate.map_or(String::new(), |rate| format!(" at {} t/s", units::digits(rate)));
    let cached = match generation.cached_tokens {
        0 => String::new(),
        cached => format!(" ({cached} cached)"),
    };
    format!(
        "prompt {}{cached}{}, generated {}{}, ended by {}",
        generation.prompt_tokens,
        rate(prefill_rate(generation)),
        generation.tokens.len(),
        rate(decode_rate(generation)),
        reason(generation.finish),
    )
}

/// The closing line under a generated text, for a person at a terminal.
pub fn closing_line(generation: &Generation) {
    remark(&format!("[{}]", statistics(generation)));
}

fn reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::EndOfText => "the model",
        FinishReason::StopString => "a stop text",
        FinishReason::MaxTokens => "the limit of tokens",
        FinishReason::ContextFull => "a full context",
        FinishReason::Cancelled => "Ctrl-C",
    }
}
