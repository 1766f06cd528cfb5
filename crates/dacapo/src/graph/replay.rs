//! Compiled graphs and their replay.

use std::sync::Arc;

use super::{ComputeGraph, PassReports};
use crate::device::Device;
use crate::event::StageEvents;
use crate::hal::event::{Dependency, Order};
use crate::hal::{Completion, Recording};
use crate::profile::Counters;
use crate::submission::{Run, Submission};
use crate::usage::Uses;
use crate::{Error, Result};

/// A graph that was encoded once, to be run again and again.
///
/// It owns everything that it touches: the buffers that the graph refers to, by allocations whose identities are
/// never used again, the arena of its transient values, its kernels and its encoded commands. Replays of one graph
/// may be in flight at the same time; they run one after another.
#[derive(Debug)]
pub struct CompiledGraph {
    device: Device,
    label: String,
    graph: ComputeGraph,
    recordings: Vec<Arc<dyn Recording>>,
    uses: Uses,
    counters: Counters,
    reports: PassReports,
}

impl CompiledGraph {
    pub(super) fn new(
        device: &Device,
        label: &str,
        graph: ComputeGraph,
        recordings: Vec<Arc<dyn Recording>>,
        uses: Uses,
        counters: Counters,
        reports: PassReports,
    ) -> Self {
        let (device, label) = (device.clone(), label.to_owned());
        CompiledGraph { device, label, graph, recordings, uses, counters, reports }
    }

    /// The label, as it appears in errors.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The graph as it was encoded: in its final order, on its final memory.
    pub fn graph(&self) -> &ComputeGraph {
        &self.graph
    }

    /// What each pass did.
    pub fn reports(&self) -> &PassReports {
        &self.reports
    }

    /// Dispatches and barriers of one replay.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Command buffers of one replay.
    pub fn submissions(&self) -> usize {
        self.recordings.len()
    }

    /// Runs the graph on what its buffers hold now. The host does nothing for single dispatches: it checks and
    /// registers each allocation once, and hands the encoded commands to the device.
    ///
    /// A graph in several submissions runs as one: nobody else's work comes between, and if one part fails, the
    /// whole has failed.
    ///
    /// # Errors
    /// As [`CommandEncoder::commit`](crate::CommandEncoder::commit).
    pub fn replay(&self) -> Result<Submission> {
        let submission = self
            .device
            .submit(&self.label, &self.uses, &StageEvents::default(), |order| self.start(order))?;
        let submissions = self.recordings.len() as u64;
        self.device.shared_counters().add(&Counters { submissions, replays: 1, ..Counters::default() });
        Ok(submission)
    }

    /// Submits the parts. A replay signals no event, so that the first part's order is all that there is to obey.
    fn start(&self, order: Order) -> Result<Arc<dyn Completion>> {
        let [first, rest @ ..] = &self.recordings[..] else {
            return Ok(Arc::new(Run { parts: Vec::new() }));
        };
        let first = first.submit(order)?;
        if rest.is_empty() {
            return Ok(first);
        }
        let mut parts = vec![first];
        for recording in rest {
            let previous = parts.last().cloned();
            let after = previous.map(|completion| Dependency { label: self.label.clone(), completion });
            let after = after.into_iter().collect();
            match recording.submit(Order { label: self.label.clone(), after, ..Order::default() }) {
                Ok(part) => parts.push(part),
                Err(error) => {
                    // What was submitted runs; the run as a whole tells why it failed.
                    parts.push(Arc::new(Failed(error)));
                    break;
                }
            }
        }
        Ok(Arc::new(Run { parts }))
    }
}

/// A submission that the device did not take.
#[derive(Debug)]
struct Failed(Error);

impl Completion for Failed {
    fn is_done(&self) -> bool {
        true
    }

    fn wait(&self) -> Result<()> {
        Err(self.0.clone())
    }
}
