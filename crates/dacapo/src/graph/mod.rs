//! Graphs: forward passes recorded as dispatches, and the passes over them.
//!
//! See the README beside this file for how the passes fit together.

use smallvec::SmallVec;

use crate::Result;
use crate::dispatch::Dispatch;
use crate::hal::kernel::{Kernel, OpKind};
use crate::hazard::MemRange;

mod buckets;
mod cache;
mod chunk;
mod compile;
mod cost;
mod dependencies;
mod encode;
mod fuse;
mod limit;
mod memory;
mod replay;
mod schedule;

pub use buckets::Buckets;
pub use cache::{CacheStats, GraphCache};
pub use chunk::{ChunkOptions, ChunkReport, Cost};
pub use compile::{GraphOptions, PassReports};
pub use cost::CostModel;
pub use dependencies::{Dependencies, Dependency};
pub use fuse::{FuseMatch, FusePattern, FuseReport, FuseStep, Fused, Gain, Link, Refusal, Refused, Selector};
pub use memory::{MemoryPlan, MemoryReport, Placement};
pub use replay::{CompiledGraph, TimedReplay};
pub use schedule::{EdgeCounts, ScheduleOptions, ScheduleReport, Spread, Strategy};

/// A captured dispatch.
#[derive(Debug, Clone)]
pub struct CapturedNode {
    dispatch: Dispatch,
    ranges: SmallVec<[MemRange; 8]>,
    threads: u64,
    barrier_before: bool,
    recorded: usize,
}

impl CapturedNode {
    pub(crate) fn new(dispatch: Dispatch) -> Result<Self> {
        let bound = dispatch.bind()?;
        let grid = dispatch.threads().into_iter().map(u64::from).product();
        let written = bound.ranges.iter().zip(&bound.views).filter(|(range, _)| range.access.writes());
        let elements = written.map(|(_, view)| view.len() as u64).max().unwrap_or(0);
        let threads = if grid == 1 { elements.max(1) } else { grid };
        Ok(CapturedNode { ranges: bound.ranges, dispatch, threads, barrier_before: false, recorded: 0 })
    }

    /// The dispatch, with its arguments and grid.
    pub fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// The kernel.
    pub fn kernel(&self) -> &'static Kernel {
        self.dispatch.kernel()
    }

    /// The kind of work.
    pub fn kind(&self) -> OpKind {
        self.kernel().kind
    }

    /// The bytes that it touches, one range for each buffer of the kernel's signature, in its order.
    pub fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    /// Bytes of all bindings that it reads.
    pub fn bytes_read(&self) -> u64 {
        self.ranges.iter().filter(|r| r.access.reads()).map(|r| (r.end - r.start) as u64).sum()
    }

    /// Bytes of all bindings that it writes.
    pub fn bytes_written(&self) -> u64 {
        self.ranges.iter().filter(|r| r.access.writes()).map(|r| (r.end - r.start) as u64).sum()
    }

    /// An estimate of its parallel work: the threads of its grid; where the grid was left at one thread, the elements of
    /// the largest buffer that it writes.
    pub fn threads(&self) -> u64 {
        self.threads
    }

    /// Whether the caller asked for a barrier before it. After scheduling, whether a barrier that the caller asked
    /// for lies at this place.
    pub fn barrier_before(&self) -> bool {
        self.barrier_before
    }

    /// Whether the hazard rule orders it before `later`.
    fn conflicts_with(&self, later: &CapturedNode) -> bool {
        self.ranges.iter().any(|one| later.ranges.iter().any(|other| one.hazard(other).is_some()))
    }

    /// Its position in the order of recording. A dispatch that replaced several has the position of the one in
    /// whose place it stands.
    pub fn recorded(&self) -> usize {
        self.recorded
    }
}

/// Dispatches in order: as they were recorded, or as a pass has arranged them.
///
/// A graph holds the buffers that it uses: nothing that it refers to is freed or handed out again while it lives.
#[derive(Debug, Clone, Default)]
pub struct ComputeGraph {
    nodes: Vec<CapturedNode>,
    /// A barrier was asked for and no dispatch has followed yet.
    pending_barrier: bool,
    /// First node of each group, if the graph is scheduled. Nodes of one group have no hazard among them.
    groups: Option<Vec<usize>>,
}

impl ComputeGraph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// The dispatches in order.
    pub fn nodes(&self) -> &[CapturedNode] {
        &self.nodes
    }

    /// Dispatches.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The groups of a scheduled graph, as positions of nodes; `None` if the graph is not scheduled. Between two
    /// groups lies a barrier; nodes of one group run beside each other.
    pub fn groups(&self) -> Option<Vec<std::ops::Range<usize>>> {
        let starts = self.groups.as_ref()?;
        let ends = starts.iter().skip(1).copied().chain([self.nodes.len()]);
        Some(starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect())
    }

    pub(crate) fn push(&mut self, mut node: CapturedNode) {
        node.barrier_before = std::mem::take(&mut self.pending_barrier);
        node.recorded = self.nodes.len();
        self.nodes.push(node);
    }

    pub(crate) fn push_barrier(&mut self) {
        self.pending_barrier = !self.nodes.is_empty();
    }
}
