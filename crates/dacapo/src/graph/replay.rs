//! Compiled graphs and their replay.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use super::{ComputeGraph, PassReports};
use crate::device::Device;
use crate::event::StageEvents;
use crate::hal::Recording;
use crate::profile::{CompileTimes, Counters, GroupTime, ReplayTimes, Span};
use crate::submission::{Submission, start_parts};
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
    encoded: Encoded,
    reports: PassReports,
}

/// What encoding has made of a graph.
#[derive(Debug)]
pub(super) struct Encoded {
    pub recordings: Vec<Arc<dyn Recording>>,
    pub uses: Uses,
    pub counters: Counters,
    /// The nodes of each group of each recording, if they are timed.
    pub groups: Option<Vec<Vec<Range<usize>>>>,
    pub times: CompileTimes,
}

impl CompiledGraph {
    pub(super) fn new(
        device: &Device,
        label: &str,
        graph: ComputeGraph,
        encoded: Encoded,
        reports: PassReports,
    ) -> Self {
        let (device, label) = (device.clone(), label.to_owned());
        CompiledGraph { device, label, graph, encoded, reports }
    }

    /// The device that it was compiled for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The encoded command buffers, in order.
    pub(crate) fn recordings(&self) -> &[Arc<dyn Recording>] {
        &self.encoded.recordings
    }

    /// The memory that it touches.
    pub(crate) fn uses(&self) -> &Uses {
        &self.encoded.uses
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
        self.encoded.counters
    }

    /// Command buffers of one replay.
    pub fn submissions(&self) -> usize {
        self.encoded.recordings.len()
    }

    /// When the host put the graph through its passes, and when it encoded it.
    pub fn compile_times(&self) -> CompileTimes {
        self.encoded.times
    }

    /// Runs the graph on what its buffers hold now. The host does nothing for single dispatches or allocations: it
    /// looks at what is in flight and at the guards that it holds, and hands the encoded commands to the device.
    ///
    /// A graph in several submissions runs as one: nobody else's work comes between, and if one part fails, the
    /// whole has failed.
    ///
    /// To put a replay between other work, behind an event or into a stage of a session, use
    /// [`CommandEncoder::replay`](crate::CommandEncoder::replay).
    ///
    /// # Errors
    /// As [`CommandEncoder::commit`](crate::CommandEncoder::commit).
    pub fn replay(&self) -> Result<Submission> {
        let submission = self.device.submit(
            &self.label,
            self.encoded.uses.touches(),
            &StageEvents::default(),
            |order| start_parts(&self.encoded.recordings, order),
        )?;
        let submissions = self.encoded.recordings.len() as u64;
        self.device.shared_counters().add(&Counters { submissions, replays: 1, ..Counters::default() });
        Ok(submission)
    }

    /// [`replay`](Self::replay), whose groups' times can be asked for when it has ended.
    ///
    /// # Errors
    /// As [`replay`](Self::replay); [`Error::State`] if the graph was compiled without
    /// [`timing`](super::GraphOptions::timing).
    pub fn replay_timed(&self) -> Result<TimedReplay> {
        let Some(groups) = &self.encoded.groups else {
            return Err(Error::State { call: "replay_timed", state: "on a graph compiled without timing" });
        };
        let start = Instant::now();
        let submission = self.replay()?;
        let submit = Span { start, end: Instant::now() };
        Ok(TimedReplay { submission, submit, groups: groups.clone() })
    }
}

/// A replay that is being timed.
#[derive(Debug, Clone)]
pub struct TimedReplay {
    submission: Submission,
    submit: Span,
    groups: Vec<Vec<Range<usize>>>,
}

impl TimedReplay {
    /// The work.
    pub fn submission(&self) -> &Submission {
        &self.submission
    }

    /// Waits for the end and tells when everything ran. A group without work has no time. A device that cannot time groups
    /// may still tell of whole command buffers: then one entry stands for all groups of each.
    ///
    /// # Errors
    /// As [`Submission::wait`].
    pub fn times(&self) -> Result<ReplayTimes> {
        let start = Instant::now();
        self.submission.wait()?;
        let wait = Span { start, end: Instant::now() };
        let fate = self.submission.fate();
        let (mut spans, whole) = (fate.group_times().into_iter(), fate.times());
        let mut groups = Vec::with_capacity(self.groups.iter().map(Vec::len).sum());
        let mut first = 0;
        for (submission, ranges) in self.groups.iter().enumerate() {
            let known = groups.len();
            let timed = ranges.iter().zip(spans.next().unwrap_or_default()).enumerate();
            groups.extend(timed.filter_map(|(index, (nodes, span))| {
                Some(GroupTime { submission, group: first + index, nodes: nodes.clone(), span: span? })
            }));
            if groups.len() == known
                && let (Some(&Some(span)), [one, .., last] | [one @ last]) =
                    (whole.get(submission), &ranges[..])
            {
                groups.push(GroupTime { submission, group: first, nodes: one.start..last.end, span });
            }
            first += ranges.len();
        }
        Ok(ReplayTimes { submit: self.submit, wait, groups })
    }
}
