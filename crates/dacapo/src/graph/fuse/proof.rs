//! The proof obligations of a fusion.

use std::collections::HashSet;

use super::{Bytes, FuseMatch, FusePattern, Refusal, Replacement, Round};
use crate::DType;
use crate::graph::CapturedNode;
use crate::hazard::MemRange;

/// An argument of a dispatch: its bytes and how they are seen.
struct Operand {
    range: MemRange,
    dtype: DType,
    transient: bool,
}

impl Operand {
    fn key(&self) -> Bytes {
        (self.range.allocation, self.range.start, self.range.end)
    }
}

impl Round<'_> {
    /// The replacement for a match, if every obligation holds.
    pub(super) fn prove(&self, pattern: &FusePattern, found: &[usize]) -> Result<Replacement, Refusal> {
        let (members, node) = self.build(pattern, found, &[])?;
        let at = self.place(&members)?;
        Ok(Replacement { members, at, node })
    }

    /// The replacements of `readers`, all those that read what `first` writes, each of which does the first's work
    /// too, in its own place.
    pub(super) fn prove_spread(
        &self,
        pattern: &FusePattern,
        first: usize,
        readers: &[usize],
    ) -> Result<Vec<Replacement>, Refusal> {
        let replacement = |&reader: &usize| {
            let (members, node) = self.build(pattern, &[first, reader], readers)?;
            self.still_reads(first, reader)?;
            Ok(Replacement { members, at: reader, node })
        };
        readers.iter().map(replacement).collect()
    }

    /// The members of a match in order, and what the pattern builds for them: checked, but for its place. `others`
    /// may read what vanishes, beside the members.
    fn build(
        &self,
        pattern: &FusePattern,
        found: &[usize],
        others: &[usize],
    ) -> Result<(Vec<usize>, CapturedNode), Refusal> {
        let mut members = found.to_vec();
        members.sort_unstable();
        let segment = self.order.segment_of(members[0]);
        if members.iter().any(|&member| self.order.segment_of(member) != segment) {
            return Err(Refusal::Barrier);
        }
        let nodes = found.iter().map(|&node| &self.graph.nodes[node]).collect();
        let dispatch = (pattern.build)(&FuseMatch { nodes }).ok_or(Refusal::Declined)?;
        if !self.device.supports(dispatch.kernel()) {
            return Err(Refusal::Unsupported { kernel: dispatch.kernel().name });
        }
        let node = CapturedNode::new(dispatch).map_err(Refusal::Invalid)?;
        self.same_memory(&members, others, &node)?;
        self.device.fits(node.dispatch()).map_err(Refusal::TooLarge)?;
        Ok((members, node))
    }

    /// Whether what `first` reads is the same in the place of `reader`.
    fn still_reads(&self, first: usize, reader: usize) -> Result<(), Refusal> {
        let inputs = self.graph.nodes[first].ranges().iter().filter(|range| range.access.reads());
        let changes = |node: &usize| {
            let outputs = self.graph.nodes[*node].ranges().iter().filter(|range| range.access.writes());
            outputs.into_iter().any(|output| inputs.clone().any(|input| input.overlaps(output)))
        };
        match (first..reader).find(changes) {
            Some(node) => Err(Refusal::Between { node: self.recorded(node) }),
            None => Ok(()),
        }
    }

    /// The new node reads what the members read and did not make themselves, and writes what they write, except for
    /// values that nobody else can see.
    fn same_memory(&self, members: &[usize], others: &[usize], node: &CapturedNode) -> Result<(), Refusal> {
        let new = operands(node)?;
        let written: HashSet<Bytes> =
            new.iter().filter(|operand| operand.range.access.writes()).map(Operand::key).collect();
        let mut external = HashSet::new();
        let mut outputs: Vec<Operand> = Vec::new();
        let mut seen: HashSet<(Bytes, DType)> = HashSet::new();
        for &member in members {
            let old = operands(&self.graph.nodes[member])?;
            seen.extend(old.iter().map(|operand| (operand.key(), operand.dtype)));
            for operand in old.iter().filter(|operand| operand.range.access.reads()) {
                // The last value written to a byte is the one that is read.
                match outputs.iter().rev().find(|output| output.range.overlaps(&operand.range)) {
                    None => drop(external.insert(operand.key())),
                    Some(output) if output.key() == operand.key() && output.dtype == operand.dtype => {}
                    Some(_) => return Err(Refusal::Mismatch { reader: self.recorded(member) }),
                }
            }
            for operand in old.into_iter().filter(|operand| operand.range.access.writes()) {
                if !written.contains(&operand.key()) {
                    self.vanishes(member, &[members, others], &operand)?;
                }
                outputs.push(operand);
            }
        }
        let read: HashSet<Bytes> =
            new.iter().filter(|operand| operand.range.access.reads()).map(Operand::key).collect();
        let outputs: HashSet<Bytes> = outputs.iter().map(Operand::key).collect();
        let same_types = new.iter().all(|operand| seen.contains(&(operand.key(), operand.dtype)));
        if read != external || !written.is_subset(&outputs) || !same_types {
            return Err(Refusal::OtherMemory);
        }
        Ok(())
    }

    /// Whether nobody but these can see a value that a member writes.
    fn vanishes(&self, writer: usize, readers: &[&[usize]], value: &Operand) -> Result<(), Refusal> {
        if !value.transient {
            return Err(Refusal::Visible { writer: self.recorded(writer) });
        }
        for &reader in self.order.after(writer) {
            let read = |range: &&MemRange| range.access.reads() && range.overlaps(&value.range);
            let node = &self.graph.nodes[reader];
            if node.ranges().iter().any(|range| read(&range))
                && !readers.iter().any(|these| these.contains(&reader))
            {
                return Err(Refusal::OtherReader { reader: self.recorded(reader) });
            }
        }
        Ok(())
    }

    /// Where the new node can stand: in the place of the last member or of the first, if no dispatch between has to
    /// come after a member that would move behind it, or before one that would move before it.
    fn place(&self, members: &[usize]) -> Result<usize, Refusal> {
        let (first, last) = (members[0], members[members.len() - 1]);
        let between = || (first..last).filter(|node| !members.contains(node));
        let conflict = |from: usize, to: usize| self.graph.nodes[from].conflicts_with(&self.graph.nodes[to]);
        let before = |node: usize| members.iter().copied().filter(move |&member| member < node);
        let after = |node: usize| members.iter().copied().filter(move |&member| member > node);
        let Some(obstacle) = between().find(|&node| before(node).any(|member| conflict(member, node))) else {
            return Ok(last);
        };
        if between().any(|node| after(node).any(|member| conflict(node, member))) {
            return Err(Refusal::Between { node: self.recorded(obstacle) });
        }
        Ok(first)
    }

    fn recorded(&self, node: usize) -> usize {
        self.graph.nodes[node].recorded()
    }
}

/// A node's arguments that touch any byte.
fn operands(node: &CapturedNode) -> Result<Vec<Operand>, Refusal> {
    let buffers = node.dispatch().buffers().map_err(Refusal::Invalid)?;
    let operand = |(buffer, range): (&crate::Buffer, &MemRange)| Operand {
        range: *range,
        dtype: buffer.dtype(),
        transient: buffer.is_transient(),
    };
    let all = buffers.iter().zip(node.ranges()).map(operand);
    Ok(all.filter(|operand| operand.range.start < operand.range.end).collect())
}
