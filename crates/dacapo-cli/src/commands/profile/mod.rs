//! `dacapo profile`: where the time of a generation goes.

mod summary;
mod trace;

use std::ops::ControlFlow;
use std::path::PathBuf;

use dacapo::GpuCapture;
use dacapo_lm::Model;

use super::bench::{bandwidth, measure};
use crate::args::{RunArgs, number, read_stdin};
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::output::OutputFile;
use crate::progress::{Progress, Unit};
use crate::{open, output, units};

use summary::Summary;

/// Tokens of a prompt that nobody has chosen.
const PROMPT: usize = 128;

const EXAMPLES: &str = "\
Examples:
  dacapo profile --out trace.json
  dacapo profile --model model.gguf --tokens 512 -n 32 --out trace.json
  dacapo profile --prompt 'Once upon a time' --threads 1 --out trace.json
  MTL_CAPTURE_ENABLED=1 dacapo profile --device metal --tokens 16 -n 1 --out trace.json --capture step.gputrace

The trace opens in https://ui.perfetto.dev and in chrome://tracing. Track \"host\" is what the program's thread does,
track \"device\" the submissions and in them the groups of dispatches that run beside each other. The prompt is read
once before, unprofiled, so that the weights are in memory.

The device times groups, not dispatches: in the table, a group's time is divided among its dispatches by the bytes
that they move. Bytes are those of all ranges that a dispatch is bound to, also where attention skips what is not
filled yet; of embedding and writes to the cache only the rows count. Memory speed is measured as by bench.

Xcode opens captures. They hold all memory that is used and make everything slower: take few steps, and the times of
another run.";

/// Show where the time of a generation goes: a trace file and a table
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The prompt, as it is, without a chat template; "-" reads standard input
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "tokens")]
    prompt: Option<String>,
    /// Read a prompt of N tokens in a fixed pattern [default: 128, or what fits the context]
    #[arg(long, value_name = "N", value_parser = number(1..=1 << 24))]
    tokens: Option<usize>,
    /// Decode steps after the prompt
    #[arg(short = 'n', long, value_name = "N", default_value = "16", value_parser = number(0..=1 << 20))]
    steps: usize,
    /// The trace to write; it appears only when it is complete
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// On Metal, with MTL_CAPTURE_ENABLED=1 in the environment: also capture the profiled work for Xcode, in a document that
    /// does not exist yet and whose name ends in .gputrace
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the verb.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, and what made the run fail.
pub fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        output::message(
            "dacapo: built without full optimization: these times are not what a release build reaches",
        );
    }
    let text = match args.prompt.as_deref() {
        Some("-") => Some(read_stdin()?),
        text => text.map(str::to_owned),
    };
    let opened = open::model(&args.run)?;
    let prompt = prompt(args, &opened.model, text)?;
    let mut session = opened.model.session()?;
    let context = session.context();
    if prompt.len() + args.steps > context {
        let expected = format!("a prompt and steps that fit the context of {context} tokens");
        return Err(Error::input("profile", expected, format!("{} and {}", prompt.len(), args.steps)));
    }
    let watch = Watch::start();
    let mut progress = Progress::new("profiling", Unit::Tokens);
    let mut observe = |done: usize, total: usize| {
        progress.update(done as u64, total as u64);
        if watch.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    session.prefill(&prompt, &mut observe)?;
    session.truncate(0);
    let device = opened.model.device();
    let capture = args.capture.as_ref().map(|file| device.capture_to(file)).transpose()?;
    let profile = session.profile(&prompt, args.steps, &mut observe)?;
    capture.map(GpuCapture::finish).transpose()?;
    if watch.raised() {
        return Err(Error::Interrupted);
    }
    progress.clear();
    let mut file = OutputFile::create(&args.out)?;
    let trace = serde_json::to_vec(&trace::events(&profile))
        .map_err(|error| Error::file(&args.out, std::io::Error::from(error)))?;
    file.write(&trace)?;
    file.finish()?;
    let bandwidth = bandwidth::measure(device.threads());
    output::print(&Summary::new(&opened, prompt.len(), &profile, bandwidth).to_string())?;
    output::remark(&format!("[{} in {}]", units::bytes(trace.len() as u64), args.out.display()));
    if let Some(file) = &args.capture {
        output::remark(&format!("[captured for Xcode in {}]", file.display()));
    }
    Ok(())
}

/// The tokens to read.
fn prompt(args: &Args, model: &Model, text: Option<String>) -> Result<Vec<u32>> {
    let tokens = match text {
        Some(text) => model.tokenizer()?.encode(&text, true)?,
        None => {
            let fitting = PROMPT.min(model.context().saturating_sub(args.steps)).max(1);
            measure::pattern(model.config().vocab_size, 0, args.tokens.unwrap_or(fitting))
        }
    };
    if tokens.is_empty() {
        return Err(Error::input("prompt", "at least one token", "an empty text"));
    }
    Ok(tokens)
}
