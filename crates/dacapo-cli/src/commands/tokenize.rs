//! `dacapo tokenize`: text to token ids and back.

use dacapo_lm::{ChatTemplate, Tokenizer};

use crate::args::{PromptArgs, SourceArgs, check_ids};
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::{open, output};

const EXAMPLES: &str = "\
Examples:
  dacapo tokenize 'Once upon a time'
  dacapo tokenize --chat 'What is 7 + 15?'        with everything that the chat template adds
  dacapo tokenize 'Once upon a time' | dacapo tokenize --decode -";

/// Turn text into token ids, on one line, or token ids into text
///
/// With --decode, TEXT is token ids, separated by spaces or commas.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Put the text through the model's chat template, as a user's message that awaits an answer
    #[arg(long)]
    chat: bool,
    /// Leave out the tokens that the model's tokenizer puts around a text by itself
    #[arg(long, conflicts_with = "chat")]
    no_special: bool,
    /// The way back: the text of token ids, special tokens included
    #[arg(long, conflicts_with_all = ["chat", "no_special"])]
    decode: bool,
    /// With --decode, leave out special tokens
    #[arg(long, requires = "decode")]
    skip_special: bool,
    #[command(flatten)]
    source: SourceArgs,
}

/// Runs the verb.
///
/// # Errors
/// What made the run fail.
pub fn run(args: &Args) -> Result<()> {
    let text = args.prompt.read()?;
    let checkpoint = open::checkpoint(&args.source)?;
    let tokenizer = Tokenizer::from_checkpoint(&checkpoint)?;
    if args.decode {
        let ids = parse_ids(&text)?;
        check_ids("ids", &ids, tokenizer.vocab_size())?;
        let text = tokenizer.decode(&ids, args.skip_special);
        output::print(&text)?;
        return output::end_text(&text);
    }
    let ids = if args.chat {
        let Some(template) = ChatTemplate::from_checkpoint(&checkpoint)? else {
            return Err(Error::input("--chat", "a model with a chat template", "one without"));
        };
        let mut conversation = Conversation::default();
        conversation.push("user", &text);
        conversation.encode(&template, &tokenizer)?
    } else {
        tokenizer.encode(&text, !args.no_special)?
    };
    let ids = ids.iter().map(u32::to_string).collect::<Vec<_>>();
    output::print(&(ids.join(" ") + "\n"))
}

/// Ids separated by spaces, line breaks or commas.
fn parse_ids(text: &str) -> Result<Vec<u32>> {
    text.split(|c: char| c.is_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| Error::input("ids", "token ids", format!("{word:?}"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stand_between_spaces_or_commas() {
        assert_eq!(parse_ids(" 1,2 ,3\n4 ").unwrap(), [1, 2, 3, 4]);
        assert!(parse_ids("").unwrap().is_empty());
        assert_eq!(parse_ids("1 x").unwrap_err().to_string(), "ids: expected token ids, found \"x\"");
        assert!(parse_ids("-1").is_err());
        assert!(parse_ids("4294967296").is_err());
    }
}
