//! `dacapo generate`: text from a prompt.

use dacapo_lm::{FinishReason, Generation, Model};
use serde::Serialize;

use crate::args::{PromptArgs, RunArgs, SamplingArgs};
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::open::{self, Opened};
use crate::{output, stream};

const EXAMPLES: &str = "\
Examples:
  dacapo generate --prompt 'What is 7 + 15?'
  dacapo generate --raw --prompt 'Once upon a time' --max-tokens 100
  dacapo generate --model ~/models/Qwen3-0.6B-4bit --prompt-file question.txt --temperature 0.7
  git diff | dacapo generate --model model.gguf --system 'Write a commit message.' -
  dacapo generate --prompt 'Tell me a story.' --json | jq -r .text

Only the generated text goes to standard output, as it comes. Ctrl-C ends it early (exit code 130).";

/// Generate text from a prompt
///
/// The prompt goes through the model's chat template as a user's message, unless --raw is given or the model
/// has no template.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Continue the prompt as it stands, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// A system message before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Print one JSON object at the end instead of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    text: &'a str,
    tokens: &'a [u32],
    finish_reason: &'a str,
    prompt_tokens: usize,
    cached_tokens: usize,
    generated_tokens: usize,
    times: Times,
    prefill_tokens_per_second: Option<f64>,
    decode_tokens_per_second: Option<f64>,
    seed: u64,
    model: &'a str,
    device: &'a str,
    threads: usize,
}

#[derive(Debug, Serialize)]
struct Times {
    load_s: f64,
    prefill_s: f64,
    decode_s: f64,
}

/// Runs the verb.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C, and what made the run fail.
pub fn run(args: &Args) -> Result<()> {
    let prompt = args.prompt.read()?;
    let opened = open::model(&args.run)?;
    let options = args.sampling.options(opened.model.config().vocab_size)?;
    let tokens = encode(args, &opened.model, &prompt)?;
    let mut session = opened.model.session()?;
    let watch = Watch::start();
    let mut discard = |_: &str| Ok(());
    let mut show = stream::to_stdout;
    let sink: &mut dyn FnMut(&str) -> Result<()> = if args.json { &mut discard } else { &mut show };
    let generation = stream::generate(&mut session, &tokens, &options, &watch, sink)?;
    if args.json {
        report(&opened, &generation, args.sampling.seed)?;
    } else {
        output::end_text(&generation.text)?;
    }
    stream::closing_line(&generation);
    match generation.finish {
        FinishReason::Cancelled => Err(Error::Interrupted),
        _ => Ok(()),
    }
}

fn encode(args: &Args, model: &Model, prompt: &str) -> Result<Vec<u32>> {
    let tokens = match model.chat_template()?.filter(|_| !args.raw) {
        Some(template) => {
            let mut conversation = Conversation::new(args.system.as_deref());
            conversation.push("user", prompt);
            conversation.encode(template, model.tokenizer()?)?
        }
        None if args.system.is_some() => {
            return Err(Error::input("--system", "a model with a chat template", "one without"));
        }
        None => model.tokenizer()?.encode(prompt, true)?,
    };
    if tokens.is_empty() {
        return Err(Error::input("prompt", "at least one token", "an empty text"));
    }
    Ok(tokens)
}

fn report(opened: &Opened, generation: &Generation, seed: u64) -> Result<()> {
    let info = opened.model.device().info();
    output::print_json(&Report {
        text: &generation.text,
        tokens: &generation.tokens,
        finish_reason: generation.finish.name(),
        prompt_tokens: generation.prompt_tokens,
        cached_tokens: generation.cached_tokens,
        generated_tokens: generation.tokens.len(),
        times: Times {
            load_s: opened.load.as_secs_f64(),
            prefill_s: generation.prefill.as_secs_f64(),
            decode_s: generation.decode.as_secs_f64(),
        },
        prefill_tokens_per_second: stream::prefill_rate(generation),
        decode_tokens_per_second: stream::decode_rate(generation),
        seed,
        model: &opened.name,
        device: info.backend.name(),
        threads: info.threads,
    })
}
