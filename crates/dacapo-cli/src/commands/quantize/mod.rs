//! `dacapo quantize`: a checkpoint with fewer bits for each weight.

mod measure;

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::ValueEnum;
use dacapo_lm::Checkpoint;
use dacapo_lm::convert::{Converted, Mix, Target, convert};
use serde::Serialize;

use crate::args::{DeviceChoice, device, number};
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::progress::{Progress, Unit};
use crate::{hub, output, units};

const EXAMPLES: &str = "\
Examples:
  dacapo quantize ~/models/Qwen3-0.6B qwen3-4bit --bits 4           an MLX folder
  dacapo quantize ~/models/Qwen3-0.6B qwen3.gguf --type Q4_K_M      a GGUF file
  dacapo quantize model-bf16.gguf model-6bit --bits 6 --group 32 --measure

From any checkpoint that can be run. A type by itself is for all weights; Q3_K_S, Q3_K_M, Q3_K_L, Q4_K_S, Q4_K_M, Q5_K_S
and Q5_K_M give important ones more bits, as llama.cpp does. MXFP4_MOE has experts in 4-bit floats, as gpt-oss is published,
and the rest in Q8_0.";

/// How codes become weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// A scale and a bias for each group
    Affine,
}

/// Quantize a checkpoint: to an MLX folder with --bits, to a GGUF file with --type
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group(clap::ArgGroup::new("target").required(true).args(["bits", "gguf_type"])))]
pub struct Args {
    /// The checkpoint: a folder, a file, or a name, as with --model of other verbs
    #[arg(value_name = "IN")]
    source: PathBuf,
    /// What to write: a folder with --bits, a file with --type
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Bits of a weight in an MLX folder: 2, 3, 4, 5, 6 or 8
    #[arg(short, long, value_name = "B", value_parser = number(2..=8))]
    bits: Option<usize>,
    /// Weights that share a scale: 32, 64 or 128 [default: 64]
    #[arg(short, long, value_name = "G", value_parser = number(32..=128), conflicts_with = "gguf_type")]
    group: Option<usize>,
    /// How the codes of an MLX folder become weights
    #[arg(long, value_enum, conflicts_with = "gguf_type")]
    mode: Option<Mode>,
    /// Type of the weights in a GGUF file, such as Q8_0, Q4_K_M or F16
    #[arg(short = 't', long = "type", value_name = "TYPE", value_parser = str::parse::<Mix>)]
    gguf_type: Option<Mix>,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Run both models over a text, and say how far they are apart. Without a FILE, the text is a short built-in one
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    measure: Option<Option<PathBuf>>,
    /// Where to measure: as with `dacapo generate`
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device, requires = "measure")]
    device: DeviceChoice,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    out: String,
    bytes: u64,
    tensor_bytes: u64,
    parameters: u64,
    bits_per_weight: f64,
    source_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<measure::Measured>,
}

/// Runs the verb.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, and what made the run fail.
pub fn run(args: &Args) -> Result<()> {
    let target = match (args.gguf_type, args.bits) {
        (Some(mix), _) => Target::Gguf(mix),
        (None, bits) => Target::Mlx { bits: bits.unwrap_or(4) as u8, group: args.group.unwrap_or(64) as u8 },
    };
    // What cannot be read should not be found out after an hour.
    let text = args.measure.as_ref().map(|file| measure::text(file.as_deref())).transpose()?;
    let checkpoint = Checkpoint::open(hub::find(&args.source)?)?;
    let converted = write(&checkpoint, args, target)?;
    let measured = text.map(|text| measure::run(args, &checkpoint, &text)).transpose()?;
    let report = Report {
        out: args.out.display().to_string(),
        bytes: converted.bytes,
        tensor_bytes: converted.tensor_bytes,
        parameters: converted.parameters,
        bits_per_weight: converted.bits_per_weight(),
        source_bytes: checkpoint.tensors().iter().map(|tensor| tensor.len as u64).sum(),
        measured,
    };
    if args.json {
        return output::print_json(&report);
    }
    output::print(&format!(
        "{}: {}, {:.2} bits for a parameter ({} of tensors before, {} now)\n",
        report.out,
        units::bytes(report.bytes),
        report.bits_per_weight,
        units::bytes(report.source_bytes),
        units::bytes(report.tensor_bytes),
    ))?;
    match &report.measured {
        Some(measured) => output::print(&measured.to_string()),
        None => Ok(()),
    }
}

fn write(checkpoint: &Checkpoint, args: &Args, target: Target) -> Result<Converted> {
    let watch = Watch::start();
    let mut progress = Progress::new("quantizing", Unit::Bytes);
    let converted = convert(checkpoint, &args.out, target, args.force, &mut |done, total| {
        progress.update(done, total);
        if watch.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.clear();
    match converted {
        Err(dacapo_lm::Error::Exists { path, replaceable: true }) => {
            Err(Error::input(path.display(), "nothing, or --force", "a checkpoint"))
        }
        other => other?.ok_or(Error::Interrupted),
    }
}
