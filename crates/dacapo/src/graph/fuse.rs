//! Fusing: several dispatches become one, where it is proven that nobody can tell.
//!
//! The engine knows no operation, so it does not know what can be fused: the caller brings a table of patterns. A
//! pattern finds candidates and builds the dispatch that would replace them; whether it may is decided in `proof`.

use std::collections::HashSet;

use smallvec::SmallVec;

use super::{CapturedNode, ComputeGraph, Dependencies};
use crate::Error;
use crate::buffer::Buffer;
use crate::dispatch::Dispatch;
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
    /// Builds the replacement, or declines. It has to compute what the matched dispatches compute, and to know which
    /// operand is which ([`Buffer::is_same_view`]); that it touches the memory that it should, and that nobody can
    /// tell, is checked by the engine.
    pub build: fn(&FuseMatch<'_>) -> Option<Dispatch>,
    /// What the fusion gains, and the measurement that says so.
    pub gain: &'static str,
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
    /// What the pattern says it gains.
    pub gain: &'static str,
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
    /// The replacement's arguments do not fit its kernel.
    Invalid(Error),
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
            Refusal::Invalid(error) => write!(f, "the replacement is not valid: {error}"),
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
    /// Fusions made, in the order of the table.
    pub fused: Vec<Fused>,
    /// Fusions proposed and not made.
    pub refused: Vec<Refused>,
}

impl ComputeGraph {
    /// Replaces what the patterns match by what they build, pattern after pattern, wherever it is proven that
    /// nobody can tell: every value that vanishes is transient and has no other reader, operands match by range,
    /// type and count, the replacement reads and writes exactly the rest, and no dispatch in between is in the way.
    /// The result is not scheduled. What was proposed and not made is in the report.
    pub fn fuse(&self, patterns: &[FusePattern]) -> (ComputeGraph, FuseReport) {
        let mut graph = ComputeGraph { groups: None, ..self.clone() };
        let mut report = FuseReport { dispatches_before: self.len(), ..FuseReport::default() };
        for pattern in patterns.iter().filter(|pattern| !pattern.steps.is_empty()) {
            loop {
                let mut pass = Pass::new(&graph, pattern);
                pass.run();
                let Pass { replacements, fused, refused, .. } = pass;
                if replacements.is_empty() {
                    report.refused.extend(refused);
                    break;
                }
                report.fused.extend(fused);
                graph = graph.replace(replacements);
            }
        }
        report.dispatches = graph.len();
        (graph, report)
    }

    /// The graph with some nodes gone and others in the place of one of them.
    fn replace(&self, replacements: Vec<Replacement>) -> ComputeGraph {
        let order = self.dependencies();
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

/// One pattern's way through a graph. The fusions found do not interleave, so that all can be made at once.
struct Pass<'a> {
    graph: &'a ComputeGraph,
    order: Dependencies,
    pattern: &'a FusePattern,
    replacements: Vec<Replacement>,
    fused: Vec<Fused>,
    refused: Vec<Refused>,
}

impl<'a> Pass<'a> {
    fn new(graph: &'a ComputeGraph, pattern: &'a FusePattern) -> Self {
        let order = graph.dependencies();
        Pass { graph, order, pattern, replacements: Vec::new(), fused: Vec::new(), refused: Vec::new() }
    }

    fn run(&mut self) {
        let mut free_from = 0;
        for start in 0..self.graph.len() {
            if start >= free_from
                && self.selected(0, start)
                && let Some(replacement) = self.first_proven(start)
            {
                free_from = replacement.members.last().map_or(free_from, |last| last + 1);
                self.replacements.push(replacement);
            }
        }
    }

    /// Tries the pattern with this first dispatch.
    fn first_proven(&mut self, start: usize) -> Option<Replacement> {
        let mut matches = Vec::new();
        self.complete(&mut vec![start], &mut matches);
        for found in matches {
            let nodes = found.iter().map(|&node| self.graph.nodes[node].recorded).collect();
            let pattern = self.pattern.name;
            match self.prove(&found) {
                Ok(replacement) => {
                    let (kernel, gain) = (replacement.node.kernel().name, self.pattern.gain);
                    self.fused.push(Fused { pattern, nodes, kernel, gain });
                    return Some(replacement);
                }
                Err(why) => self.refused.push(Refused { pattern, nodes, why }),
            }
        }
        None
    }

    /// All ways to complete a match, the nearest dispatches first.
    fn complete(&self, found: &mut Vec<usize>, matches: &mut Vec<Vec<usize>>) {
        if matches.len() >= TRIES {
            return;
        }
        let Some(step) = self.pattern.steps.get(found.len()) else {
            matches.push(found.clone());
            return;
        };
        for node in self.candidates(step.link, found) {
            if self.selected(found.len(), node) && !found.contains(&node) {
                found.push(node);
                self.complete(found, matches);
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
                let inputs: HashSet<_> = reads(&self.graph.nodes[found[0]]).collect();
                let end = self.order.segments()[self.order.segment_of(found[0])].end;
                let shares =
                    |&node: &usize| reads(&self.graph.nodes[node]).any(|range| inputs.contains(&range));
                let apart = |&node: &usize| {
                    let later = &self.graph.nodes[node];
                    found.iter().all(|&step| !self.graph.nodes[step].conflicts_with(later))
                };
                (found[found.len() - 1] + 1..end).filter(shares).filter(apart).collect()
            }
        };
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn selected(&self, step: usize, node: usize) -> bool {
        let node = &self.graph.nodes[node];
        match self.pattern.steps[step].select {
            Selector::Kernel(name) => node.kernel().name == name,
            Selector::Kind(kind) => node.kind() == kind,
        }
    }
}

/// What a node reads: allocation, first byte, end.
fn reads(node: &CapturedNode) -> impl Iterator<Item = (u64, usize, usize)> {
    let ranges = node.ranges.iter().filter(|range| range.access.reads() && range.start < range.end);
    ranges.map(|range| (range.allocation, range.start, range.end))
}
