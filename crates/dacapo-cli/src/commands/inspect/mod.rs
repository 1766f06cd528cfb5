//! `dacapo inspect`: what a checkpoint holds, without loading it.

mod report;
mod weights;

use dacapo_lm::{ChatTemplate, Tokenizer};

use crate::args::SourceArgs;
use crate::error::Result;
use crate::{open, output};

use report::Report;

const EXAMPLES: &str = "\
Examples:
  dacapo inspect --model ~/models/Qwen3-0.6B-4bit
  dacapo inspect --model model.gguf --tensors
  dacapo inspect --json | jq .bits_per_weight";

/// Show a model's architecture, quantization, sizes and tensors
///
/// Reads only headers and configuration, so that it is quick for models of any size.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// List every tensor
    #[arg(long)]
    tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the verb.
///
/// # Errors
/// Those of the checkpoint and its configuration. A tokenizer or template that is missing or broken is part of
/// the report instead.
pub fn run(args: &Args) -> Result<()> {
    let checkpoint = open::checkpoint(&args.source)?;
    let config = checkpoint.model_config()?;
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint);
    let template = ChatTemplate::from_checkpoint(&checkpoint);
    let report = Report::new(
        open::name(&args.source),
        &checkpoint,
        &config,
        tokenizer.as_ref().map_err(ToString::to_string),
        template.as_ref().map(Option::is_some).map_err(ToString::to_string),
        args.tensors,
    );
    if args.json { output::print_json(&report) } else { output::print(&report.to_string()) }
}
