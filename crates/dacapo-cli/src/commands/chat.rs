//! `dacapo chat`: a conversation in the terminal.

use std::io::{BufRead, IsTerminal};

use dacapo_lm::{ChatTemplate, FinishReason, GenerateOptions, Generation, Model, Session};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::args::{RunArgs, SamplingArgs};
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::{open, output, stream, units};

const EXAMPLES: &str = "\
Examples:
  dacapo chat
  dacapo chat --model ~/models/Qwen3-0.6B-4bit --system 'Answer in one sentence.' --temperature 0.7
  printf 'What is 7 + 15?\\nAnd plus 3?\\n' | dacapo chat    a turn for each line

Ctrl-C stops the answer, not the program; Ctrl-D or /quit ends it.";

const HELP: &str = "\
/reset   forget the conversation
/stats   what the last answer and the memory took
/help    this list
/quit    end (or Ctrl-D)
Ctrl-C stops an answer. What is typed goes to the model, unless it is one of these.";

/// Talk to a model, turn by turn
///
/// When standard input is not a terminal, each line of it is a turn, and each answer is followed by a line
/// break.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A system message at the start of the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

/// Runs the verb.
///
/// # Errors
/// What made the run fail. At a terminal, an answer that fails is reported and the conversation goes on.
pub fn run(args: &Args) -> Result<()> {
    let opened = open::model(&args.run)?;
    let Some(template) = opened.model.chat_template()? else {
        let expected = "a model with a chat template (dacapo generate --raw needs none)";
        return Err(Error::input(&opened.name, expected, "one without"));
    };
    let options = args.sampling.options(opened.model.config().vocab_size)?;
    let mut chat = Chat {
        model: &opened.model,
        template,
        session: opened.model.session()?,
        options,
        system: args.system.as_deref(),
        conversation: Conversation::new(args.system.as_deref()),
        last: None,
    };
    let mut input = Input::open()?;
    output::remark(&format!("{}: /help lists the commands.", opened.name));
    while let Some(line) = input.next()? {
        match line.trim() {
            "" => {}
            "/quit" | "/exit" => break,
            "/help" => output::message(HELP),
            "/reset" => chat.reset(),
            "/stats" => output::message(&chat.statistics()),
            text => match chat.turn(text) {
                // A person can say something shorter, or start again; a script cannot.
                Err(error @ (Error::Model(_) | Error::Engine(_))) if input.interactive() => {
                    output::message(&error.line().unwrap_or_default());
                }
                other => other?,
            },
        }
    }
    Ok(())
}

/// A conversation and the session that holds its tokens.
struct Chat<'a> {
    model: &'a Model,
    template: &'a ChatTemplate,
    session: Session,
    options: GenerateOptions,
    system: Option<&'a str>,
    conversation: Conversation,
    last: Option<Generation>,
}

impl Chat<'_> {
    /// A user's message and the model's answer. If there is none, the message is taken back.
    fn turn(&mut self, text: &str) -> Result<()> {
        self.conversation.push("user", text);
        let generation = match self.answer() {
            Ok(generation) => generation,
            Err(error) => {
                self.conversation.pop();
                return Err(error);
            }
        };
        output::print("\n")?;
        if generation.finish == FinishReason::ContextFull {
            output::message("dacapo: the context is full; /reset starts again");
        }
        self.conversation.push("assistant", &generation.text);
        self.last = Some(generation);
        Ok(())
    }

    fn answer(&mut self) -> Result<Generation> {
        let tokens = self.conversation.encode(self.template, self.model.tokenizer()?)?;
        let watch = Watch::start();
        stream::generate(&mut self.session, &tokens, &self.options, &watch, &mut stream::to_stdout)
    }

    fn reset(&mut self) {
        self.conversation = Conversation::new(self.system);
        self.session.truncate(0);
        self.last = None;
    }

    fn statistics(&self) -> String {
        let held = self.session.tokens().len();
        let footprint = self.model.footprint();
        let memory = held as u64 * footprint.kv_bytes_per_position + footprint.state_bytes;
        let context = format!(
            "context: {held} of {} tokens, {} of keys and values",
            self.session.context(),
            units::bytes(memory)
        );
        match &self.last {
            Some(generation) => format!("{}\n{context}", stream::statistics(generation)),
            None => context,
        }
    }
}

/// Where turns come from.
enum Input {
    Terminal(Box<DefaultEditor>),
    Lines(std::io::Lines<std::io::StdinLock<'static>>),
}

impl Input {
    fn open() -> Result<Self> {
        if !std::io::stdin().is_terminal() {
            return Ok(Input::Lines(std::io::stdin().lock().lines()));
        }
        Ok(Input::Terminal(Box::new(DefaultEditor::new().map_err(editor_error)?)))
    }

    fn interactive(&self) -> bool {
        matches!(self, Input::Terminal(_))
    }

    /// The next line; `None` at the end. Ctrl-C empties the line.
    fn next(&mut self) -> Result<Option<String>> {
        let editor = match self {
            Input::Lines(lines) => {
                let line = lines.next().transpose();
                return line.map_err(|source| Error::Io { name: "standard input".into(), source });
            }
            Input::Terminal(editor) => editor,
        };
        loop {
            match editor.readline("> ") {
                Ok(line) => {
                    // Without memory for its history, a line can still be answered.
                    let _ = editor.add_history_entry(line.as_str());
                    return Ok(Some(line));
                }
                Err(ReadlineError::Interrupted) => {}
                Err(ReadlineError::Eof) => return Ok(None),
                Err(error) => return Err(editor_error(error)),
            }
        }
    }
}

fn editor_error(error: ReadlineError) -> Error {
    let source = match error {
        ReadlineError::Io(source) => source,
        other => std::io::Error::other(other.to_string()),
    };
    Error::Io { name: "terminal".into(), source }
}
