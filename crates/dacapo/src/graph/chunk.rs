//! Cutting a graph into submissions: the device starts at once, and none runs too long.

use std::ops::Range;

use super::{CapturedNode, ComputeGraph};

/// Options of [`ComputeGraph::chunks`].
#[derive(Debug, Clone, Copy)]
pub struct ChunkOptions {
    /// Cost of the first submission: small, so that the device starts while the rest is being encoded. Default:
    /// 32 MiB.
    pub first: u64,
    /// Cost that no other submission exceeds, unless a single dispatch does. Default: 4 GiB, well under a second
    /// at the slowest memory that models are run from.
    pub budget: u64,
    /// What a dispatch costs. Default: the bytes that it reads and writes.
    pub cost: fn(&CapturedNode) -> u64,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        ChunkOptions {
            first: 32 << 20,
            budget: 4 << 30,
            cost: |node| node.bytes_read() + node.bytes_written(),
        }
    }
}

/// What the cuts came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkReport {
    /// Cost of each submission.
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
        let cost = |nodes: Range<usize>| self.nodes[nodes].iter().map(options.cost).sum::<u64>();
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
