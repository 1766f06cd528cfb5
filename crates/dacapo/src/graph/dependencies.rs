//! Which dispatches of a graph must run before which others, and how long the longest chain of them is.
//!
//! For every allocation an index of byte intervals remembers who wrote each byte last and who has read it since.
//! A new access is held against those alone, by [`MemRange::hazard`]: whatever came before them is already ordered
//! before them. So the pairs found are few, and every ordered pair is a path of them.

use std::collections::{BTreeMap, HashMap, HashSet};

use smallvec::SmallVec;

use super::ComputeGraph;
use crate::hal::signature::Access;
use crate::hazard::{Hazard, MemRange};

/// An ordered pair of dispatches, as positions in their graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// The earlier.
    pub from: usize,
    /// The later.
    pub to: usize,
    /// The hazard between them.
    pub hazard: Hazard,
    /// Groups that could lie between them in a schedule of the fewest groups: 0 if the pair is part of a longest
    /// chain, so that it costs a group.
    pub slack: usize,
}

/// The order that a graph's dispatches must keep.
#[derive(Debug, Clone)]
pub struct Dependencies {
    before: Vec<Vec<(usize, Hazard)>>,
    after: Vec<Vec<usize>>,
    /// Nodes between two barriers that the caller asked for.
    segments: Vec<std::ops::Range<usize>>,
    segment_of: Vec<usize>,
    earliest: Vec<usize>,
    latest: Vec<usize>,
    depth: usize,
}

impl ComputeGraph {
    /// The order that the dispatches must keep.
    pub fn dependencies(&self) -> Dependencies {
        Dependencies::new(self)
    }
}

impl Dependencies {
    fn new(graph: &ComputeGraph) -> Self {
        let before = hazards(graph);
        let mut after = vec![Vec::new(); graph.len()];
        for (to, list) in before.iter().enumerate() {
            list.iter().for_each(|&(from, _)| after[from].push(to));
        }
        let segments = segments(graph);
        let mut segment_of = vec![0; graph.len()];
        for (index, segment) in segments.iter().enumerate() {
            segment_of[segment.clone()].fill(index);
        }
        let (earliest, latest) = (vec![0; graph.len()], vec![0; graph.len()]);
        let mut found = Dependencies { before, after, segments, segment_of, earliest, latest, depth: 0 };
        for segment in 0..found.segments.len() {
            found.depth = found.level(segment, found.depth);
        }
        found
    }

    /// Finds the earliest and latest level of a segment's nodes, given the segment's first level. Returns the
    /// first level after it.
    fn level(&mut self, segment: usize, base: usize) -> usize {
        let nodes = self.segments[segment].clone();
        let mut end = base;
        for node in nodes.clone() {
            // A node of an earlier segment is on an earlier level anyway.
            let after = self.before[node].iter().map(|&(from, _)| self.earliest[from] + 1).max();
            self.earliest[node] = after.unwrap_or(base).max(base);
            end = end.max(self.earliest[node] + 1);
        }
        for node in nodes.clone().rev() {
            let next = self.after[node].iter().filter(|&&to| to < nodes.end).map(|&to| self.latest[to]).min();
            self.latest[node] = next.unwrap_or(end) - 1;
        }
        end
    }

    /// The pairs found: every ordered pair is one of them, or a path of them, or has a barrier between.
    pub fn pairs(&self) -> impl Iterator<Item = Dependency> + '_ {
        self.before.iter().enumerate().flat_map(move |(to, list)| {
            list.iter().map(move |&(from, hazard)| {
                let slack = self.latest[to] - self.earliest[from] - 1;
                Dependency { from, to, hazard, slack }
            })
        })
    }

    /// What each pair costs: by how many groups the longest chain would be shorter without it, all others staying. A pair
    /// costs something if every longest chain goes through it; pairs that cost nothing are left out. To be rid of a
    /// pair, keep its two dispatches from touching the same bytes.
    ///
    /// Takes as many walks over the graph as there are such pairs.
    pub fn costs(&self) -> Vec<(Dependency, usize)> {
        let sole = self.sole();
        self.pairs()
            .filter(|pair| sole.contains(&(pair.from, pair.to)))
            .map(|pair| (pair, self.cost(pair)))
            .collect()
    }

    /// Pairs that every longest chain goes through. A longest chain goes from each level of a segment to the next by a
    /// pair without slack, so these are the ones that are alone at their level.
    pub(super) fn sole(&self) -> HashSet<(usize, usize)> {
        let mut at: HashMap<usize, Option<(usize, usize)>> = HashMap::new();
        let critical =
            |pair: &Dependency| pair.slack == 0 && self.segment_of[pair.from] == self.segment_of[pair.to];
        for pair in self.pairs().filter(critical) {
            let only = Some((pair.from, pair.to));
            at.entry(self.earliest[pair.from]).and_modify(|known| *known = None).or_insert(only);
        }
        at.into_values().flatten().collect()
    }

    /// How much shorter the longest chain would be without a pair.
    fn cost(&self, without: Dependency) -> usize {
        let segment = &self.segments[self.segment_of[without.from]];
        let (mut before, mut after) = (0, 0);
        let mut level = vec![0; segment.len()];
        for node in segment.clone() {
            let from = self.before[node].iter().map(|&(from, _)| from);
            let kept =
                from.filter(|&from| segment.contains(&from) && (from, node) != (without.from, without.to));
            level[node - segment.start] = kept.map(|from| level[from - segment.start] + 1).max().unwrap_or(1);
            after = after.max(level[node - segment.start]);
        }
        let first = self.earliest[segment.start..segment.end].iter().min().copied().unwrap_or(0);
        for &earliest in &self.earliest[segment.start..segment.end] {
            before = before.max(earliest + 1 - first);
        }
        before - after
    }

    /// The dispatches that this one waits for directly, and why.
    pub fn before(&self, node: usize) -> &[(usize, Hazard)] {
        &self.before[node]
    }

    /// The dispatches that wait for this one directly.
    pub fn after(&self, node: usize) -> &[usize] {
        &self.after[node]
    }

    /// The parts that explicit barriers cut the graph into, as positions of nodes.
    pub fn segments(&self) -> &[std::ops::Range<usize>] {
        &self.segments
    }

    /// The part that a node lies in.
    pub fn segment_of(&self, node: usize) -> usize {
        self.segment_of[node]
    }

    /// First group that a dispatch can be in.
    pub fn earliest(&self, node: usize) -> usize {
        self.earliest[node]
    }

    /// Last group that a dispatch can be in without making the schedule longer.
    pub fn latest(&self, node: usize) -> usize {
        self.latest[node]
    }

    /// Dispatches in the longest chain: with full barriers, no schedule has fewer groups.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Length of the longest chain if only real data flow counted: reads of what was written before. What is lost
    /// against it is owed to memory that is written again, and to explicit barriers.
    pub fn data_depth(&self) -> usize {
        let mut level = vec![1_usize; self.before.len()];
        for node in 0..level.len() {
            let flow = self.before[node].iter().filter(|(_, hazard)| *hazard == Hazard::ReadAfterWrite);
            level[node] = flow.map(|&(from, _)| level[from] + 1).max().unwrap_or(1);
        }
        level.into_iter().max().unwrap_or(0)
    }

    /// One longest chain, first to last. Between two of its dispatches lies a hazard or an explicit barrier.
    pub fn longest_chain(&self) -> Vec<usize> {
        let mut chain = Vec::with_capacity(self.depth);
        for segment in self.segments.iter().rev() {
            let mut node = segment.clone().max_by_key(|&node| self.earliest[node]);
            while let Some(last) = node {
                chain.push(last);
                let mut before = self.before[last].iter().map(|&(from, _)| from);
                node = before
                    .find(|&from| segment.contains(&from) && self.earliest[from] + 1 == self.earliest[last]);
            }
        }
        chain.reverse();
        chain
    }
}

/// The parts between explicit barriers.
fn segments(graph: &ComputeGraph) -> Vec<std::ops::Range<usize>> {
    let cuts = graph.nodes().iter().enumerate().filter(|(at, node)| *at > 0 && node.barrier_before());
    let starts: Vec<usize> = [0].into_iter().chain(cuts.map(|(at, _)| at)).collect();
    let ends = starts.iter().skip(1).copied().chain([graph.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).filter(|part| !part.is_empty()).collect()
}

/// For every node the nodes it waits for directly, in order, each once.
fn hazards(graph: &ComputeGraph) -> Vec<Vec<(usize, Hazard)>> {
    let mut allocations: HashMap<u64, Index> = HashMap::new();
    let mut before = Vec::with_capacity(graph.len());
    for (position, node) in graph.nodes().iter().enumerate() {
        let mut found = Vec::new();
        for range in node.ranges().iter().filter(|range| range.start < range.end) {
            allocations.entry(range.allocation).or_default().access(position, range, &mut found);
        }
        // Of several hazards between two nodes the first by this order is told: real data flow before the rest.
        found.sort_unstable_by_key(|&(from, hazard)| (from, rank(hazard)));
        found.dedup_by_key(|(from, _)| *from);
        before.push(found);
    }
    before
}

fn rank(hazard: Hazard) -> u8 {
    match hazard {
        Hazard::ReadAfterWrite => 0,
        Hazard::WriteAfterWrite => 1,
        Hazard::WriteAfterRead => 2,
    }
}

/// Bytes that were last touched by the same accesses.
#[derive(Debug, Clone, Default)]
struct Fragment {
    end: usize,
    writer: Option<(usize, Access)>,
    readers: SmallVec<[(usize, Access); 4]>,
}

/// One allocation's bytes, by the first byte of each fragment. Fragments do not overlap.
#[derive(Debug, Default)]
struct Index {
    fragments: BTreeMap<usize, Fragment>,
}

impl Index {
    /// Notes an access, and adds the accesses before it that it conflicts with.
    fn access(&mut self, node: usize, range: &MemRange, found: &mut Vec<(usize, Hazard)>) {
        self.split(range.start);
        self.split(range.end);
        for (&start, fragment) in self.fragments.range(range.start..range.end) {
            // Two reads never conflict: readers matter to a write alone.
            let readers = if range.access.writes() { &fragment.readers[..] } else { &[] };
            for &(from, access) in fragment.writer.iter().chain(readers) {
                let earlier = MemRange { allocation: range.allocation, start, end: fragment.end, access };
                found.extend(earlier.hazard(range).map(|hazard| (from, hazard)));
            }
        }
        if range.access.writes() {
            self.written(node, range);
        } else {
            self.read(node, range);
        }
    }

    /// Makes `at` the boundary of a fragment if it lies inside one.
    fn split(&mut self, at: usize) {
        if let Some((_, fragment)) = self.fragments.range_mut(..at).next_back()
            && fragment.end > at
        {
            let rest = fragment.clone();
            fragment.end = at;
            self.fragments.insert(at, rest);
        }
    }

    /// From now on the writer stands for everybody before it: they are all ordered before it.
    fn written(&mut self, node: usize, range: &MemRange) {
        let inside: SmallVec<[usize; 8]> =
            self.fragments.range(range.start..range.end).map(|(&start, _)| start).collect();
        for start in inside {
            self.fragments.remove(&start);
        }
        let writer = Some((node, range.access));
        self.fragments.insert(range.start, Fragment { end: range.end, writer, readers: SmallVec::new() });
    }

    fn read(&mut self, node: usize, range: &MemRange) {
        let mut gaps: SmallVec<[(usize, usize); 4]> = SmallVec::new();
        let mut at = range.start;
        for (&start, fragment) in self.fragments.range_mut(range.start..range.end) {
            if at < start {
                gaps.push((at, start));
            }
            at = fragment.end;
            if fragment.readers.last().is_none_or(|&(last, _)| last != node) {
                fragment.readers.push((node, range.access));
            }
        }
        if at < range.end {
            gaps.push((at, range.end));
        }
        for (start, end) in gaps {
            let readers = SmallVec::from_slice(&[(node, range.access)]);
            self.fragments.insert(start, Fragment { end, writer: None, readers });
        }
    }
}
