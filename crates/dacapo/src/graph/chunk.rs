//! Cutting a graph into submissions: the device starts at once, and none runs too long.

use std::ops::Range;
use std::time::Duration;

use super::{CapturedNode, ComputeGraph, CostModel};

/// What a dispatch costs.
#[derive(Debug, Clone, Copy, Default)]
pub enum Cost {
    /// The bytes that it reads and writes. Default.
    #[default]
    Bytes,
    /// Nanoseconds, as a model of measured times has them.
    Time(CostModel),
    /// The caller's own.
    Of(fn(&CapturedNode) -> u64),
}

impl Cost {
    /// The cost of a dispatch.
    pub fn of(&self, node: &CapturedNode) -> u64 {
        match self {
            Cost::Bytes => node.bytes_read() + node.bytes_written(),
            // Rounded up, so that many small ones do not come to nothing.
            Cost::Time(model) => model.nanoseconds(node).ceil() as u64,
            Cost::Of(cost) => cost(node),
        }
    }
}

/// Options of [`ComputeGraph::chunks`].
#[derive(Debug, Clone, Copy)]
pub struct ChunkOptions {
    /// Cost of the first submission: small, so that the device starts while the rest is being encoded. Default:
    /// 32 MiB.
    pub first: u64,
    /// Cost that no other submission exceeds, unless a single dispatch does. Default: 4 GiB, well under a second
    /// at the slowest memory that models are run from.
    pub budget: u64,
    /// What a dispatch costs, and what the two budgets are measured in. Default: bytes.
    pub cost: Cost,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        ChunkOptions { first: 32 << 20, budget: 4 << 30, cost: Cost::Bytes }
    }
}

impl ChunkOptions {
    /// Budgets of time: by the model, no submission runs longer than `budget`, unless a single dispatch does, and the
    /// first no longer than `first`.
    pub fn timed(first: Duration, budget: Duration, model: CostModel) -> Self {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        ChunkOptions { first: nanoseconds(first), budget: nanoseconds(budget), cost: Cost::Time(model) }
    }
}

/// What the cuts came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkReport {
    /// Cost of each submission, in the options' unit.
    pub costs: Vec<u64>,
    /// Dispatches that cost more than the budget all alone. They cannot be divided here; each is in a submission
    /// of its own.
    pub over_budget: usize,
    /// Cuts inside a group: each acts as a barrier more.
    pub inside_groups: usize,
}

impl ComputeGraph {
    /// Cuts the graph into submissions, as positions of nodes. A cut lies between two groups of a scheduled graph
    /// where that keeps the costs, else inside one; in a graph that is not scheduled, anywhere. Submissions run in
    /// order, so that a cut orders everything before it before everything after it.
    pub fn chunks(&self, options: &ChunkOptions) -> (Vec<Range<usize>>, ChunkReport) {
        let units = self.groups().unwrap_or_else(|| (0..self.len()).map(|node| node..node + 1).collect());
        let cost =
            |nodes: Range<usize>| self.nodes[nodes].iter().map(|node| options.cost.of(node)).sum::<u64>();
        let mut cutter =
            Cutter { options, chunks: Vec::new(), report: ChunkReport::default(), start: 0, cost: 0 };
        for unit in units {
            let total = cost(unit.clone());
            if cutter.fits(total) {
                cutter.cost += total;
                continue;
            }
            cutter.cut(unit.start);
            let limit = cutter.limit();
            for node in unit.clone() {
                let one = cost(node..node + 1);
                if total > limit && !cutter.fits(one) {
                    cutter.report.inside_groups += usize::from(node > unit.start);
                    cutter.cut(node);
                }
                cutter.report.over_budget += usize::from(one > options.budget);
                cutter.cost += one;
            }
        }
        cutter.cut(self.len());
        (cutter.chunks, cutter.report)
    }
}

struct Cutter<'a> {
    options: &'a ChunkOptions,
    chunks: Vec<Range<usize>>,
    report: ChunkReport,
    /// First node of the chunk being filled.
    start: usize,
    /// Its cost so far.
    cost: u64,
}

impl Cutter<'_> {
    fn limit(&self) -> u64 {
        if self.chunks.is_empty() { self.options.first.min(self.options.budget) } else { self.options.budget }
    }

    fn fits(&self, more: u64) -> bool {
        self.cost.saturating_add(more) <= self.limit()
    }

    /// Ends the chunk before this node, if there is anything in it.
    fn cut(&mut self, end: usize) {
        if self.start < end {
            self.chunks.push(self.start..end);
            self.report.costs.push(self.cost);
            (self.start, self.cost) = (end, 0);
        }
    }
}
