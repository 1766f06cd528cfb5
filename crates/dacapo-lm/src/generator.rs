//! The loop that generates text.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::chain::Chain;
use crate::error::{Error, Result};
use crate::generate::{Event, FinishReason, GenerateOptions, Generation, StopFilter};
use crate::session::Session;
use crate::tokenizer::DecodeStream;

impl Session {
    /// Generates text after `prompt`, the whole context from its first token on. What the session holds of it
    /// already is not read again; what it holds beyond it is forgotten.
    ///
    /// `on_event` hears of every token and its text as it comes, and ends the generation if it breaks. A model without
    /// a tokenizer gives tokens and no text.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`], [`Error::TokenOutOfRange`], [`Error::Option`]; an empty prompt; a failure of the
    /// device.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let start = Instant::now();
        let cached = self.reuse(prompt)?;
        self.start_sampling(&options.sampling, prompt)?;
        let mut output = Output::new(self, options, prompt.len(), cached)?;
        let rest = &prompt[cached..];
        let mut cancelled = false;
        self.prefill(rest, &mut |done, total| {
            let flow = on_event(Event::Prefill { done, total });
            cancelled = flow.is_break();
            flow
        })?;
        if cancelled && self.tokens().len() < prompt.len() || options.max_tokens == Some(0) {
            let finish = if cancelled { FinishReason::Cancelled } else { FinishReason::MaxTokens };
            return Ok(output.finish(finish, start, start, on_event));
        }
        let mut token = self.sample()?;
        let first = Instant::now();
        let budget = options.max_tokens.unwrap_or(usize::MAX).saturating_sub(1);
        let mut chain = Chain::new(self, budget)?;
        let finish = loop {
            if let Some(finish) = output.take(token, on_event)? {
                break finish;
            }
            if chain.session().tokens().len() == chain.session().context() {
                break FinishReason::ContextFull;
            }
            token = chain.next(token)?;
        };
        chain.finish(token)?;
        Ok(output.finish(finish, start, first, on_event))
    }

    /// Keeps what the context and `prompt` have in common, and returns its length. At least one token is left to
    /// read, since it gives the first logits.
    fn reuse(&mut self, prompt: &[u32]) -> Result<usize> {
        if prompt.is_empty() {
            return Err(Error::Option {
                option: "prompt",
                expected: "at least one token".into(),
                found: "none".into(),
            });
        }
        if prompt.len() > self.context() {
            return Err(Error::PromptTooLong { tokens: prompt.len(), context: self.context() });
        }
        let common = self.tokens().iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let common = common.min(prompt.len() - 1);
        self.truncate(common);
        if !self.is_settled(common, prompt.len()) {
            self.truncate(0);
        }
        Ok(self.tokens().len())
    }
}

/// What has been generated so far.
struct Output<'a> {
    options: &'a GenerateOptions,
    eos: Vec<u32>,
    /// `None` without a tokenizer: then there are tokens and no text.
    stream: Option<DecodeStream>,
    filter: StopFilter<'a>,
    result: Generation,
}

impl<'a> Output<'a> {
    fn new(
        session: &Session,
        options: &'a GenerateOptions,
        prompt_tokens: usize,
        cached_tokens: usize,
    ) -> Result<Self> {
        let model = session.model();
        let mut eos = model.config().eos_ids.clone();
        let tokenizer = match model.tokenizer() {
            Ok(tokenizer) => Some(tokenizer),
            // Stop texts cannot be found without text.
            Err(error) if !options.stop.is_empty() => return Err(error),
            Err(_) => None,
        };
        eos.extend(tokenizer.iter().flat_map(|tokenizer| tokenizer.eos_ids()));
        Ok(Output {
            options,
            eos,
            stream: tokenizer.map(|tokenizer| tokenizer.decode_stream(true)),
            filter: StopFilter::new(&options.stop),
            result: Generation {
                text: String::new(),
                tokens: Vec::new(),
                prompt_tokens,
                cached_tokens,
                finish: FinishReason::MaxTokens,
                prefill: std::time::Duration::ZERO,
                decode: std::time::Duration::ZERO,
            },
        })
    }

    /// Takes a token; tells whether it was the last, and why.
    fn take(
        &mut self,
        token: u32,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Option<FinishReason>> {
        self.result.tokens.push(token);
        if !self.options.ignore_eos && self.eos.contains(&token) {
            return Ok(Some(FinishReason::EndOfText));
        }
        let text = self.stream.as_mut().and_then(|stream| stream.push(token)).unwrap_or_default();
        let (text, stopped) = self.filter.push(&text);
        let cancelled = self.emit(token, &text, on_event);
        if stopped {
            return Ok(Some(FinishReason::StopString));
        }
        if cancelled {
            return Ok(Some(FinishReason::Cancelled));
        }
        let full = self.options.max_tokens.is_some_and(|max| self.result.tokens.len() >= max);
        Ok(full.then_some(FinishReason::MaxTokens))
    }

    /// Passes text on; tells whether the caller has had enough.
    fn emit(
        &mut self,
        token: u32,
        text: &str,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> bool {
        self.result.text.push_str(text);
        on_event(Event::Text { token, text }).is_break()
    }

    /// Ends the generation: text that was held back is passed on, unless a stop text ended it.
    fn finish(
        mut self,
        finish: FinishReason,
        start: Instant,
        first: Instant,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Generation {
        if finish != FinishReason::StopString {
            let rest = self.stream.as_mut().and_then(DecodeStream::flush);
            let (mut text, stopped) = self.filter.push(&rest.unwrap_or_default());
            if !stopped {
                text.push_str(&self.filter.finish());
            }
            if let (false, Some(&token)) = (text.is_empty(), self.result.tokens.last()) {
                self.emit(token, &text, on_event);
            }
        }
        self.result.finish = finish;
        self.result.prefill = first - start;
        self.result.decode = first.elapsed();
        if first == start {
            self.result.prefill = start.elapsed();
            self.result.decode = std::time::Duration::ZERO;
        }
        self.result
    }
}
