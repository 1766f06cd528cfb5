//! `dacapo bench`: how fast a model runs here, and how close that is to what memory allows.

pub(super) mod bandwidth;
pub(super) mod measure;
mod report;

use crate::args::{RunArgs, number};
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::{open, output};

use measure::{Bench, Kind, Test};
use report::Report;

const EXAMPLES: &str = "\
Examples:
  dacapo bench
  dacapo bench --model model.gguf -p 128,512 -n 64 --depth 0,4096 --repeat 7
  dacapo bench --model ~/models/Qwen3-0.6B-4bit --json > bench.json

pp N is reading a prompt of N tokens, tg N generating N tokens one by one, '@ D' after D tokens that the
session holds already. Speeds are the median of the repetitions after one that is not counted, with the least
and the greatest. Bytes are what generating one token must read at the middle of the test: weights, keys and
values. Memory speed is what plain loops in as many threads read in the same run; a model that fits in the
caches can exceed it. Peak memory is that of the process, before memory speed is measured.";

/// Measure the speed of reading prompts and of generating
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Lengths of prompts to read; 0 for none [default: 512, or what fits the context]
    #[arg(short = 'p', long = "prompts", value_name = "N,...", value_delimiter = ',', value_parser = number(0..=1 << 24))]
    prompts: Vec<usize>,
    /// Numbers of tokens to generate; 0 for none [default: 128, or what fits the context]
    #[arg(short = 'n', long = "tokens", value_name = "N,...", value_delimiter = ',', value_parser = number(0..=1 << 24))]
    tokens: Vec<usize>,
    /// Tokens that the session holds before each test
    #[arg(short = 'd', long, value_name = "N,...", value_delimiter = ',', default_value = "0", value_parser = number(0..=1 << 24))]
    depth: Vec<usize>,
    /// Repetitions of each test
    #[arg(short, long, value_name = "R", default_value = "5", value_parser = number(1..=10_000))]
    repeat: usize,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
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
            "dacapo: built without full optimization: these speeds are not what a release build reaches",
        );
    }
    let opened = open::model(&args.run)?;
    let mut session = opened.model.session()?;
    let tests = tests(args, session.context())?;
    let watch = Watch::start();
    let mut bench = Bench::new(&opened.model, &mut session, &watch, args.repeat);
    let results = tests.iter().map(|test| bench.run(test)).collect::<Result<Vec<_>>>()?;
    let peak_memory = measure::peak_memory();
    let bandwidth = bandwidth::measure(opened.model.device().threads());
    let report = Report::new(&opened, args.repeat, peak_memory, bandwidth, &results);
    if args.json { output::print_json(&report) } else { output::print(&report.to_string()) }
}

/// The tests in the order in which they run; all of them fit the context.
fn tests(args: &Args, context: usize) -> Result<Vec<Test>> {
    let deepest = args.depth.iter().copied().max().unwrap_or(0);
    let fitting = |wanted: usize| vec![wanted.min(context.saturating_sub(deepest + 1))];
    let prompts = if args.prompts.is_empty() { fitting(512) } else { args.prompts.clone() };
    let tokens = if args.tokens.is_empty() { fitting(128) } else { args.tokens.clone() };
    let mut tests = vec![];
    for &depth in &args.depth {
        let kinds = [(Kind::Prompt, &prompts), (Kind::Generation, &tokens)];
        for (kind, lengths) in kinds {
            tests.extend(lengths.iter().filter(|&&n| n > 0).map(|&tokens| Test { kind, tokens, depth }));
        }
    }
    match tests.iter().find(|test| test.positions() > context) {
        Some(test) => {
            let expected = format!("tests that fit the context of {context} tokens");
            Err(Error::input("bench", expected, format!("{test}, which needs {}", test.positions())))
        }
        None if tests.is_empty() => Err(Error::input("bench", "a test to run", "none")),
        None => Ok(tests),
    }
}
