//! `dacapo logits`: a model's scores for every next token, at every position of a text.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dacapo_lm::{Model, Session};

use crate::args::{RunArgs, check_ids, number, read_file, read_stdin};
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::output::OutputFile;
use crate::progress::{Progress, Unit};
use crate::{open, output, units};

const EXAMPLES: &str = "\
Examples:
  dacapo logits --prompt 'Once upon a time' --out logits.safetensors
  dacapo logits --model model.gguf --tokens 1,2,3 --exact --out logits.safetensors

The file holds \"logits\", F32 [positions, vocabulary], and \"tokens\", I32 [positions]: row i scores what
follows token i.";

/// Write a model's logits at every position of a text to a safetensors file
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// Put the text through the model's chat template, as a user's message that awaits an answer
    #[arg(long, conflicts_with = "tokens")]
    chat: bool,
    /// The file to write; it appears only when it is complete
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct InputArgs {
    /// The text; "-" reads standard input
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<String>,
    /// Read the text from a file, all of it
    #[arg(short = 'f', long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Token ids instead of a text
    #[arg(long, value_name = "ID,...", value_delimiter = ',', value_parser = number(0..=u32::MAX.into()))]
    tokens: Vec<usize>,
}

/// Runs the verb.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, and what made the run fail.
pub fn run(args: &Args) -> Result<()> {
    let text = match (&args.input.prompt, &args.input.prompt_file) {
        (Some(text), _) if text == "-" => Some(read_stdin()?),
        (Some(text), _) => Some(text.clone()),
        (None, Some(path)) => Some(read_file(path)?),
        (None, None) => None,
    };
    let opened = open::model(&args.run)?;
    let vocabulary = opened.model.config().vocab_size;
    let tokens = match text {
        Some(text) => encode(&opened.model, &text, args.chat)?,
        // The parser has let only 32-bit numbers through.
        None => args.input.tokens.iter().map(|&id| id as u32).collect(),
    };
    if tokens.is_empty() {
        return Err(Error::input("prompt", "at least one token", "an empty text"));
    }
    check_ids("--tokens", &tokens, vocabulary)?;
    let mut session = opened.model.session()?;
    if tokens.len() > session.context() {
        let (tokens, context) = (tokens.len(), session.context());
        return Err(dacapo_lm::Error::PromptTooLong { tokens, context }.into());
    }
    let started = Instant::now();
    write(&args.out, &mut session, &tokens, vocabulary)?;
    let rate = units::rate(tokens.len(), started.elapsed()).unwrap_or_default();
    output::remark(&format!(
        "[{} positions at {} t/s, {} in {}]",
        tokens.len(),
        units::digits(rate),
        units::bytes(4 * (tokens.len() * (vocabulary + 1)) as u64),
        args.out.display()
    ));
    Ok(())
}

fn encode(model: &Model, text: &str, chat: bool) -> Result<Vec<u32>> {
    if !chat {
        return Ok(model.tokenizer()?.encode(text, true)?);
    }
    let Some(template) = model.chat_template()? else {
        return Err(Error::input("--chat", "a model with a chat template", "one without"));
    };
    let mut conversation = Conversation::default();
    conversation.push("user", text);
    conversation.encode(template, model.tokenizer()?)
}

/// Computes the logits and writes them row by row, so that memory does not grow with the text.
fn write(path: &Path, session: &mut Session, tokens: &[u32], vocabulary: usize) -> Result<()> {
    let mut file = OutputFile::create(path)?;
    file.write(&header(tokens.len(), vocabulary))?;
    for &token in tokens {
        file.write(&token.to_le_bytes())?;
    }
    let watch = Watch::start();
    let mut progress = Progress::new("computing logits", Unit::Tokens);
    let mut row_bytes = Vec::with_capacity(4 * vocabulary);
    let mut outcome = Ok(());
    session.logits(tokens, &mut |index, row| {
        row_bytes.clear();
        row_bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        outcome = if watch.raised() { Err(Error::Interrupted) } else { file.write(&row_bytes) };
        progress.update(index as u64 + 1, tokens.len() as u64);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome?;
    file.finish()
}

/// The start of the file: the header's length, then the header, padded so that the data is aligned. As in the
/// safetensors format of Hugging Face.
fn header(positions: usize, vocabulary: usize) -> Vec<u8> {
    let tokens_end = 4 * positions;
    let logits_end = tokens_end + 4 * positions * vocabulary;
    let mut text = serde_json::json!({
        "tokens": {"dtype": "I32", "shape": [positions], "data_offsets": [0, tokens_end]},
        "logits": {"dtype": "F32", "shape": [positions, vocabulary], "data_offsets": [tokens_end, logits_end]},
    })
    .to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    bytes
}
