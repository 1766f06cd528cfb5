//! A generation whose every moment is noted: on the host by its phases, on the device by groups of dispatches.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Instant;

use dacapo::{CompiledGraph, ComputeGraph, GraphOptions, OpKind, ReplayTimes, Span, TimedReplay};

use crate::chain::AHEAD;
use crate::error::Result;
use crate::generate::Sampling;
use crate::model::pass::{Io, Output};
use crate::sampler::SLOTS;
use crate::session::{Session, record};

/// What a dispatch is and touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfiledNode {
    /// Kind of work.
    pub kind: OpKind,
    /// Name of its kernel.
    pub kernel: &'static str,
    /// Bytes of all ranges that it reads.
    pub bytes_read: u64,
    /// Bytes of all ranges that it writes.
    pub bytes_written: u64,
}

/// A graph that the generation used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfiledGraph {
    /// "prefill", "sample" or "decode".
    pub label: &'static str,
    /// The host recorded it.
    pub record: Span,
    /// The host put it through the passes.
    pub optimize: Span,
    /// The host encoded it.
    pub encode: Span,
    /// Its dispatches, in the order of encoding.
    pub nodes: Vec<ProfiledNode>,
}

/// One run of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfiledRun {
    /// The graph, as an index of [`Profile::graphs`].
    pub graph: usize,
    /// When it was submitted, waited for and run.
    pub times: ReplayTimes,
}

/// Where the time of a generation went. All times are on one clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The begin of everything.
    pub start: Instant,
    /// The graphs, in the order in which they were recorded.
    pub graphs: Vec<ProfiledGraph>,
    /// Their runs, in the order in which the device ran them.
    pub runs: Vec<ProfiledRun>,
    /// The tokens drawn: one after the prompt, one from each step.
    pub tokens: Vec<u32>,
}

impl Session {
    /// Reads `prompt` into the context, draws the likeliest token, and takes up to `steps` decode steps behind it, all
    /// with [timing](GraphOptions::timing). Steps end early where the context is full. `progress`, called with the
    /// tokens done and all of them, ends the generation if it breaks.
    ///
    /// Everything is recorded and compiled anew, so that the profile shows it.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    pub fn profile(
        &mut self,
        prompt: &[u32],
        steps: usize,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Profile> {
        self.check(prompt)?;
        let held = self.tokens.len() + prompt.len();
        let steps = steps.min(self.context().saturating_sub(held));
        self.start_sampling(&Sampling::default(), prompt)?;
        self.settle(held + steps)?;
        self.reserve(prompt.len() + steps)?;
        let (start, total) = (Instant::now(), prompt.len() + steps);
        let profile = Profile { start, graphs: Vec::new(), runs: Vec::new(), tokens: Vec::new() };
        let chunk = self.input.len();
        let mut profiler = Profiler { session: self, profile };
        let mut done = 0;
        for part in prompt.chunks(chunk) {
            let last = done + part.len() == prompt.len();
            profiler.prefill(part, if last { Output::Last } else { Output::None })?;
            done += part.len();
            if progress(done, total).is_break() {
                return Ok(profiler.profile);
            }
        }
        if !prompt.is_empty() {
            profiler.sample()?;
            profiler.decode(steps, &mut |step| progress(done + step, total))?;
        }
        Ok(profiler.profile)
    }
}

/// A generation under way.
struct Profiler<'a> {
    session: &'a mut Session,
    profile: Profile,
}

impl Profiler<'_> {
    fn prefill(&mut self, tokens: &[u32], output: Output) -> Result<()> {
        let end = self.session.tokens.len() + tokens.len();
        self.session.cache.wrote(end);
        let session = &*self.session;
        let input = session.input.slice_view(0, &[tokens.len()])?;
        input.copy_from(tokens)?;
        session.step.copy_from(&[session.tokens.len() as u32])?;
        let io = Io {
            cache: &session.cache,
            step: &session.step,
            tokens: &input,
            logits: &session.logits,
            output,
            frequencies: session.frequencies.as_ref(),
        };
        let recorded = timed(|| record(session.model(), io, |_| Ok(())))?;
        let (graph, compiled) = self.compile("prefill", recorded)?;
        self.finish(graph, &compiled.replay_timed()?)?;
        self.session.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Draws the token that follows the prompt.
    fn sample(&mut self) -> Result<()> {
        let session = &*self.session;
        session.step.copy_from(&[session.tokens.len() as u32 - 1])?;
        let recorded = timed(|| {
            let mut encoder = session.model().device().encoder("sample")?;
            encoder.start_capture()?;
            session.sampler.encode(&mut encoder, &session.logits, &session.step, 0)?;
            Ok(encoder.take_capture()?)
        })?;
        let (graph, compiled) = self.compile("sample", recorded)?;
        self.finish(graph, &compiled.replay_timed()?)?;
        self.profile.tokens.push(self.session.sampler.token(0)?);
        Ok(())
    }

    /// Takes steps as a generation does: submitted ahead of their results.
    fn decode(&mut self, steps: usize, progress: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<()> {
        let held = self.session.tokens.len();
        self.session.step.copy_from(&[held as u32])?;
        let graphs = (0..SLOTS.min(steps)).map(|slot| self.step(slot)).collect::<Result<Vec<_>>>()?;
        let mut running = VecDeque::new();
        let mut submitted = 0;
        for step in 0..steps {
            while submitted < steps && running.len() < AHEAD {
                let (graph, compiled) = &graphs[submitted % SLOTS];
                running.push_back((*graph, compiled.replay_timed()?));
                submitted += 1;
                self.session.cache.wrote(held + submitted);
            }
            let (graph, replay) = running.pop_front().expect("a step is running");
            self.finish(graph, &replay)?;
            self.session.tokens.extend(self.profile.tokens.last());
            self.profile.tokens.push(self.session.sampler.token((step + 1) % SLOTS)?);
            if progress(step + 1).is_break() {
                break;
            }
        }
        // What was submitted too much is waited for, so that nobody finds the step buffer in use.
        running.iter().try_for_each(|(_, replay)| Ok(replay.submission().wait()?))
    }

    /// The step that reads a slot and draws into the next.
    fn step(&mut self, slot: usize) -> Result<(usize, CompiledGraph)> {
        let recorded = timed(|| self.session.record_step(slot))?;
        self.compile("decode", recorded)
    }

    /// Compiles a graph and notes it.
    fn compile(
        &mut self,
        label: &'static str,
        (record, graph): (Span, ComputeGraph),
    ) -> Result<(usize, CompiledGraph)> {
        let options = GraphOptions { timing: true, ..self.session.options().graph };
        let compiled = graph.compile(self.session.model().device(), label, &options)?;
        let times = compiled.compile_times();
        let nodes = compiled.graph().nodes().iter().map(|node| ProfiledNode {
            kind: node.kind(),
            kernel: node.kernel().name,
            bytes_read: node.bytes_read(),
            bytes_written: node.bytes_written(),
        });
        let (optimize, encode) = (times.optimize, times.encode);
        self.profile.graphs.push(ProfiledGraph { label, record, optimize, encode, nodes: nodes.collect() });
        Ok((self.profile.graphs.len() - 1, compiled))
    }

    /// Waits for a run and notes it.
    fn finish(&mut self, graph: usize, replay: &TimedReplay) -> Result<()> {
        self.profile.runs.push(ProfiledRun { graph, times: replay.times()? });
        Ok(())
    }
}

/// What `work` makes, and when.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Span, T)> {
    let start = Instant::now();
    let made = work()?;
    Ok((Span { start, end: Instant::now() }, made))
}
