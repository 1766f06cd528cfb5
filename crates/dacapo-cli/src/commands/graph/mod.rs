//! `dacapo graph`: a forward pass as a picture.

mod dot;
mod html;
mod picture;
mod svg;

use std::path::PathBuf;

use clap::ValueEnum;
use dacapo::{ComputeGraph, GraphOptions, ScheduleOptions, Strategy};
use dacapo_lm::Stage;

use crate::args::{RunArgs, number};
use crate::error::{Error, Result};
use crate::output::OutputFile;
use crate::{open, output};

use picture::{Origin, Picture};

const EXAMPLES: &str = "\
Examples:
  dacapo graph --out decode.svg                   a step of the demo model
  dacapo graph --format html --out graph.html     recorded and optimized, side by side
  dacapo graph --model model.gguf --stage prefill --length 512 --format json | jq .report

Every row of a picture is a group of operations that run beside each other; between two rows lies a barrier.";

/// Context of a decode step, and tokens of a prefill, if nothing else is asked for.
const LENGTH: usize = 128;

/// Draw a model's forward pass: operations, barrier groups, what waits for what
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which pass
    #[arg(long, value_enum, default_value = "decode")]
    stage: StageChoice,
    /// Tokens of a prefill, or the context's length after a decode step [default: 128, or the context if that
    /// is shorter]
    #[arg(long, value_name = "N", value_parser = number(1..=1 << 31))]
    length: Option<usize>,
    /// The pass as it was recorded, with the barriers that this order needs. HTML shows both anyway
    #[arg(long)]
    before: bool,
    /// What to write
    #[arg(long, value_enum, default_value = "svg")]
    format: Format,
    /// The file to write; it appears only when it is complete [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// A pass over a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StageChoice {
    /// Reading a prompt
    Prefill,
    /// Making one token
    Decode,
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A picture
    Svg,
    /// A graph for Graphviz
    Dot,
    /// Report and operations as one object
    Json,
    /// A page with the pass before and after optimizing
    Html,
}

/// Runs the verb.
///
/// # Errors
/// What keeps the model from being loaded, the pass from being recorded or the result from being written.
pub fn run(args: &Args) -> Result<()> {
    let opened = open::model(&args.run)?;
    let model = &opened.model;
    let length = args.length.unwrap_or_else(|| LENGTH.min(model.context()));
    let (stage, stage_name) = match args.stage {
        StageChoice::Prefill => (Stage::Prefill, "prefill"),
        StageChoice::Decode => (Stage::Decode, "decode"),
    };
    let recorded = model.graph(stage, length)?;
    let draw = |before: bool| -> Result<Picture> {
        let order = if before { "recorded" } else { "optimized" };
        let origin = Origin { model: opened.name.clone(), stage: stage_name, length, order };
        arrange(model.device(), &recorded, before, origin)
    };
    let text = match args.format {
        Format::Svg => svg::write(&draw(args.before)?),
        Format::Dot => dot::write(&draw(args.before)?),
        Format::Json => json(&draw(args.before)?)?,
        Format::Html => html::write(&draw(true)?, &draw(false)?),
    };
    match &args.out {
        None => output::print(&text),
        Some(path) => {
            let mut file = OutputFile::create(path)?;
            file.write(text.as_bytes())?;
            file.finish()
        }
    }
}

/// Puts the recorded pass through the passes that a run uses, or, for the picture before, keeps its order and only
/// finds the groups that a barrier at every hazard leaves.
fn arrange(
    device: &dacapo::Device,
    recorded: &ComputeGraph,
    before: bool,
    origin: Origin,
) -> Result<Picture> {
    let mut options = dacapo_lm::graph_options();
    if before {
        let keep = ScheduleOptions::from(Strategy::Recorded);
        options = GraphOptions { reorder: Some(keep), ..GraphOptions::recorded() };
    }
    let (graph, reports) = recorded.optimize(device, &options)?;
    Ok(Picture::new(origin, &graph, &reports))
}

fn json(picture: &Picture) -> Result<String> {
    let text = serde_json::to_string_pretty(picture)
        .map_err(|error| Error::Io { name: "JSON".into(), source: error.into() })?;
    Ok(text + "\n")
}
