//! Graphs: forward passes recorded as dispatches.

use smallvec::SmallVec;

use crate::Result;
use crate::dispatch::Dispatch;
use crate::hal::kernel::{Kernel, OpKind};
use crate::hazard::MemRange;

mod encode;

/// A captured dispatch.
#[derive(Debug, Clone)]
pub struct CapturedNode {
    dispatch: Dispatch,
    ranges: SmallVec<[MemRange; 8]>,
    barrier_before: bool,
}

impl CapturedNode {
    pub(crate) fn new(dispatch: Dispatch) -> Result<Self> {
        let ranges = dispatch.ranges()?;
        Ok(CapturedNode { dispatch, ranges, barrier_before: false })
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

    /// The bytes that it touches.
    pub fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    /// Whether the caller asked for a barrier before it.
    pub fn barrier_before(&self) -> bool {
        self.barrier_before
    }
}

/// Dispatches in the order in which they were recorded.
///
/// A graph holds the buffers that it uses: nothing that it refers to is freed or handed out again while it lives.
#[derive(Debug, Clone, Default)]
pub struct ComputeGraph {
    nodes: Vec<CapturedNode>,
    /// A barrier was asked for and no dispatch has followed yet.
    pending_barrier: bool,
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

    pub(crate) fn push(&mut self, mut node: CapturedNode) {
        node.barrier_before = std::mem::take(&mut self.pending_barrier);
        self.nodes.push(node);
    }

    pub(crate) fn push_barrier(&mut self) {
        self.pending_barrier = !self.nodes.is_empty();
    }
}
