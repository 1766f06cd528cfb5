//! `dacapo perplexity`: how well a model predicts a text.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::args::{RunArgs, read_file};
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::progress::{Progress, Unit};
use crate::{open, output, units};

const EXAMPLES: &str = "\
Examples:
  dacapo perplexity --file heldout.txt
  dacapo perplexity --model model.gguf --file wiki.test.raw --context 2048 --json

The text is tokenized as a whole, with the tokens that the tokenizer adds, and cut into windows of --context
tokens that do not overlap. Each starts from an empty context; its first token is not scored.
Perplexity is exp(mean negative log-likelihood): lower is better.";

/// Tokens of a window if neither the options nor the model say less.
const DEFAULT_WINDOW: usize = 512;

/// Measure how well a model predicts a text
///
/// --context is the window here [default: 512, or the model's context if that is shorter].
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The text
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    perplexity: f64,
    mean_nll: f64,
    scored_tokens: usize,
    tokens: usize,
    window: usize,
    seconds: f64,
    tokens_per_second: Option<f64>,
    file: String,
    model: &'a str,
    device: &'a str,
    threads: usize,
}

/// Runs the verb.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, and what made the run fail.
pub fn run(args: &Args) -> Result<()> {
    let text = read_file(&args.file)?;
    let opened = open::model(&args.run)?;
    let tokens = opened.model.tokenizer()?.encode(&text, true)?;
    let mut session = opened.model.session()?;
    let window = args.run.context.unwrap_or_else(|| session.context().min(DEFAULT_WINDOW));
    if tokens.len().min(window) < 2 {
        let found = format!("{} tokens in windows of {window}", tokens.len());
        return Err(Error::input(args.file.display(), "at least two tokens to a window", found));
    }
    let watch = Watch::start();
    let started = Instant::now();
    let mut progress = Progress::new("scoring", Unit::Tokens);
    let result = dacapo_lm::perplexity(&mut session, &tokens, window, &mut |done, total| {
        progress.update(done as u64, total as u64);
        if watch.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.clear();
    if watch.raised() {
        return Err(Error::Interrupted);
    }
    let (result, time) = (result?, started.elapsed());
    let info = opened.model.device().info();
    let report = Report {
        perplexity: result.value(),
        mean_nll: result.mean_nll,
        scored_tokens: result.scored,
        tokens: tokens.len(),
        window,
        seconds: time.as_secs_f64(),
        tokens_per_second: units::rate(tokens.len(), time),
        file: args.file.display().to_string(),
        model: &opened.name,
        device: info.backend.name(),
        threads: info.threads,
    };
    if args.json {
        return output::print_json(&report);
    }
    output::print(&format!(
        "perplexity {:.4} ({} tokens scored in windows of {window})\n",
        report.perplexity, report.scored_tokens
    ))?;
    output::remark(&format!(
        "[{} tokens at {} t/s]",
        tokens.len(),
        units::digits(report.tokens_per_second.unwrap_or_default())
    ));
    Ok(())
}
