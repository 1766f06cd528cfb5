//! `dacapo embed`: texts to vectors.

use std::path::PathBuf;

use clap::ValueEnum;
use dacapo_lm::{EmbedOptions, Pooling};

use crate::args::{RunArgs, read_file, read_stdin};
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::{open, output};

const EXAMPLES: &str = "\
Examples:
  dacapo embed --model ~/models/all-MiniLM-L6-v2 'A text.' 'Another one.'
  dacapo embed --model Qwen3-Embedding-0.6B-Q8_0.gguf --prompt-file texts.txt > vectors.jsonl
  dacapo embed --model model.gguf --format plain - < texts.txt

A line of output for each text, in order: an object with \"index\", \"tokens\" and \"embedding\", or with --format plain
the numbers of the vector.";

/// Turn texts into vectors, one line for each
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// How the states of a text's tokens become one vector [default: what the model says]
    #[arg(long, value_name = "HOW")]
    pooling: Option<PoolingChoice>,
    /// Leave vectors as long as they are; otherwise they get a length of 1
    #[arg(long)]
    no_normalize: bool,
    /// What the lines are
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: Format,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct InputArgs {
    /// The texts; a single "-" reads them from standard input, one on each line
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// Read the texts from a file, one on each line
    #[arg(short = 'f', long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
}

impl InputArgs {
    fn read(&self) -> Result<Vec<String>> {
        let lines = |text: String| text.lines().map(str::to_owned).collect();
        match (&self.prompt_file, self.texts.as_slice()) {
            (Some(path), _) => Ok(lines(read_file(path)?)),
            (None, [text]) if text == "-" => Ok(lines(read_stdin()?)),
            (None, texts) => Ok(texts.to_vec()),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PoolingChoice {
    /// The mean of all tokens
    Mean,
    /// The first token
    Cls,
    /// The last token
    Last,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// An object on each line
    Json,
    /// Numbers separated by spaces
    Plain,
}

/// Runs the verb.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, and what made the run fail.
pub fn run(args: &Args) -> Result<()> {
    let texts = args.input.read()?;
    let opened = open::model(&args.run)?;
    let pooling = args.pooling.map(|choice| match choice {
        PoolingChoice::Mean => Pooling::Mean,
        PoolingChoice::Cls => Pooling::Cls,
        PoolingChoice::Last => Pooling::Last,
    });
    let options = EmbedOptions { pooling, normalize: !args.no_normalize };
    let mut embedder = opened.model.embedder(&options)?;
    let watch = Watch::start();
    for (index, text) in texts.iter().enumerate() {
        if watch.raised() {
            return Err(Error::Interrupted);
        }
        let tokens = opened.model.tokenizer()?.encode(text, true)?;
        if tokens.is_empty() {
            let what = format!("text {index}");
            return Err(Error::input(what, "at least one token", "an empty text"));
        }
        let embedding = embedder.embed_tokens(&tokens)?;
        let line = Line { index, tokens: tokens.len(), embedding: &embedding };
        output::print(&line.text(args.format))?;
    }
    Ok(())
}

/// What there is to say of a text.
#[derive(Debug, serde::Serialize)]
struct Line<'a> {
    /// Place among the texts.
    index: usize,
    /// Tokens of the text.
    tokens: usize,
    embedding: &'a [f32],
}

impl Line<'_> {
    fn text(&self, format: Format) -> String {
        let mut line = match format {
            // Numbers that are finite are JSON.
            Format::Json => serde_json::to_string(self).unwrap_or_default(),
            Format::Plain => self.embedding.iter().map(f32::to_string).collect::<Vec<_>>().join(" "),
        };
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_all_digits() {
        let vector = [0.1f32, -1.5e-9, 3.0];
        let line = Line { index: 4, tokens: 2, embedding: &vector };
        let plain = line.text(Format::Plain);
        let numbers: Vec<f32> = plain.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers, vector);
        let json = line.text(Format::Json);
        assert_eq!(json, "{\"index\":4,\"tokens\":2,\"embedding\":[0.1,-1.5e-9,3.0]}\n");
    }
}
