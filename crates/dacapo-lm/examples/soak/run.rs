//! Generation again and again, each time checked against the first.

use std::ops::ControlFlow;
use std::time::Instant;

use dacapo_lm::{GenerateOptions, Model, Sampling};

use super::common::{Failure, tokens};

/// What is generated.
#[derive(Debug, Clone)]
pub struct Soak {
    /// Lengths of contexts, generation included, one after the other.
    pub contexts: Vec<usize>,
    /// Tokens that each generation has at most.
    pub each: usize,
    /// Tokens to generate in all, at least; every context comes twice at least.
    pub steps: usize,
    /// Of the prompts and the draws.
    pub seed: u64,
}

/// What a soak has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Tokens generated.
    pub steps: usize,
    /// Times that all contexts were gone through.
    pub rounds: usize,
    /// Bytes of device memory that the model held before and after every session.
    pub bytes: u64,
}

impl Soak {
    /// Goes through the contexts until enough tokens were generated. `report` gets a line for each generation.
    ///
    /// # Errors
    /// A failure of the device; other tokens than in the first round; memory that a session has left behind; a message of
    /// the driver or its layers.
    pub fn run(&self, model: &Model, report: &mut dyn FnMut(String)) -> Result<Done, Failure> {
        let device = model.device();
        let mut done = Done { bytes: device.memory_in_use().bytes, ..Done::default() };
        let mut first: Vec<Vec<u32>> = Vec::new();
        while done.steps < self.steps || done.rounds < 2 {
            for (i, &context) in self.contexts.iter().enumerate() {
                let (found, line) = self.generate(model, i, context)?;
                report(format!("round {} {line}", done.rounds + 1));
                done.steps += found.len();
                match first.get(i) {
                    None => first.push(found),
                    Some(first) => same(first, &found, context)?,
                }
                // Steps that were submitted ahead may still run.
                device.wait_idle()?;
                let held = device.memory_in_use().bytes;
                if held != done.bytes {
                    let before = done.bytes;
                    return Err(format!("context {context}: {held} bytes are held, {before} before").into());
                }
                if let Some(message) = device.messages().first() {
                    return Err(format!("context {context}: {message}").into());
                }
            }
            done.rounds += 1;
        }
        Ok(done)
    }

    /// Fills a context of a new session: a prompt of random tokens, then drawn ones.
    fn generate(&self, model: &Model, i: usize, context: usize) -> Result<(Vec<u32>, String), Failure> {
        let each = self.each.min(context / 2);
        let prompt = tokens(self.seed + i as u64, context - each, model.config().vocab_size);
        let sampling =
            Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, seed: self.seed, ..Sampling::default() };
        let options = GenerateOptions {
            max_tokens: Some(each),
            sampling,
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let start = Instant::now();
        let found = model.session()?.generate(&prompt, &options, &mut |_| ControlFlow::Continue(()))?;
        let line = format!(
            "context {context}: {} read, {} generated at {:.0} tokens/s, {:.2} s",
            prompt.len(),
            found.tokens.len(),
            found.tokens.len() as f64 / found.decode.as_secs_f64().max(1e-9),
            start.elapsed().as_secs_f64()
        );
        Ok((found.tokens, line))
    }
}

fn same(first: &[u32], found: &[u32], context: usize) -> Result<(), Failure> {
    if first == found {
        return Ok(());
    }
    let at = first.iter().zip(found).position(|(a, b)| a != b).unwrap_or(first.len().min(found.len()));
    let (a, b) = (first.get(at), found.get(at));
    Err(format!("context {context}: token {at} is {b:?}, and was {a:?} in the first round").into())
}
