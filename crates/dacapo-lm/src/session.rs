//! Sessions: a context that grows token by token.

use std::ops::ControlFlow;
use std::sync::Arc;

use dacapo::{Buffer, CacheStats, CompiledGraph, ComputeGraph, DType, Device, GraphCache, GraphOptions};

use crate::error::{Error, Result};
use crate::generate::Sampling;
use crate::model::Model;
use crate::model::cache::{CacheShape, KvCache};
use crate::model::pass::{Io, Output, Pass};
use crate::sampler::{SLOTS, Sampler};

/// Most tokens in one pass over a prompt. More would not make products faster, only activations larger.
const CHUNK: usize = 256;

/// The same on a GPU, whose products become faster for longer.
const GPU_CHUNK: usize = 512;

/// Most tokens in one pass over a prompt on this device.
fn chunk(device: &Device) -> usize {
    if device.info().gpu.is_some() { GPU_CHUNK } else { CHUNK }
}

/// Most rows of logits at once.
const LOGIT_ROWS: usize = 32;

/// The passes that the graphs of models go through: all fusions that pay, then the default order.
pub fn graph_options() -> GraphOptions {
    GraphOptions { fuse: dacapo_ops::FUSIONS, ..GraphOptions::default() }
}

/// Compiled passes over parts of prompts that are kept: whole chunks with and without logits, and some lengths that
/// come up again.
const KEPT_PASSES: usize = 6;

/// Compiled decode steps that are kept: one for each slot of the sampler, with and without a bias.
const KEPT_STEPS: usize = 2 * SLOTS;

/// How a session runs its passes.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions {
    /// The passes that each graph goes through before it is encoded. On the CPU no choice changes a bit of any result;
    /// on a GPU fusing may, in the last place, because its compiler contracts what one kernel computes. Default:
    /// [`graph_options`].
    pub graph: GraphOptions,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { graph: graph_options() }
    }
}

/// A context of a model: the tokens so far, with their keys and values.
#[derive(Debug)]
pub struct Session {
    model: Model,
    options: SessionOptions,
    pub(crate) cache: KvCache,
    pub(crate) tokens: Vec<u32>,
    /// U32 `[1]`: position of a pass's first token.
    pub(crate) step: Buffer,
    /// U32, as many as a pass has at most: its tokens.
    pub(crate) input: Buffer,
    /// F32 `[1, V]`: logits of the last position.
    pub(crate) logits: Buffer,
    /// F32 `[R/2]`: the frequencies of rotations that depend on the length of the context.
    pub(crate) frequencies: Option<Buffer>,
    /// Whether they are those of long contexts.
    long: bool,
    /// F32 `[LOGIT_ROWS, V]`: logits of all positions of a pass, once somebody asks for them.
    rows: Option<Buffer>,
    /// F32 `[pass, D]`: states of all positions of a pass, once somebody asks for them.
    states: Option<Buffer>,
    passes: GraphCache<(usize, Output)>,
    pub(crate) sampler: Sampler,
    /// Decode steps, by the slot that each reads and whether it draws with a bias. They hold for every generation: what
    /// differs from one to the next is in buffers.
    steps: GraphCache<(usize, bool)>,
}

impl Session {
    /// A session whose passes have up to `pass` tokens, or as many as the device reads at once if that is more.
    pub(crate) fn new(model: &Model, options: SessionOptions, pass: usize) -> Result<Self> {
        let (device, config) = (model.device(), model.config());
        let pass = pass.max(chunk(device));
        let shape = CacheShape {
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            windows: &config.sliding_windows,
            pass,
            limit: model.context(),
            dtype: model.kv_dtype(),
            nets: config.delta_nets.as_ref(),
        };
        let cache = KvCache::new(device, &shape)?;
        let frequencies = model.length_frequencies().map(|lists| lists.buffer(device)).transpose()?;
        Ok(Session {
            model: model.clone(),
            options,
            cache,
            tokens: Vec::new(),
            step: device.alloc(DType::U32, &[1])?,
            input: device.alloc(DType::U32, &[pass])?,
            logits: device.alloc(DType::F32, &[1, config.vocab_size])?,
            frequencies,
            long: false,
            rows: None,
            states: None,
            passes: GraphCache::new(KEPT_PASSES),
            sampler: Sampler::new(model)?,
            steps: GraphCache::new(KEPT_STEPS),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// How the session runs its passes.
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// The tokens that the context holds.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Most tokens that the context can hold.
    pub fn context(&self) -> usize {
        self.model.context()
    }

    /// Forgets all but the first `len` tokens. In models with sliding windows, what comes next may have to read the rest
    /// again: their caches keep no more than the windows and a pass need. In models with gated delta nets it has to, unless
    /// nothing is left: their states cannot go back.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
    }

    /// Reads tokens into the context. If `progress`, called with the tokens done and all of them, breaks, reading
    /// ends there: [`tokens`](Self::tokens) tells how far it came.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] if they do not fit, [`Error::CacheTooLarge`] if the device cannot be given so many keys,
    /// [`Error::TokenOutOfRange`]; a failure of the device.
    pub fn prefill(
        &mut self,
        tokens: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check(tokens)?;
        self.settle(self.tokens.len() + tokens.len())?;
        let mut done = 0;
        for part in tokens.chunks(self.input.len()) {
            let last = done + part.len() == tokens.len();
            self.pass(part, if last { Output::Last } else { Output::None })?;
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
        self.settle(self.tokens.len() + tokens.len())?;
        let vocabulary = self.model.config().vocab_size;
        let rows = match &self.rows {
            Some(rows) => rows.clone(),
            None => {
                let rows = self.model.device().alloc(DType::F32, &[LOGIT_ROWS, vocabulary])?;
                self.rows.insert(rows).clone()
            }
        };
        let mut index = 0;
        for part in tokens.chunks(LOGIT_ROWS) {
            self.pass(part, Output::All)?;
            for row in rows.read::<f32>()?.chunks_exact(vocabulary).take(part.len()) {
                if sink(index, row).is_break() {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// Forgets all tokens, and what the cache holds of them.
    pub(crate) fn restart(&mut self) {
        self.tokens.clear();
        self.cache.clear();
    }

    /// Reads tokens into the context and gives the states at each, as [`logits`](Self::logits) gives logits.
    pub(crate) fn states(
        &mut self,
        tokens: &[u32],
        sink: &mut dyn FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check_room(tokens)?;
        self.settle(self.tokens.len() + tokens.len())?;
        let width = self.model.config().hidden_size;
        let states = match &self.states {
            Some(states) => states.clone(),
            None => {
                let states = self.model.device().alloc(DType::F32, &[self.input.len(), width])?;
                self.states.insert(states).clone()
            }
        };
        let mut index = 0;
        for part in tokens.chunks(self.input.len()) {
            self.pass(part, Output::States)?;
            for row in states.read::<f32>()?.chunks_exact(width).take(part.len()) {
                if sink(index, row).is_break() {
                    return Ok(());
                }
                index += 1;
            }
        }
        Ok(())
    }

    /// Refuses tokens that cannot be gone on with: those of an encoder, and what [`check_room`](Self::check_room) does.
    pub(crate) fn check(&self, tokens: &[u32]) -> Result<()> {
        let config = self.model.config();
        if !config.causal {
            return Err(Error::NotADecoder { architecture: config.architecture.clone() });
        }
        self.check_room(tokens)
    }

    /// Refuses tokens that the model does not have or the context cannot take.
    fn check_room(&self, tokens: &[u32]) -> Result<()> {
        let total = self.tokens.len() + tokens.len();
        if total > self.context() {
            return Err(Error::PromptTooLong { tokens: total, context: self.context() });
        }
        self.cache.check(total)?;
        self.model.check_tokens(tokens)
    }

    /// Whether the cache can go on behind `held` tokens to a context of so many; if not, they are to be read again.
    pub(crate) fn is_settled(&self, held: usize, total: usize) -> bool {
        let long = self.model.length_frequencies().is_some_and(|lists| lists.is_long(total));
        long == self.long && self.cache.holds(held)
    }

    /// Makes the session ready to go on to a context of `total` tokens. Rotations by the length of the context are chosen
    /// for it; if others are needed than before, or the cache's rings have lost what the next token sees, the tokens are
    /// read again.
    pub(crate) fn settle(&mut self, total: usize) -> Result<()> {
        if self.is_settled(self.tokens.len(), total) {
            return Ok(());
        }
        if let (Some(lists), Some(buffer)) = (self.model.length_frequencies(), &self.frequencies) {
            self.long = lists.is_long(total);
            buffer.copy_from(lists.list(self.long))?;
        }
        let tokens = std::mem::take(&mut self.tokens);
        self.cache.clear();
        for part in tokens.chunks(self.input.len()) {
            self.pass(part, Output::None)?;
        }
        Ok(())
    }

    /// One pass over up to [`chunk`] tokens.
    fn pass(&mut self, tokens: &[u32], output: Output) -> Result<()> {
        let input = self.input.slice_view(0, &[tokens.len()])?;
        input.copy_from(tokens)?;
        self.reserve(tokens.len())?;
        self.cache.wrote(self.tokens.len() + tokens.len());
        self.step.copy_from(&[self.tokens.len() as u32])?;
        let key = (tokens.len(), output);
        let (model, cache, step) = (&self.model, &self.cache, &self.step);
        let frequencies = self.frequencies.as_ref();
        let rows = match output {
            Output::All => &self.rows,
            Output::States => &self.states,
            Output::None | Output::Last => &None,
        };
        let logits = rows.as_ref().unwrap_or(&self.logits);
        let compile = || {
            let io = Io { cache, step, tokens: &input, logits, output, frequencies };
            let graph = record(model, io, |_| Ok(()))?;
            Ok::<_, Error>(graph.compile(model.device(), "prefill", &self.options.graph)?)
        };
        let graph: Arc<CompiledGraph> = self.passes.get_or_compile(&key, compile)?;
        graph.replay()?.wait()?;
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Makes room in the cache for `count` more tokens. Returns whether its buffers have changed; then everything
    /// compiled on them is gone.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<bool> {
        let changed = self.cache.reserve(self.tokens.len() + count, self.tokens.len())?;
        if changed {
            self.passes.clear();
            self.steps.clear();
        }
        Ok(changed)
    }

    /// Records a decode step: a pass over the token in a slot of the sampler, the draw of the next token into the slot
    /// behind it, and the move to the next position.
    pub(crate) fn record_step(&self, slot: usize) -> Result<ComputeGraph> {
        record_step(&self.model, self.step_io(slot), &self.sampler, slot)
    }

    /// What the decode step of a slot works on.
    fn step_io(&self, slot: usize) -> Io<'_> {
        let Session { cache, step, logits, sampler, frequencies, .. } = self;
        let (tokens, frequencies) = (sampler.slot(slot), frequencies.as_ref());
        Io { cache, step, tokens, logits, output: Output::Last, frequencies }
    }

    /// The compiled decode step of a slot of the sampler.
    pub(crate) fn step_graph(&mut self, slot: usize) -> Result<Arc<CompiledGraph>> {
        let Session { model, options, cache, step, logits, sampler, frequencies, steps, .. } = self;
        let (tokens, frequencies) = (sampler.slot(slot), frequencies.as_ref());
        let io = Io { cache, step, tokens, logits, output: Output::Last, frequencies };
        let compile = || {
            let graph = record_step(model, io, sampler, slot)?;
            Ok(graph.compile(model.device(), "decode", &options.graph)?)
        };
        steps.get_or_compile(&(slot, sampler.is_biased()), compile)
    }

    /// How often a decode step was found compiled and how often it had to be compiled, for measurements.
    pub fn step_stats(&self) -> CacheStats {
        self.steps.stats()
    }

    /// Tells the sampler how tokens are to be drawn from now on, and what the context is.
    pub(crate) fn start_sampling(&mut self, sampling: &Sampling, prompt: &[u32]) -> Result<()> {
        self.sampler.start(&self.model, sampling, prompt)
    }

    /// Draws a token from the logits of the last position.
    pub(crate) fn sample(&mut self) -> Result<u32> {
        self.step.copy_from(&[self.tokens.len() as u32 - 1])?;
        let mut encoder = self.model.device().encoder("sample")?;
        self.sampler.encode(&mut encoder, &self.logits, &self.step, 0)?;
        encoder.commit_and_wait()?;
        self.sampler.token(0)
    }
}

/// Records a decode step that reads `slot` of the sampler.
fn record_step(model: &Model, io: Io<'_>, sampler: &Sampler, slot: usize) -> Result<ComputeGraph> {
    record(model, io, |encoder| {
        sampler.encode(encoder, io.logits, io.step, (slot + 1) % SLOTS)?;
        Ok(dacapo_ops::advance(encoder, io.step, 1)?)
    })
}

/// Records a forward pass, and what `then` adds behind it.
pub(crate) fn record(
    model: &Model,
    io: Io<'_>,
    then: impl FnOnce(&mut dacapo::CommandEncoder) -> Result<()>,
) -> Result<ComputeGraph> {
    let mut encoder = model.device().encoder("record")?;
    encoder.start_capture()?;
    model.forward(&mut Pass::new(&mut encoder, model.config(), model.is_exact(), io))?;
    then(&mut encoder)?;
    Ok(encoder.take_capture()?)
}

/// A part of a generation that is a graph of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// A pass over a part of a prompt, with the logits of its last token.
    Prefill,
    /// A pass over one token, with the draw of the next one.
    Decode,
}

impl Model {
    /// The graph of a stage as it is recorded, before any pass: for pictures and measurements. `length` is the number of
    /// tokens of a prefill, and the context's length after a decode step.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] if the context does not hold `length` tokens, [`Error::Option`] if it is 0; if memory
    /// cannot be had.
    pub fn graph(&self, stage: Stage, length: usize) -> Result<ComputeGraph> {
        if length == 0 {
            return Err(Error::Option { option: "length", expected: "at least 1".into(), found: "0".into() });
        }
        if !self.config().causal {
            return Err(Error::NotADecoder { architecture: self.config().architecture.clone() });
        }
        let mut session = Session::new(self, SessionOptions::default(), length)?;
        if length > session.context() {
            return Err(Error::PromptTooLong { tokens: length, context: session.context() });
        }
        session.reserve(length)?;
        match stage {
            Stage::Prefill => {
                let tokens = self.device().alloc(DType::U32, &[length])?;
                record(self, Io { tokens: &tokens, ..session.step_io(0) }, |_| Ok(()))
            }
            Stage::Decode => session.record_step(0),
        }
    }
}
