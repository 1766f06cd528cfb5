//! Running one test of `dacapo bench`.

use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use dacapo_lm::{GenerateOptions, Model, Session};

use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::progress::{Progress, Unit};

/// What a test times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reading a prompt.
    Prompt,
    /// Generating token by token.
    Generation,
}

/// A test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// What is timed.
    pub kind: Kind,
    /// Tokens read or generated.
    pub tokens: usize,
    /// Tokens that the session holds before.
    pub depth: usize,
}

impl Test {
    /// Positions of the context that the test needs. Generation starts from at least one token.
    pub fn positions(&self) -> usize {
        match self.kind {
            Kind::Prompt => self.depth + self.tokens,
            Kind::Generation => self.depth.max(1) + self.tokens,
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Prompt => "pp",
            Kind::Generation => "tg",
        };
        write!(f, "{kind} {}", self.tokens)?;
        if self.depth > 0 { write!(f, " @ {}", self.depth) } else { Ok(()) }
    }
}

/// A test and its speeds.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The test.
    pub test: Test,
    /// Tokens per second of each repetition, in order.
    pub speeds: Vec<f64>,
}

/// Runs tests on one session.
pub struct Bench<'a> {
    session: &'a mut Session,
    watch: &'a Watch,
    vocabulary: usize,
    repeat: usize,
}

impl<'a> Bench<'a> {
    /// Tests with `repeat` repetitions each.
    pub fn new(model: &Model, session: &'a mut Session, watch: &'a Watch, repeat: usize) -> Self {
        Bench { session, watch, vocabulary: model.config().vocab_size, repeat }
    }

    /// Runs a test: once to warm up, then as often as asked.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after Ctrl-C, and those of the session.
    pub fn run(&mut self, test: &Test) -> Result<Measured> {
        self.session.truncate(0);
        let mut progress = Progress::new("measuring", Unit::Tokens);
        let mut speeds = Vec::with_capacity(self.repeat);
        for repetition in 0..=self.repeat {
            let time = match test.kind {
                Kind::Prompt => self.prompt(test)?,
                Kind::Generation => self.generation(test)?,
            };
            if self.watch.raised() {
                return Err(Error::Interrupted);
            }
            if repetition > 0 {
                speeds.push(test.tokens as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE));
            }
            progress
                .update(((repetition + 1) * test.tokens) as u64, ((self.repeat + 1) * test.tokens) as u64);
        }
        Ok(Measured { test: *test, speeds })
    }

    fn prompt(&mut self, test: &Test) -> Result<Duration> {
        self.go_to(test.depth)?;
        let tokens = self.pattern(test.depth, test.tokens);
        let started = Instant::now();
        self.prefill(&tokens)?;
        Ok(started.elapsed())
    }

    /// The time of the steps after the first token, which comes out of the prompt.
    fn generation(&mut self, test: &Test) -> Result<Duration> {
        let held = test.depth.max(1);
        self.go_to(held - 1)?;
        let prompt = self.pattern(0, held);
        let options = GenerateOptions {
            max_tokens: Some(test.tokens + 1),
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let watch = self.watch;
        let generation = self.session.generate(&prompt, &options, &mut |_| {
            if watch.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(generation.decode)
    }

    /// Brings the session to the first `depth` tokens of the pattern.
    fn go_to(&mut self, depth: usize) -> Result<()> {
        // States cannot go back: what is to be read again for them is read here, where nobody takes the time.
        let has_states = self.session.model().config().delta_nets.is_some();
        self.session.truncate(if has_states { 0 } else { depth });
        let held = self.session.tokens().len();
        let missing = self.pattern(held, depth - held);
        if missing.is_empty() { Ok(()) } else { self.prefill(&missing) }
    }

    fn prefill(&mut self, tokens: &[u32]) -> Result<()> {
        let watch = self.watch;
        self.session.prefill(tokens, &mut |_, _| {
            if watch.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if watch.raised() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn pattern(&self, first: usize, count: usize) -> Vec<u32> {
        pattern(self.vocabulary, first, count)
    }
}

/// Token ids that need no tokenizer, the same in every run: a linear congruence spreads them over the
/// vocabulary, so that the embedding is read as by text.
pub fn pattern(vocabulary: usize, first: usize, count: usize) -> Vec<u32> {
    let id = |i: usize| ((i as u64 + 1).wrapping_mul(2_654_435_761) >> 7) % vocabulary.max(1) as u64;
    (first..first + count).map(|i| id(i) as u32).collect()
}

/// The most memory in bytes that this process has held at once; `None` where the system does not say.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_says_what_it_is_and_needs() {
        let test = Test { kind: Kind::Generation, tokens: 128, depth: 0 };
        assert_eq!(test.to_string(), "tg 128");
        assert_eq!(test.positions(), 129);
        let test = Test { kind: Kind::Prompt, tokens: 512, depth: 4096 };
        assert_eq!(test.to_string(), "pp 512 @ 4096");
        assert_eq!(test.positions(), 4608);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_peak_covers_what_was_touched() {
        let touched = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(peak_memory().unwrap() > touched.len() as u64);
    }
}
