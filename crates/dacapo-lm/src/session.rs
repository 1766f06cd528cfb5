//! Sessions: a context that grows token by token.

use std::ops::ControlFlow;

use dacapo::{Buffer, ComputeGraph, DType};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::cache::KvCache;
use crate::model::pass::{Activations, Output, Pass};
use crate::sampler::Sampler;

/// Most tokens in one pass over a prompt. More would not make products faster, only activations larger.
const CHUNK: usize = 256;

/// Most rows of logits at once.
const LOGIT_ROWS: usize = 32;

/// A context of a model: the tokens so far, with their keys and values.
#[derive(Debug)]
pub struct Session {
    model: Model,
    cache: KvCache,
    tokens: Vec<u32>,
    /// Activations of single tokens, and of chunks once a prompt needs them.
    single: Activations,
    chunk: Option<(usize, Activations)>,
    /// U32 `[1]`: position of a pass's first token.
    step: Buffer,
    /// U32 `[CHUNK]`: tokens of a pass.
    input: Buffer,
    /// F32 `[1, V]`: logits of the last position.
    logits: Buffer,
    /// The recorded pass over one token, with the sampler that it ends with.
    decode: Option<Decode>,
}

#[derive(Debug)]
struct Decode {
    graph: ComputeGraph,
    sampler: u64,
}

impl Session {
    pub(crate) fn new(model: &Model) -> Result<Self> {
        let (device, config) = (model.device(), model.config());
        let cache = KvCache::new(
            device,
            config.layers,
            config.kv_heads,
            config.head_dim,
            model.context(),
            model.kv_dtype(),
        )?;
        Ok(Session {
            model: model.clone(),
            cache,
            tokens: Vec::new(),
            single: Activations::new(device, config, 1, model.is_exact())?,
            chunk: None,
            step: device.alloc(DType::U32, &[1])?,
            input: device.alloc(DType::U32, &[CHUNK])?,
            logits: device.alloc(DType::F32, &[1, config.vocab_size])?,
            decode: None,
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens that the context holds.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Most tokens that the context can hold.
    pub fn context(&self) -> usize {
        self.model.context()
    }

    /// Forgets all but the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// Reads tokens into the context. If `progress`, called with the tokens done and all of them, breaks, reading
    /// ends there: [`tokens`](Self::tokens) tells how far it came.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] if they do not fit, [`Error::TokenOutOfRange`]; a failure of the device.
    pub fn prefill(
        &mut self,
        tokens: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check(tokens)?;
        let mut done = 0;
        for part in tokens.chunks(CHUNK) {
            let last = done + part.len() == tokens.len();
            self.pass(part, if last { Output::Last } else { Output::None }, None)?;
            done += part.len();
            if progress(done, tokens.len()).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Reads tokens into the context and gives the logits at each: `sink` gets the index among `tokens` and a row of
    /// the vocabulary's size, and ends the reading if it breaks.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub fn logits(
        &mut self,
        tokens: &[u32],
        sink: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check(tokens)?;
        let vocabulary = self.model.config().vocab_size;
        let rows = LOGIT_ROWS.min(tokens.len()).max(1);
        let logits = self.model.device().alloc(DType::F32, &[rows, vocabulary])?;
        let mut index = 0;
        for part in tokens.chunks(rows) {
            self.pass(part, Output::All, Some(&logits))?;
            for row in logits.read::<f32>()?.chunks_exact(vocabulary).take(part.len()) {
                if sink(index, row).is_break() {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// Refuses tokens that the model does not have or the context cannot take.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<()> {
        let total = self.tokens.len() + tokens.len();
        if total > self.context() {
            return Err(Error::PromptTooLong { tokens: total, context: self.context() });
        }
        self.model.check_tokens(tokens)
    }

    /// One pass over up to [`CHUNK`] tokens.
    fn pass(&mut self, tokens: &[u32], output: Output, logits: Option<&Buffer>) -> Result<()> {
        let input = self.input.slice_view(0, &[tokens.len()])?;
        input.copy_from(tokens)?;
        self.prepare(tokens.len())?;
        if tokens.len() > 1 && self.chunk.as_ref().is_none_or(|(room, _)| *room < tokens.len()) {
            // Grows at most a few times: short prompts keep it small.
            let room = tokens.len().next_power_of_two().min(CHUNK);
            self.chunk = None;
            let (device, config) = (self.model.device(), self.model.config());
            self.chunk = Some((room, Activations::new(device, config, room, self.model.is_exact())?));
        }
        let activations = match &self.chunk {
            Some((_, chunk)) if tokens.len() > 1 => chunk,
            _ => &self.single,
        };
        let mut encoder = self.model.device().encoder("prefill")?;
        let mut pass = Pass::new(
            &mut encoder,
            self.model.config(),
            activations,
            &self.cache,
            &self.step,
            &input,
            logits.unwrap_or(&self.logits),
            output,
        );
        self.model.forward(&mut pass)?;
        encoder.commit_and_wait()?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Makes room in the cache for `count` more tokens and sets the position of the next pass.
    fn prepare(&mut self, count: usize) -> Result<()> {
        if self.cache.reserve(self.tokens.len() + count, self.tokens.len())? {
            self.decode = None;
        }
        Ok(self.step.copy_from(&[self.tokens.len() as u32])?)
    }

    /// Draws a token from the logits of the last position.
    pub(crate) fn sample(&mut self, sampler: &Sampler) -> Result<u32> {
        self.step.copy_from(&[self.tokens.len() as u32 - 1])?;
        let mut encoder = self.model.device().encoder("sample")?;
        sampler.encode(&mut encoder, &self.logits, &self.step)?;
        encoder.commit_and_wait()?;
        sampler.token()
    }

    /// Reads `token`, which `sampler` has just drawn, and draws the next one.
    pub(crate) fn step(&mut self, token: u32, sampler: &Sampler) -> Result<u32> {
        self.prepare(1)?;
        let decode = match self.decode.take() {
            Some(decode) if decode.sampler == sampler.id() => decode,
            _ => Decode { graph: self.record(sampler)?, sampler: sampler.id() },
        };
        let mut encoder = self.model.device().encoder("decode")?;
        decode.graph.encode_sequential(&mut encoder)?;
        encoder.commit_and_wait()?;
        self.decode = Some(decode);
        self.tokens.push(token);
        sampler.token()
    }

    /// Records the pass over the sampler's token, ending with the draw of the next one.
    fn record(&self, sampler: &Sampler) -> Result<ComputeGraph> {
        let mut encoder = self.model.device().encoder("record")?;
        encoder.start_capture()?;
        let mut pass = Pass::new(
            &mut encoder,
            self.model.config(),
            &self.single,
            &self.cache,
            &self.step,
            sampler.buffer(),
            &self.logits,
            Output::Last,
        );
        self.model.forward(&mut pass)?;
        sampler.encode(&mut encoder, &self.logits, &self.step)?;
        Ok(encoder.take_capture()?)
    }
}
