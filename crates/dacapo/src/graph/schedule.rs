//! Scheduling: which dispatches run beside each other, in as few groups as can be.

use super::{CapturedNode, ComputeGraph, Dependencies};
use crate::hazard::Hazard;

/// How a graph is arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The fewest groups there can be, one for each dispatch of the longest chain. Dispatches that could be in
    /// several groups go where they fill the groups evenly, by bytes and by threads. Default.
    #[default]
    Levels,
    /// The recorded order, cut where a dispatch conflicts with its group: what a live encoder does.
    Recorded,
    /// The recorded order, but when a dispatch has to wait, at most this many after it are looked at and join the
    /// group if they can. With 64, what other engines do; for comparison.
    LookAhead(usize),
}

/// Options of [`ComputeGraph::reorder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScheduleOptions {
    /// How the graph is arranged. Default: [`Strategy::Levels`].
    pub strategy: Strategy,
    /// Threads ([`CapturedNode::threads`](super::CapturedNode::threads)) that keep the device busy. A group with fewer is
    /// filled up with dispatches that may be in it even where that makes its bytes uneven. Default: what
    /// [`DeviceInfo::occupancy`](crate::DeviceInfo::occupancy) says of the device that the graph is optimized for; 16384,
    /// for a middling GPU, where no device is known.
    pub occupancy: Option<u64>,
}

impl ScheduleOptions {
    pub(super) fn threads(&self) -> u64 {
        self.occupancy.unwrap_or(crate::hal::info::GPU_OCCUPANCY)
    }
}

impl From<Strategy> for ScheduleOptions {
    fn from(strategy: Strategy) -> Self {
        ScheduleOptions { strategy, ..Self::default() }
    }
}

/// How evenly something is spread over the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// In the group with the least.
    pub min: u64,
    /// In the group with the most.
    pub max: u64,
    /// In a group on average, rounded down.
    pub mean: u64,
}

impl Spread {
    fn of(groups: &[u64]) -> Self {
        let (min, max) = (groups.iter().min(), groups.iter().max());
        let mean = groups.iter().sum::<u64>().checked_div(groups.len() as u64);
        Spread { min: min.copied().unwrap_or(0), max: max.copied().unwrap_or(0), mean: mean.unwrap_or(0) }
    }
}

/// Pairs of dispatches that are ordered directly, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EdgeCounts {
    /// The later reads what the earlier writes.
    pub read_after_write: usize,
    /// The later overwrites what the earlier reads.
    pub write_after_read: usize,
    /// The later overwrites what the earlier writes.
    pub write_after_write: usize,
    /// Barriers that the caller asked for.
    pub barriers: usize,
    /// Pairs of a longest chain among the first three.
    pub critical: usize,
    /// Pairs that every longest chain goes through: without one of them, fewer groups would do. By how many fewer:
    /// [`Dependencies::costs`].
    pub sole: usize,
}

/// What a schedule came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleReport {
    /// Dispatches.
    pub dispatches: usize,
    /// Groups; one barrier fewer.
    pub groups: usize,
    /// Groups in the order before.
    pub groups_before: usize,
    /// Dispatches in the longest chain: no schedule has fewer groups.
    pub lower_bound: usize,
    /// The longest chain of data flow alone. The difference to `lower_bound` is the price of memory that is written
    /// again and of explicit barriers.
    pub data_bound: usize,
    /// Dispatches taken out of the order before and put elsewhere: the fewest that explain the new order.
    pub moved: usize,
    /// Directly ordered pairs.
    pub edges: EdgeCounts,
    /// Bytes touched in all groups.
    pub bytes: u64,
    /// Bytes touched in a group.
    pub group_bytes: Spread,
    /// Threads in a group.
    pub group_threads: Spread,
    /// Groups with fewer threads than [`ScheduleOptions::occupancy`].
    pub underfull: usize,
}

impl ComputeGraph {
    /// Arranges the dispatches in groups. Every ordered pair stays ordered: its two dispatches are in different
    /// groups, the earlier first. Barriers that the caller asked for stay between what was before and after them.
    pub fn reorder(&self, options: &ScheduleOptions) -> (ComputeGraph, ScheduleReport) {
        let order = self.dependencies();
        let group_of = match options.strategy {
            Strategy::Levels => levels(&order, &self.loads(), options.threads()),
            Strategy::Recorded => look_ahead(&order, 0),
            Strategy::LookAhead(window) => look_ahead(&order, window),
        };
        self.scheduled(&order, &group_of, options.threads())
    }

    /// The graph in these groups, and what that comes to.
    pub(super) fn scheduled(
        &self,
        order: &Dependencies,
        group_of: &[usize],
        occupancy: u64,
    ) -> (ComputeGraph, ScheduleReport) {
        let graph = self.arrange(order, group_of);
        let groups = group_of.iter().max().map_or(0, |last| last + 1);
        let (mut bytes, mut threads) = (vec![0; groups], vec![0; groups]);
        for (&group, load) in group_of.iter().zip(self.loads()) {
            bytes[group] += load.bytes;
            threads[group] += load.threads;
        }
        let report = ScheduleReport {
            dispatches: self.len(),
            groups,
            groups_before: self.group_indices(order).into_iter().max().map_or(0, |last| last + 1),
            lower_bound: order.depth(),
            data_bound: order.data_depth(),
            moved: moved(self, &graph),
            edges: edges(order),
            bytes: bytes.iter().sum(),
            group_bytes: Spread::of(&bytes),
            group_threads: Spread::of(&threads),
            underfull: threads.iter().filter(|&&threads| threads < occupancy).count(),
        };
        (graph, report)
    }

    fn loads(&self) -> Vec<Load> {
        let load = |node: &CapturedNode| Load {
            bytes: node.bytes_read() + node.bytes_written(),
            threads: node.threads,
        };
        self.nodes.iter().map(load).collect()
    }

    /// The group of each node: as scheduled, else as the recorded order has it.
    pub(super) fn group_indices(&self, order: &Dependencies) -> Vec<usize> {
        match self.groups() {
            None => look_ahead(order, 0),
            Some(groups) => {
                groups.into_iter().enumerate().flat_map(|(group, nodes)| nodes.map(move |_| group)).collect()
            }
        }
    }

    /// The nodes sorted by group, in the order before within a group.
    fn arrange(&self, order: &Dependencies, group_of: &[usize]) -> ComputeGraph {
        let mut sorted: Vec<usize> = (0..self.len()).collect();
        sorted.sort_by_key(|&node| group_of[node]);
        let mut graph = ComputeGraph { pending_barrier: self.pending_barrier, ..ComputeGraph::new() };
        let mut starts = Vec::new();
        for (at, &node) in sorted.iter().enumerate() {
            let previous = at.checked_sub(1).map(|at| sorted[at]);
            if previous.is_none_or(|previous| group_of[previous] != group_of[node]) {
                starts.push(at);
            }
            let mut captured = self.nodes[node].clone();
            captured.barrier_before =
                previous.is_some_and(|previous| order.segment_of(previous) != order.segment_of(node));
            graph.nodes.push(captured);
        }
        graph.groups = Some(starts);
        graph
    }
}

/// What a dispatch, or a group of them, keeps the device busy with.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    bytes: u64,
    threads: u64,
}

impl Load {
    fn plus(self, more: Load) -> Load {
        Load { bytes: self.bytes + more.bytes, threads: self.threads + more.threads }
    }

    /// What each of `groups` would have of it.
    fn share(self, groups: usize) -> Load {
        Load { bytes: self.bytes.div_ceil(groups as u64), threads: self.threads.div_ceil(groups as u64) }
    }
}

/// As many groups as the longest chain is long. A node is placed in the first group where it has to be, or before
/// that where its group would otherwise be less than evenly filled: with bytes, or, as long as it has too few to keep
/// the device busy, with threads. For these a group takes up to twice its share of the bytes.
fn levels(order: &Dependencies, loads: &[Load], occupancy: u64) -> Vec<usize> {
    let nodes = loads.len();
    let mut group_of = vec![0; nodes];
    let mut waits: Vec<usize> = (0..nodes).map(|node| order.before(node).len()).collect();
    let mut ready: Vec<usize> = Vec::new();
    let mut left = loads.iter().fold(Load::default(), |sum, &load| sum.plus(load));
    let mut starts = order.segments().iter().map(|segment| order.earliest(segment.start)).peekable();
    let mut segment = 0;
    for group in 0..order.depth() {
        if starts.next_if(|&start| start <= group).is_some() {
            ready.extend(order.segments()[segment].clone().filter(|&node| waits[node] == 0));
            segment += 1;
        }
        let share = left.share(order.depth() - group);
        let busy = share.threads.min(occupancy);
        // What must be here first, then the largest that still fit.
        ready.sort_by_key(|&node| (order.latest(node) > group, std::cmp::Reverse(loads[node].bytes), node));
        let mut filled = Load::default();
        let mut placed = Vec::new();
        ready.retain(|&node| {
            let with = filled.plus(loads[node]);
            let idle = filled.threads < busy && with.bytes <= 2 * share.bytes;
            let here = order.latest(node) == group || with.bytes <= share.bytes || idle;
            if here {
                filled = with;
                placed.push(node);
            }
            !here
        });
        left = Load { bytes: left.bytes - filled.bytes, threads: left.threads - filled.threads };
        for &node in &placed {
            group_of[node] = group;
            for &next in order.after(node) {
                waits[next] -= 1;
                // Nodes of later segments become ready when their segment begins.
                if waits[next] == 0 && order.segment_of(next) + 1 == segment {
                    ready.push(next);
                }
            }
        }
    }
    group_of
}

/// The recorded order; when a node must wait for its group, up to `window` nodes after it may still join.
pub(super) fn look_ahead(order: &Dependencies, window: usize) -> Vec<usize> {
    let mut group_of = vec![usize::MAX; order.segments().last().map_or(0, |last| last.end)];
    let mut group = 0;
    for segment in order.segments() {
        let mut pending: Vec<usize> = segment.clone().collect();
        while !pending.is_empty() {
            let mut skipped = 0_usize;
            let mut looked = 0_usize;
            pending.retain(|&node| {
                if skipped > 0 {
                    looked += 1;
                }
                // Ready: everything it waits for is in a group before this one.
                let joins = looked <= window
                    && order.before(node).iter().all(|&(from, _)| group_of[from] < group)
                    && (skipped == 0 || window > 0);
                if joins {
                    group_of[node] = group;
                } else {
                    skipped += 1;
                }
                !joins
            });
            group += 1;
        }
    }
    group_of
}

/// Nodes outside the longest run that is in the same order before and after.
fn moved(before: &ComputeGraph, after: &ComputeGraph) -> usize {
    let mut position = std::collections::HashMap::with_capacity(before.len());
    for (at, node) in before.nodes().iter().enumerate() {
        position.insert(node.recorded(), at);
    }
    // `ends[k]` is the smallest end of a rising run of k + 1 nodes.
    let mut ends: Vec<usize> = Vec::new();
    for node in after.nodes() {
        let at = position[&node.recorded()];
        match ends.partition_point(|&end| end < at) {
            k if k == ends.len() => ends.push(at),
            k => ends[k] = at,
        }
    }
    after.len() - ends.len()
}

fn edges(order: &Dependencies) -> EdgeCounts {
    let barriers = order.segments().len().saturating_sub(1);
    let mut counts = EdgeCounts { barriers, sole: order.sole().len(), ..EdgeCounts::default() };
    for pair in order.pairs() {
        match pair.hazard {
            Hazard::ReadAfterWrite => counts.read_after_write += 1,
            Hazard::WriteAfterRead => counts.write_after_read += 1,
            Hazard::WriteAfterWrite => counts.write_after_write += 1,
        }
        counts.critical += usize::from(pair.slack == 0);
    }
    counts
}
