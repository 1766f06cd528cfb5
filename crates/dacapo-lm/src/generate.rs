//! Generation: what to ask for, what comes back.

use std::time::Duration;

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token always. Default: 0.
    pub temperature: f32,
    /// Keep the K most likely tokens; 0 keeps all. Default: 0.
    pub top_k: usize,
    /// Keep the most likely tokens that together reach this probability; 1 keeps all. Default: 1.
    pub top_p: f32,
    /// Keep tokens at least this likely relative to the most likely one; 0 keeps all. Default: 0.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before; 1 is off. Default: 1.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit for each time it was seen. Default: 0.
    pub frequency_penalty: f32,
    /// Subtracted from a token's logit if it was seen. Default: 0.
    pub presence_penalty: f32,
    /// Seed of the random choice: the same seed and prompt give the same text. Default: 0.
    pub seed: u64,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
        }
    }
}

/// What to generate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerateOptions {
    /// Most tokens to generate; `None` is as many as the context holds.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the generation; they are not part of the result.
    pub stop: Vec<String>,
    /// Go on after the model's end-of-text tokens.
    pub ignore_eos: bool,
}

/// What happens during a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The prompt is being read.
    Prefill {
        /// Tokens read.
        done: usize,
        /// Tokens to read.
        total: usize,
    },
    /// A token was generated. Pieces of text are whole characters; together they are the result's text.
    Text {
        /// The token.
        token: u32,
        /// The piece that it completed; empty if there is nothing to show yet, or at all.
        text: &'a str,
    },
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model said so.
    EndOfText,
    /// One of the stop texts came up.
    StopString,
    /// As many tokens as asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The caller said so.
    Cancelled,
}

impl FinishReason {
    /// Name for machines: `end_of_text`, `stop_string`, `max_tokens`, `context_full`, `cancelled`.
    pub const fn name(self) -> &'static str {
        match self {
            FinishReason::EndOfText => "end_of_text",
            FinishReason::StopString => "stop_string",
            FinishReason::MaxTokens => "max_tokens",
            FinishReason::ContextFull => "context_full",
            FinishReason::Cancelled => "cancelled",
        }
    }
}

/// What was generated.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The text, without a stop text.
    pub text: String,
    /// All generated tokens, the one that ended the text included.
    pub tokens: Vec<u32>,
    /// Tokens in the prompt.
    pub prompt_tokens: usize,
    /// Of these, how many the session held already.
    pub cached_tokens: usize,
    /// Why it ended.
    pub finish: FinishReason,
    /// Time for the prompt, up to the first token.
    pub prefill: Duration,
    /// Time for the tokens after the first.
    pub decode: Duration,
}

/// Looks for stop texts in a stream of text, and holds back what could become one.
#[derive(Debug)]
pub(crate) struct StopFilter<'a> {
    stops: &'a [String],
    /// Text not yet passed on: a possible beginning of a stop text.
    held: String,
}

impl<'a> StopFilter<'a> {
    pub fn new(stops: &'a [String]) -> Self {
        StopFilter { stops, held: String::new() }
    }

    /// Takes more text; returns what can be passed on, and whether a stop text was found behind it.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found =
            self.stops.iter().filter(|s| !s.is_empty()).filter_map(|s| self.held.find(s.as_str())).min();
        if let Some(at) = found {
            let out = self.held[..at].to_owned();
            self.held.clear();
            return (out, true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back and turned out to be no stop text.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest proper beginning of `stop` at the end of `text`, in bytes.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices().map(|(i, _)| i).filter(|&i| i > 0 && text.ends_with(&stop[..i])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stops_across_pieces() {
        let stops = vec!["\nUser:".to_owned(), "END".to_owned()];
        let mut filter = StopFilter::new(&stops);
        assert_eq!(filter.push("Hello\n"), ("Hello".into(), false));
        assert_eq!(filter.push("Us"), (String::new(), false));
        assert_eq!(filter.push("ual. EN"), ("\nUsual. ".into(), false));
        assert_eq!(filter.push("D and more"), (String::new(), true));
    }

    #[test]
    fn what_was_held_back_comes_out_at_the_end() {
        let stops = vec!["éa".to_owned()];
        let mut filter = StopFilter::new(&stops);
        assert_eq!(filter.push("é"), (String::new(), false));
        assert_eq!(filter.finish(), "é");
    }

    proptest! {
        /// However the text is cut, the result is the text before the first stop.
        #[test]
        fn cuts_do_not_matter(text in "[abé]{0,20}", stops in prop::collection::vec("[abé]{1,4}", 0..3), step in 1..4_usize) {
            let expected = stops.iter().filter_map(|s| text.find(s.as_str())).min();
            let mut filter = StopFilter::new(&stops);
            let (mut out, mut stopped) = (String::new(), false);
            let chars: Vec<char> = text.chars().collect();
            for piece in chars.chunks(step) {
                let (passed, stop) = filter.push(&piece.iter().collect::<String>());
                out.push_str(&passed);
                if stop {
                    stopped = true;
                    break;
                }
            }
            if !stopped {
                out.push_str(&filter.finish());
            }
            prop_assert_eq!(stopped, expected.is_some());
            // The first stop to be complete ends the text; it may start later than a longer one that is not.
            match expected {
                Some(_) => prop_assert!(text.starts_with(&out)),
                None => prop_assert_eq!(out, text),
            }
        }
    }
}
