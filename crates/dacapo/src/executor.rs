//! Running a forward pass, live or recorded.

use std::ops::{Deref, DerefMut};

use crate::device::Device;
use crate::encoder::CommandEncoder;
use crate::graph::{ComputeGraph, GraphOptions, PassReports, TimedReplay};
use crate::profile::Counters;
use crate::submission::Submission;
use crate::{Error, Result};

/// Starts sessions on a device.
#[derive(Debug, Clone)]
pub struct GraphExecutor {
    device: Device,
}

/// A forward pass being described. Dereferences to its [`CommandEncoder`], so that every operation works in it.
#[derive(Debug)]
pub struct GraphSession {
    encoder: CommandEncoder,
}

/// How [`GraphSession::finish`] ends a session.
#[derive(Debug, Clone, Copy)]
pub struct FinishOptions {
    /// Wait for the end of the work. Default: yes.
    pub wait: bool,
    /// Passes that a recorded graph goes through before it is encoded. Default: none, the recorded order.
    pub graph: GraphOptions,
}

impl Default for FinishOptions {
    fn default() -> Self {
        FinishOptions { wait: true, graph: GraphOptions::recorded() }
    }
}

/// What a session did.
#[derive(Debug, Clone)]
pub struct Report {
    /// Dispatches, barriers and the rest, for this session alone.
    pub counters: Counters,
    /// Groups of concurrent dispatches, over all submissions; those of graphs that the session replayed are not among
    /// them.
    pub groups: u64,
    /// What each pass did.
    pub passes: PassReports,
    /// The work, ended already if the session was told to wait.
    pub submission: Submission,
    /// The same work with its times, if they were asked for.
    pub timed: Option<TimedReplay>,
}

impl GraphExecutor {
    /// An executor for this device.
    pub fn new(device: &Device) -> Self {
        GraphExecutor { device: device.clone() }
    }

    /// A session that encodes as it is told.
    ///
    /// # Errors
    /// As [`Device::encoder`].
    pub fn begin(&self, label: &str) -> Result<GraphSession> {
        Ok(GraphSession { encoder: self.device.encoder(label)? })
    }

    /// A session that records everything first.
    ///
    /// # Errors
    /// As [`Device::encoder`].
    pub fn begin_recorded(&self, label: &str) -> Result<GraphSession> {
        let mut session = self.begin(label)?;
        session.encoder.start_capture()?;
        Ok(session)
    }
}

impl GraphSession {
    /// Runs the session's work. What was recorded goes through the passes that the options name, gets memory for its
    /// transient buffers, and is encoded. To do that once and run it many times, see [`into_graph`](Self::into_graph)
    /// and [`ComputeGraph::compile`].
    ///
    /// # Errors
    /// If the options name passes or timing and the session does not record; as [`ComputeGraph::optimize`] and
    /// [`CommandEncoder::commit`]; and, if told to wait, what made the work fail.
    pub fn finish(mut self, options: FinishOptions) -> Result<Report> {
        let GraphOptions { fuse, reorder, memory_limit, chunk, timing } = options.graph;
        if !self.encoder.is_capturing() {
            let passes = !fuse.is_empty() || reorder.is_some() || memory_limit.is_some() || chunk.is_some();
            if passes || timing {
                let state = "with passes or timing in a session that does not record";
                return Err(Error::State { call: "finish", state });
            }
            return report(self.encoder, PassReports::default(), options.wait);
        }
        let recorded = self.encoder.take_capture()?;
        if timing {
            return timed(&self.encoder, &recorded, &options);
        }
        let (graph, mut passes) = recorded.optimize(self.encoder.device(), &options.graph)?;
        let Some(chunk) = chunk else {
            graph.encode_with_barriers(&mut self.encoder)?;
            return report(self.encoder, passes, options.wait);
        };
        let (device, label) = (self.encoder.device().clone(), self.encoder.label().to_owned());
        let (submission, cuts, counters) = graph.submit_chunks(&device, &label, &chunk)?;
        passes.chunk = Some(cuts);
        ended(submission, counters, passes, options.wait)
    }

    /// Ends a recorded session without running it, for a graph that is to be encoded again and again.
    ///
    /// # Errors
    /// If the session does not record.
    pub fn into_graph(mut self) -> Result<ComputeGraph> {
        if !self.encoder.is_capturing() {
            return Err(Error::State { call: "into_graph", state: "in a session that does not record" });
        }
        self.encoder.take_capture()
    }
}

/// Compiles a recorded graph for one replay, which has its groups timed.
fn timed(encoder: &CommandEncoder, recorded: &ComputeGraph, options: &FinishOptions) -> Result<Report> {
    let compiled = recorded.compile(encoder.device(), encoder.label(), &options.graph)?;
    let replay = compiled.replay_timed()?;
    let mut counters = compiled.counters();
    counters.submissions += compiled.submissions() as u64;
    let passes = compiled.reports().clone();
    let report = ended(replay.submission().clone(), counters, passes, options.wait)?;
    Ok(Report { timed: Some(replay), ..report })
}

/// Commits what is encoded.
fn report(encoder: CommandEncoder, passes: PassReports, wait: bool) -> Result<Report> {
    let mut counters = encoder.counters();
    let groups = encoder.groups();
    counters.submissions += encoder.submissions();
    let submission = encoder.commit()?;
    Ok(Report { groups, ..ended(submission, counters, passes, wait)? })
}

fn ended(submission: Submission, mut counters: Counters, passes: PassReports, wait: bool) -> Result<Report> {
    // Between two submissions that both do something lies no barrier, and none is needed.
    let groups = if counters.dispatches == 0 { 0 } else { counters.barriers + counters.submissions };
    if wait {
        submission.wait()?;
        counters.waits += 1;
    }
    Ok(Report { counters, groups, passes, submission, timed: None })
}

impl Deref for GraphSession {
    type Target = CommandEncoder;
    fn deref(&self) -> &CommandEncoder {
        &self.encoder
    }
}

impl DerefMut for GraphSession {
    fn deref_mut(&mut self) -> &mut CommandEncoder {
        &mut self.encoder
    }
}
