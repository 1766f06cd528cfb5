//! How far a quantized model is from its source.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use dacapo_lm::{Checkpoint, LoadOptions, Model};
use serde::Serialize;

use super::Args;
use crate::args::read_file;
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::open;
use crate::progress::{Progress, Unit};

/// Tokens of a window.
const WINDOW: usize = 512;

/// The text where none is given.
const TEXT: &str = include_str!("measure.txt");

/// The result.
#[derive(Debug, Serialize)]
pub struct Measured {
    source_perplexity: f64,
    perplexity: f64,
    mean_divergence: f64,
    max_divergence: f64,
    same_likeliest: f64,
    tokens: usize,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "perplexity {:.4}, of the source {:.4}; KL divergence mean {:.5}, max {:.4}; same likeliest token {:.1} % \
             ({} tokens)",
            self.perplexity,
            self.source_perplexity,
            self.mean_divergence,
            self.max_divergence,
            100.0 * self.same_likeliest,
            self.tokens,
        )
    }
}

/// The text to measure with.
///
/// # Errors
/// If the file cannot be read.
pub fn text(file: Option<&Path>) -> Result<String> {
    file.map_or_else(|| Ok(TEXT.to_string()), read_file)
}

/// Runs both models over the text.
///
/// # Errors
/// What loading and running them find; [`Error::Interrupted`] after Ctrl-C.
pub fn run(args: &Args, source: &Checkpoint, text: &str) -> Result<Measured> {
    let device = open::device_of(&args.device, None)?;
    let load = |checkpoint: &Checkpoint, label: &'static str| {
        let mut progress = Progress::new(label, Unit::Bytes);
        Model::from_checkpoint(&device, checkpoint, &LoadOptions::default(), &mut |step| {
            progress.update(step.done_bytes, step.total_bytes);
        })
    };
    let reference = load(source, "loading the source")?;
    let candidate = load(&Checkpoint::open(&args.out)?, "loading")?;
    let tokens = reference.tokenizer()?.encode(text, true)?;
    let (mut reference, mut candidate) = (reference.session()?, candidate.session()?);
    let window = reference.context().min(candidate.context()).min(WINDOW);
    if tokens.len().min(window) < 2 {
        let found = format!("{} tokens in windows of {window}", tokens.len());
        return Err(Error::input("--measure", "at least two tokens to a window", found));
    }
    let watch = Watch::start();
    let mut progress = Progress::new("measuring", Unit::Tokens);
    let result = dacapo_lm::compare(&mut reference, &mut candidate, &tokens, window, &mut |done, total| {
        progress.update(done as u64, total as u64);
        if watch.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.clear();
    let result = result?.ok_or(Error::Interrupted)?;
    Ok(Measured {
        source_perplexity: result.reference.value(),
        perplexity: result.candidate.value(),
        mean_divergence: result.mean_divergence,
        max_divergence: result.max_divergence,
        same_likeliest: result.same_likeliest,
        tokens: tokens.len(),
    })
}
