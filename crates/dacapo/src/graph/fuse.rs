//! Fusing: several dispatches become one, where it is proven that nobody can tell.
//!
//! The engine knows no operation, so it does not know what can be fused: the caller brings a table of patterns. A
//! pattern finds candidates and builds the dispatch that would replace them; whether it may is decided in `proof`.

use std::cell::OnceCell;
use std::collections::HashMap;

use smallvec::SmallVec;

use super::{CapturedNode, ComputeGraph, Dependencies};
use crate::Error;
use crate::buffer::Buffer;
use crate::device::Device;
use crate::dispatch::Dispatch;
use crate::hal::info::BackendKind;
use crate::hal::kernel::OpKind;
use crate::hazard::Hazard;

mod proof;

/// How many combinations of one first dispatch are tried for a pattern.
const TRIES: usize = 32;

/// Which dispatches a step of a pattern stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selector {
    /// Those of the kernel of this name.
    Kernel(&'static str),
    /// Those of this kind.
    Kind(OpKind),
}

/// How a step of a pattern hangs together with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It reads what an earlier step writes. Also the link of the first step, where it means nothing.
    Reads,
    /// It reads a buffer that the first step reads too, and does not depend on any step before it.
    Beside,
}

/// A step of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuseStep {
    /// Which dispatches it stands for.
    pub select: Selector,
    /// What it has to do with the steps before it.
    pub link: Link,
}

/// A row in the table of fusions.
#[derive(Debug, Clone, Copy)]
pub struct FusePattern {
    /// Name, for reports.
    pub name: &'static str,
    /// The dispatches that become one.
    pub steps: &'static [FuseStep],
    /// Whether the last of two steps stands for *every* dispatch that reads what the first writes. Each gets a
    /// replacement of its own, which computes the first step anew: for what costs less than the barrier behind it.
    pub spread: bool,
    /// Builds the replacement, or declines. It has to compute what the matched dispatches compute, and to know which
    /// operand is which ([`Buffer::is_same_view`]); that it touches the memory that it should, and that nobody can
    /// tell, is checked by the engine.
    pub build: fn(&FuseMatch<'_>) -> Option<Dispatch>,
    /// What the fusion gains, for each kind of device on which that was measured. With no figure at all the pattern
    /// applies anywhere; with some, on these kinds of devices alone, and on those that borrow a figure.
    pub gains: &'static [Gain],
}

impl FusePattern {
    /// The figure that the pattern goes by on a kind of device: measured there, or else borrowed.
    pub fn gain(&self, backend: BackendKind) -> Option<Gain> {
        let own = self.gains.iter().find(|gain| gain.backend == backend);
        own.or_else(|| self.gains.iter().find(|gain| gain.borrowed_by.contains(&backend))).copied()
    }

    /// Whether the pattern is for this kind of device.
    pub fn applies_to(&self, backend: BackendKind) -> bool {
        self.gains.is_empty() || self.gain(backend).is_some()
    }
}

/// What a fusion gains on a kind of device, on which that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gain {
    /// The kind of device.
    pub backend: BackendKind,
    /// The figure, and what it was measured with.
    pub figure: &'static str,
    /// Other kinds of devices that go by it, since nobody has measured on them.
    pub borrowed_by: &'static [BackendKind],
}

/// Dispatches that a pattern has found, one for each of its steps.
#[derive(Debug)]
pub struct FuseMatch<'a> {
    nodes: SmallVec<[&'a CapturedNode; 4]>,
}

impl<'a> FuseMatch<'a> {
    /// The dispatch of a step.
    pub fn node(&self, step: usize) -> Option<&'a CapturedNode> {
        self.nodes.get(step).copied()
    }

    /// A buffer of a step's dispatch, by its index in the kernel's signature.
    pub fn buffer(&self, step: usize, binding: usize) -> Option<Buffer> {
        self.node(step)?.dispatch().buffers().ok()?.get(binding).cloned()
    }

    /// The parameter struct of a step's dispatch, if it has one of this size.
    pub fn params<P: bytemuck::AnyBitPattern>(&self, step: usize) -> Option<P> {
        self.node(step)?.dispatch().params()
    }
}

/// A fusion that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fused {
    /// The pattern.
    pub pattern: &'static str,
    /// The dispatches that it replaced, by their position in the recording.
    pub nodes: Vec<usize>,
    /// The kernel that replaced them.
    pub kernel: &'static str,
    /// What the pattern says it gains on this kind of device, or on the kind that this one borrows the figure from.
    pub gain: Option<Gain>,
}

/// A fusion that a pattern proposed and the engine did not make.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The pattern.
    pub pattern: &'static str,
    /// The dispatches, by their position in the recording.
    pub nodes: Vec<usize>,
    /// Why.
    pub why: Refusal,
}

/// Why a fusion was not made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Refusal {
    /// A barrier that the caller asked for lies between the dispatches.
    Barrier,
    /// The pattern declined to build a replacement.
    Declined,
    /// The device cannot run the replacement.
    Unsupported {
        /// Its kernel.
        kernel: &'static str,
    },
    /// The replacement's arguments do not fit its kernel.
    Invalid(Error),
    /// The device has too little for the replacement: workgroup memory, for instance.
    TooLarge(Error),
    /// A value that would vanish is not transient: the host or a later replay could read it.
    Visible {
        /// Position in the recording of the dispatch that writes it.
        writer: usize,
    },
    /// A value that would vanish is read by another dispatch.
    OtherReader {
        /// Position in the recording of the reader.
        reader: usize,
    },
    /// A value is read in other bytes, another type or another number of elements than it was written in.
    Mismatch {
        /// Position in the recording of the reader.
        reader: usize,
    },
    /// The replacement reads or writes other memory than what it replaces.
    OtherMemory,
    /// A dispatch between the others has to stay between them.
    Between {
        /// Its position in the recording.
        node: usize,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Barrier => f.write_str("a barrier was asked for in between"),
            Refusal::Declined => f.write_str("the pattern does not apply to these arguments"),
            Refusal::Unsupported { kernel } => write!(f, "the device has no kernel {kernel}"),
            Refusal::Invalid(error) => write!(f, "the replacement is not valid: {error}"),
            Refusal::TooLarge(error) => write!(f, "the device cannot run the replacement: {error}"),
            Refusal::Visible { writer } => write!(f, "what dispatch {writer} writes is not transient"),
            Refusal::OtherReader { reader } => write!(f, "dispatch {reader} reads the value as well"),
            Refusal::Mismatch { reader } => {
                write!(f, "dispatch {reader} reads other bytes than were written")
            }
            Refusal::OtherMemory => f.write_str("the replacement touches other memory"),
            Refusal::Between { node } => write!(f, "dispatch {node} has to stay in between"),
        }
    }
}

/// What fusing came to.
#[derive(Debug, Clone, Default)]
pub struct FuseReport {
    /// Dispatches before.
    pub dispatches_before: usize,
    /// Dispatches after.
    pub dispatches: usize,
    /// Fusions made: round by round, in each in the order of the table.
    pub fused: Vec<Fused>,
    /// Fusions proposed and not made.
    pub refused: Vec<Refused>,
}

impl ComputeGraph {
    /// Replaces what the patterns match by what they build, pattern after pattern, wherever it is proven that
    /// nobody can tell: every value that vanishes is transient and has no other reader, operands match by range,
    /// type and count, the replacement reads and writes exactly the rest, no dispatch in between is in the way, and
    /// `device` can run the replacement. Patterns that are for other kinds of devices
    /// ([`FusePattern::applies_to`]) are left out. That is done again until nothing more is found: a pattern may match what
    /// another has built. The result is not scheduled. What was proposed and not made is in the report.
    pub fn fuse(&self, device: &Device, patterns: &[FusePattern]) -> (ComputeGraph, FuseReport) {
        let mut graph = ComputeGraph { groups: None, ..self.clone() };
        let mut report = FuseReport { dispatches_before: self.len(), ..FuseReport::default() };
        let backend = device.info().backend;
        let patterns: Vec<&FusePattern> =
            patterns.iter().filter(|pattern| pattern.applies_to(backend)).collect();
        loop {
            let mut round = Round::new(&graph, device);
            patterns.iter().for_each(|pattern| round.run(pattern));
            let again = round.leaves_something(&patterns);
            let Round { order, replacements, fused, refused, .. } = round;
            report.fused.extend(fused);
            if !replacements.is_empty() {
                graph = graph.replace(&order, replacements);
            }
            if !again {
                report.refused = refused;
                break;
            }
        }
        report.dispatches = graph.len();
        (graph, report)
    }

    /// The graph with some nodes gone and others in the place of one of them.
    fn replace(&self, order: &Dependencies, replacements: Vec<Replacement>) -> ComputeGraph {
        let mut nodes: Vec<Option<CapturedNode>> = self.nodes.iter().cloned().map(Some).collect();
        for replacement in replacements {
            replacement.members.iter().for_each(|&member| nodes[member] = None);
            let recorded = self.nodes[replacement.at].recorded;
            nodes[replacement.at] = Some(CapturedNode { recorded, ..replacement.node });
        }
        let mut graph = ComputeGraph { pending_barrier: self.pending_barrier, ..ComputeGraph::new() };
        let mut segment = None;
        for (at, node) in nodes.into_iter().enumerate() {
            if let Some(mut node) = node {
                node.barrier_before = segment.is_some_and(|segment| segment != order.segment_of(at));
                segment = Some(order.segment_of(at));
                graph.nodes.push(node);
            }
        }
        graph
    }
}

/// A proven fusion.
struct Replacement {
    /// The nodes that go, in order.
    members: Vec<usize>,
    /// The one of them in whose place the new node stands.
    at: usize,
    node: CapturedNode,
}

impl Replacement {
    /// Where its members begin and end.
    fn span(&self) -> (usize, usize) {
        (self.members[0], self.members[self.members.len() - 1])
    }

    /// Whether both can be made at once.
    ///
    /// Each alone keeps the order of what conflicts. If both stand in the place of their last members, so do they
    /// together: where they change the order of two members, the later of the two lies between members of the other
    /// fusion, and was held against them. Otherwise they must not interleave.
    fn goes_with(&self, other: &Replacement) -> bool {
        let ((first, last), (other_first, other_last)) = (self.span(), other.span());
        (self.at == last && other.at == other_last) || last < other_first || other_last < first
    }
}

/// All patterns' way through a graph. The fusions found have no node in common and can all be made at once.
struct Round<'a> {
    graph: &'a ComputeGraph,
    device: &'a Device,
    order: Dependencies,
    /// The nodes that read a range, in order; made for the first pattern that asks.
    readers: OnceCell<HashMap<Bytes, Vec<usize>>>,
    /// Nodes that a fusion takes.
    taken: Vec<bool>,
    /// Whether a proven fusion was left to the next round.
    postponed: bool,
    replacements: Vec<Replacement>,
    fused: Vec<Fused>,
    refused: Vec<Refused>,
}

impl<'a> Round<'a> {
    fn new(graph: &'a ComputeGraph, device: &'a Device) -> Self {
        Round {
            graph,
            device,
            order: graph.dependencies(),
            readers: OnceCell::new(),
            taken: vec![false; graph.len()],
            postponed: false,
            replacements: Vec::new(),
            fused: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn run(&mut self, pattern: &FusePattern) {
        let Some(first) = pattern.steps.first() else { return };
        for start in 0..self.graph.len() {
            if !self.taken[start] && self.selected(first, start) {
                self.try_at(pattern, start);
            }
        }
    }

    /// Whether another round could find more, after what this one has found.
    fn leaves_something(&self, patterns: &[&FusePattern]) -> bool {
        let selects = |replacement: &Replacement| {
            let steps = patterns.iter().flat_map(|pattern| pattern.steps);
            steps.into_iter().any(|step| selects(step, &replacement.node))
        };
        let changed = !self.replacements.is_empty();
        self.postponed || (changed && !self.refused.is_empty()) || self.replacements.iter().any(selects)
    }

    /// Tries the pattern with this first dispatch.
    fn try_at(&mut self, pattern: &FusePattern, start: usize) {
        if pattern.spread {
            return self.try_spread(pattern, start);
        }
        let mut matches = Vec::new();
        self.complete(pattern, &mut vec![start], &mut matches);
        for found in matches {
            let nodes = found.iter().map(|&node| self.graph.nodes[node].recorded).collect();
            let name = pattern.name;
            match self.prove(pattern, &found) {
                Ok(replacement) if self.goes_with_all(&replacement) => {
                    return self.accept(pattern, nodes, replacement);
                }
                Ok(_) => {
                    self.postponed = true;
                    return;
                }
                Err(why) => self.refused.push(Refused { pattern: name, nodes, why }),
            }
        }
    }

    /// Tries a pattern that spreads its first step, this dispatch, over all its readers.
    fn try_spread(&mut self, pattern: &FusePattern, start: usize) {
        let readers = self.candidates(Link::Reads, &[start]);
        let Some(last) = pattern.steps.get(1).filter(|_| pattern.steps.len() == 2) else { return };
        // With a reader that is something else there is no match.
        if readers.is_empty() || readers.iter().any(|&node| self.taken[node] || !self.selected(last, node)) {
            return;
        }
        let recorded = |node: usize| self.graph.nodes[node].recorded;
        match self.prove_spread(pattern, start, &readers) {
            Ok(replacements) if replacements.iter().all(|replacement| self.goes_with_all(replacement)) => {
                for (replacement, &reader) in replacements.into_iter().zip(&readers) {
                    self.accept(pattern, vec![recorded(start), recorded(reader)], replacement);
                }
            }
            Ok(_) => self.postponed = true,
            Err(why) => {
                let nodes = std::iter::once(start).chain(readers).map(recorded).collect();
                self.refused.push(Refused { pattern: pattern.name, nodes, why });
            }
        }
    }

    fn goes_with_all(&self, replacement: &Replacement) -> bool {
        self.replacements.iter().rev().all(|other| replacement.goes_with(other))
    }

    fn accept(&mut self, pattern: &FusePattern, nodes: Vec<usize>, replacement: Replacement) {
        replacement.members.iter().for_each(|&member| self.taken[member] = true);
        let gain = pattern.gain(self.device.info().backend);
        let kernel = replacement.node.kernel().name;
        self.fused.push(Fused { pattern: pattern.name, nodes, kernel, gain });
        self.replacements.push(replacement);
    }

    /// All ways to complete a match, the nearest dispatches first.
    fn complete(&self, pattern: &FusePattern, found: &mut Vec<usize>, matches: &mut Vec<Vec<usize>>) {
        if matches.len() >= TRIES {
            return;
        }
        let Some(step) = pattern.steps.get(found.len()) else {
            matches.push(found.clone());
            return;
        };
        for node in self.candidates(step.link, found) {
            if !self.taken[node] && self.selected(step, node) && !found.contains(&node) {
                found.push(node);
                self.complete(pattern, found, matches);
                found.pop();
            }
        }
    }

    fn candidates(&self, link: Link, found: &[usize]) -> Vec<usize> {
        let mut nodes: Vec<usize> = match link {
            Link::Reads => {
                let reads =
                    |from: usize, to: usize| self.order.before(to).contains(&(from, Hazard::ReadAfterWrite));
                let next =
                    |&from: &usize| self.order.after(from).iter().copied().filter(move |&to| reads(from, to));
                found.iter().flat_map(next).collect()
            }
            Link::Beside => {
                let end = self.order.segments()[self.order.segment_of(found[0])].end;
                let behind = found[found.len() - 1] + 1..end;
                let apart = |node: &usize| {
                    let later = &self.graph.nodes[*node];
                    found.iter().all(|&step| !self.graph.nodes[step].conflicts_with(later))
                };
                let shares = reads(&self.graph.nodes[found[0]]).flat_map(|input| self.readers(input));
                shares.copied().filter(|node| behind.contains(node)).filter(apart).collect()
            }
        };
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    /// The nodes that read exactly these bytes.
    fn readers(&self, bytes: Bytes) -> &[usize] {
        let readers = self.readers.get_or_init(|| {
            let mut readers: HashMap<Bytes, Vec<usize>> = HashMap::new();
            for (at, node) in self.graph.nodes.iter().enumerate() {
                reads(node).for_each(|bytes| readers.entry(bytes).or_default().push(at));
            }
            readers
        });
        readers.get(&bytes).map_or(&[], Vec::as_slice)
    }

    fn selected(&self, step: &FuseStep, node: usize) -> bool {
        selects(step, &self.graph.nodes[node])
    }
}

fn selects(step: &FuseStep, node: &CapturedNode) -> bool {
    match step.select {
        Selector::Kernel(name) => node.kernel().name == name,
        Selector::Kind(kind) => node.kind() == kind,
    }
}

/// Allocation, first byte, end.
type Bytes = (u64, usize, usize);

/// What a node reads.
fn reads(node: &CapturedNode) -> impl Iterator<Item = Bytes> {
    let ranges = node.ranges.iter().filter(|range| range.access.reads() && range.start < range.end);
    ranges.map(|range| (range.allocation, range.start, range.end))
}
