//! Options that several verbs share.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Parser};
use dacapo::DeviceSelect;
use dacapo_lm::{GenerateOptions, Sampling};

use crate::commands::Command;
use crate::error::{Error, Result};

const EXAMPLES: &str = "\
Examples:
  dacapo generate --prompt 'What is 7 + 15?'      the shipped demo model answers
  dacapo generate --raw --prompt 'Once upon a time'
  dacapo chat --model ~/models/Qwen3-0.6B-4bit    talk to a model of your own
  dacapo bench --model model.gguf -p 512 -n 128   how fast is it here?

Exit codes: 0 success, 1 failed run, 2 wrong usage, 130 ended by Ctrl-C.";

/// Run quantized language models on your own machine
#[derive(Debug, Parser)]
#[command(name = "dacapo", version, after_help = EXAMPLES, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// Where the model is.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// Model: an MLX or Hugging Face folder, a .gguf file, a .safetensors file beside its config.json, or a
    /// model of the Hugging Face cache: ORG/NAME, with :QUANT for one of several GGUF files and @REVISION
    /// [default: the shipped demo model]
    #[arg(short, long, value_name = "PATH", help_heading = "Model")]
    pub model: Option<PathBuf>,
}

/// Where to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best there is
    Auto,
    /// The processor
    Cpu,
    /// A GPU through Vulkan
    Vulkan(DeviceSelect),
    /// A GPU through Metal
    Metal(DeviceSelect),
}

/// `auto`, `cpu`, `vulkan`, `vulkan:1` or `vulkan:part of a name`, and the same with `metal`.
pub fn device(text: &str) -> std::result::Result<DeviceChoice, String> {
    let (family, which) = text.split_once(':').map_or((text, None), |(family, which)| (family, Some(which)));
    let select = || match which {
        None => Some(DeviceSelect::Auto),
        Some("") => None,
        Some(which) => {
            Some(which.parse().map_or_else(|_| DeviceSelect::Name(which.to_owned()), DeviceSelect::Index))
        }
    };
    let choice = match (family, which) {
        ("auto", None) => Some(DeviceChoice::Auto),
        ("cpu", None) => Some(DeviceChoice::Cpu),
        ("metal", _) => select().map(DeviceChoice::Metal),
        ("vulkan", _) => select().map(DeviceChoice::Vulkan),
        _ => None,
    };
    choice.ok_or_else(|| {
        "expected auto, cpu, metal or vulkan, the last two alone or with :INDEX or :NAME".into()
    })
}

/// The model and how to run it.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Where to run it: auto, cpu, vulkan or metal, the last two also with :INDEX or :NAME; see `dacapo devices`
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device, help_heading = "Model")]
    pub device: DeviceChoice,
    /// Worker threads [default: one for each core]
    #[arg(short, long, value_name = "T", value_parser = number(1..=1024), help_heading = "Model")]
    pub threads: Option<usize>,
    /// Never quantize activations below F32 inside matrix products: slower, for checking
    #[arg(long, help_heading = "Model")]
    pub exact: bool,
    /// Tokens that a session may hold [default: what the model was made for]
    #[arg(long, value_name = "N", value_parser = number(1..=1 << 31), help_heading = "Model")]
    pub context: Option<usize>,
}

/// How tokens are chosen, and when to stop.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// End after this many tokens [default: when the model ends, or the context is full]
    #[arg(short = 'n', long, value_name = "N", value_parser = number(1..=1 << 31), help_heading = "Sampling")]
    pub max_tokens: Option<usize>,
    /// 0 takes the likeliest token every time, so that a run can be repeated and compared on any machine;
    /// try 0.7 for variety. At 0, the options top-k, top-p, min-p and seed have no effect
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = at_least_zero, help_heading = "Sampling")]
    pub temperature: f32,
    /// Choose among the K likeliest tokens; 0 is all
    #[arg(long, value_name = "K", default_value_t = 0, help_heading = "Sampling")]
    pub top_k: usize,
    /// Choose among the likeliest tokens that together have probability P
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = share, help_heading = "Sampling")]
    pub top_p: f32,
    /// Choose among tokens that have at least P times the likeliest one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = share, help_heading = "Sampling")]
    pub min_p: f32,
    /// Seed of the choice: a number, or "random" for another one every time (--json says which)
    #[arg(long, value_name = "S", default_value = "0", value_parser = seed, help_heading = "Sampling")]
    pub seed: u64,
    /// Divide the positive scores of tokens that have occurred by this, and multiply the negative ones; 1 is off
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = above_zero, help_heading = "Sampling")]
    pub repetition_penalty: f32,
    /// Lower the scores of generated tokens by this for each time they occurred
    #[arg(
        long,
        value_name = "F",
        default_value_t = 0.0,
        value_parser = finite,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub frequency_penalty: f32,
    /// Lower the scores of generated tokens by this once
    #[arg(
        long,
        value_name = "F",
        default_value_t = 0.0,
        value_parser = finite,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub presence_penalty: f32,
    /// Add V to the score of token ID; -inf forbids it. May be given several times
    #[arg(long, value_name = "ID=V", value_parser = bias, help_heading = "Sampling")]
    pub logit_bias: Vec<(u32, f32)>,
    /// End before this text, which is not printed. May be given several times
    #[arg(long, value_name = "TEXT", value_parser = non_empty, help_heading = "Sampling")]
    pub stop: Vec<String>,
    /// Go on where the model would end
    #[arg(long, help_heading = "Sampling")]
    pub ignore_eos: bool,
}

impl SamplingArgs {
    /// The library's options, for a model with `vocabulary` tokens.
    ///
    /// # Errors
    /// [`Error::Input`] if a bias is for a token that there is not.
    pub fn options(&self, vocabulary: usize) -> Result<GenerateOptions> {
        let ids = self.logit_bias.iter().map(|&(id, _)| id).collect::<Vec<_>>();
        check_ids("--logit-bias", &ids, vocabulary)?;
        Ok(GenerateOptions {
            max_tokens: self.max_tokens,
            sampling: Sampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                frequency_penalty: self.frequency_penalty,
                presence_penalty: self.presence_penalty,
                seed: self.seed,
                logit_bias: self.logit_bias.clone(),
            },
            stop: self.stop.clone(),
            ignore_eos: self.ignore_eos,
        })
    }
}

/// A text given in one of three ways.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PromptArgs {
    /// The text; "-" reads standard input
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// The text, which may start with a hyphen here; "-" reads standard input
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Read the text from a file. As with standard input, a final line break is not part of it
    #[arg(short = 'f', long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
}

impl PromptArgs {
    /// The text.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Input`] if it cannot be read or is not UTF-8.
    pub fn read(&self) -> Result<String> {
        let mut text = match (self.prompt.as_deref().or(self.text.as_deref()), &self.prompt_file) {
            (_, Some(path)) => read_file(path)?,
            (Some("-"), None) => read_stdin()?,
            (text, None) => return Ok(text.unwrap_or_default().to_string()),
        };
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }
}

/// A file's text.
///
/// # Errors
/// [`Error::Io`] or [`Error::Input`] if it cannot be read or is not UTF-8.
pub fn read_file(path: &Path) -> Result<String> {
    utf8(path.display(), std::fs::read(path).map_err(|error| Error::file(path, error))?)
}

/// The text on standard input.
///
/// # Errors
/// [`Error::Io`] or [`Error::Input`] if it cannot be read or is not UTF-8.
pub fn read_stdin() -> Result<String> {
    let mut bytes = vec![];
    let name = "standard input";
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Io { name: name.to_string(), source })?;
    utf8(name, bytes)
}

fn utf8(name: impl std::fmt::Display, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::input(name, "UTF-8 text", format!("byte 0x{:02x} at offset {at}", error.as_bytes()[at]))
    })
}

/// Refuses token ids that a model with `vocabulary` tokens does not have.
///
/// # Errors
/// [`Error::Input`] naming the first such id.
pub fn check_ids(subject: &str, ids: &[u32], vocabulary: usize) -> Result<()> {
    match ids.iter().find(|&&id| id as usize >= vocabulary) {
        None => Ok(()),
        Some(id) => Err(Error::input(subject, format!("token ids below {vocabulary}"), id)),
    }
}

/// A parser of counts in a range.
pub fn number(
    range: std::ops::RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse::<u64>() {
        Ok(value) if range.contains(&value) => Ok(value as usize),
        _ => Err(format!("expected a number from {} to {}", range.start(), range.end())),
    }
}

fn float(text: &str, expected: &str, allowed: impl Fn(f32) -> bool) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if allowed(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

fn finite(text: &str) -> Result<f32, String> {
    float(text, "a number", f32::is_finite)
}

fn at_least_zero(text: &str) -> Result<f32, String> {
    float(text, "a number that is not negative", |v| v.is_finite() && v >= 0.0)
}

fn above_zero(text: &str) -> Result<f32, String> {
    float(text, "a number above 0", |v| v.is_finite() && v > 0.0)
}

fn share(text: &str) -> Result<f32, String> {
    float(text, "a number from 0 to 1", |v| (0.0..=1.0).contains(&v))
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected some text".into()) } else { Ok(text.to_string()) }
}

fn seed(text: &str) -> Result<u64, String> {
    if text == "random" {
        // A new hasher's keys come from the system's random numbers.
        use std::hash::{BuildHasher, Hasher, RandomState};
        return Ok(RandomState::new().build_hasher().finish());
    }
    text.parse().map_err(|_| format!("expected a number from 0 to {} or \"random\"", u64::MAX))
}

fn bias(text: &str) -> Result<(u32, f32), String> {
    let parse = |(id, value): (&str, &str)| {
        let value = value.parse::<f32>().ok().filter(|v| !v.is_nan() && *v != f32::INFINITY)?;
        Some((id.parse().ok()?, value))
    };
    text.split_once('=').and_then(parse).ok_or_else(|| "expected a token id, '=' and a number".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn values_outside_their_range_are_refused() {
        assert!(at_least_zero("-0.1").is_err());
        assert!(at_least_zero("nan").is_err());
        assert!(at_least_zero("inf").is_err());
        assert!(above_zero("0").is_err());
        assert!(share("1.01").is_err());
        assert_eq!(share("1"), Ok(1.0));
        assert!(number(1..=4)("5").is_err());
        assert_eq!(number(1..=4)("4"), Ok(4));
        assert!(non_empty("").is_err());
    }

    #[test]
    fn a_bias_is_an_id_and_a_number() {
        assert_eq!(bias("7=-2.5"), Ok((7, -2.5)));
        assert_eq!(bias("7=-inf"), Ok((7, f32::NEG_INFINITY)));
        for wrong in ["7", "7=", "=1", "-7=1", "7=nan", "7=inf", "x=1"] {
            assert!(bias(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_seed_is_a_number_or_random() {
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        assert!(seed("-1").is_err());
        assert_ne!(seed("random"), seed("random"));
    }
}
