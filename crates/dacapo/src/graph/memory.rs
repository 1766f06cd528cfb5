//! Memory of transient values: one arena, shared by liveness.
//!
//! A value lives from the group that first writes it to the group that last touches it. Two values may share bytes
//! if their lives have no group in common: then a barrier lies between them anyway, so that sharing adds no
//! dependency that costs anything. Values get their places in the order of size, largest first, each in the
//! smallest gap that fits among those it lives beside (greedy by size; Pisarchyk and Lee, "Efficient Memory
//! Management for Deep Neural Net Inference", 2020).

use std::collections::HashMap;

use super::{CapturedNode, ComputeGraph};
use crate::buffer::Role;
use crate::device::Device;
use crate::hal::Importance;
use crate::{Error, Result};

/// Alignment of values in the arena: what every backend takes as the offset of a binding.
pub(super) const ALIGN: usize = 256;

/// Where a transient value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The transient buffer's allocation, as in the ranges of the graph before.
    pub allocation: u64,
    /// First byte in the arena.
    pub offset: usize,
    /// Bytes, rounded up to the arena's alignment.
    pub bytes: usize,
    /// Group that first touches it.
    pub first_group: usize,
    /// Group that last touches it.
    pub last_group: usize,
}

/// Where all transient values of a graph lie.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemoryPlan {
    placements: Vec<Placement>,
    report: MemoryReport,
}

/// What the plan came to. All sizes are rounded up to the arena's alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryReport {
    /// Transient values.
    pub transients: usize,
    /// Size of the arena.
    pub peak_bytes: usize,
    /// Sum of the values' sizes: what they would take without sharing.
    pub sum_bytes: usize,
    /// Largest sum of the values that live in one group: no arena is smaller.
    pub lower_bound: usize,
    /// Groups more than the schedule would have had without a limit of memory.
    pub extra_groups: usize,
}

impl MemoryPlan {
    /// The places, in the order of first use.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// What the plan came to.
    pub fn report(&self) -> MemoryReport {
        self.report
    }
}

impl ComputeGraph {
    /// Plans the memory of the graph's transient buffers ([`Device::transient`]) over its schedule, or over the
    /// recorded order if it is not scheduled.
    ///
    /// # Errors
    /// [`Error::Uninitialized`] if a dispatch reads bytes of a transient buffer that no dispatch before it writes.
    pub fn plan_memory(&self) -> Result<MemoryPlan> {
        self.check_initialized()?;
        let mut placements = self.lives();
        let mut best = None;
        for order in [by_size, by_area] {
            let mut attempt = placements.clone();
            let peak = assign(&mut attempt, order);
            if best.as_ref().is_none_or(|&(_, least)| peak < least) {
                best = Some((attempt, peak));
            }
        }
        let mut peak_bytes = 0;
        if let Some((attempt, peak)) = best {
            (placements, peak_bytes) = (attempt, peak);
        }
        let groups = placements.iter().map(|p| p.last_group + 1).max().unwrap_or(0);
        let mut live = vec![0; groups];
        for place in &placements {
            live[place.first_group..=place.last_group].iter_mut().for_each(|bytes| *bytes += place.bytes);
        }
        let report = MemoryReport {
            transients: placements.len(),
            peak_bytes,
            sum_bytes: placements.iter().map(|p| p.bytes).sum(),
            lower_bound: live.into_iter().max().unwrap_or(0),
            extra_groups: 0,
        };
        Ok(MemoryPlan { placements, report })
    }

    /// Gives the graph's transient buffers memory on `device`: one arena, planned by
    /// [`plan_memory`](Self::plan_memory). The order and the groups stay as they are. Without transient buffers
    /// the graph comes back as it is.
    ///
    /// # Errors
    /// As [`plan_memory`](Self::plan_memory); or if the memory cannot be had.
    pub fn place(&self, device: &Device) -> Result<(ComputeGraph, MemoryReport)> {
        let plan = self.plan_memory()?;
        self.place_as(device, &plan)
    }

    /// [`place`](Self::place) by a plan of this graph.
    pub(super) fn place_as(
        &self,
        device: &Device,
        plan: &MemoryPlan,
    ) -> Result<(ComputeGraph, MemoryReport)> {
        let report = plan.report();
        if report.transients == 0 {
            return Ok((self.clone(), report));
        }
        let memory = device.allocate(report.peak_bytes, Importance::Scratch)?;
        let arena = device.allocation(memory, Role::Arena, None);
        let offsets: HashMap<u64, usize> = plan.placements.iter().map(|p| (p.allocation, p.offset)).collect();
        let mut graph = self.clone();
        for node in &mut graph.nodes {
            let dispatch = node.dispatch.with_buffers(|buffer| match offsets.get(&buffer.allocation().id) {
                Some(&offset) => buffer.moved_to(&arena, offset),
                None => buffer.clone(),
            });
            let ranges = dispatch.ranges()?;
            *node = CapturedNode { dispatch, ranges, ..*node };
        }
        Ok((graph, report))
    }

    /// The transient values with their sizes and lives, not placed yet.
    fn lives(&self) -> Vec<Placement> {
        let group_of = self.group_indices(&self.dependencies());
        let mut known: HashMap<u64, usize> = HashMap::new();
        let mut lives: Vec<Placement> = Vec::new();
        for (node, &group) in self.nodes.iter().zip(&group_of) {
            for buffer in node.transients() {
                let allocation = buffer.allocation();
                let bytes = allocation.byte_len().next_multiple_of(ALIGN);
                let (first_group, last_group) = (group, group);
                let index = *known.entry(allocation.id).or_insert_with(|| {
                    let allocation = allocation.id;
                    lives.push(Placement { allocation, offset: 0, bytes, first_group, last_group });
                    lives.len() - 1
                });
                let life = &mut lives[index];
                life.first_group = life.first_group.min(group);
                life.last_group = life.last_group.max(group);
            }
        }
        lives
    }

    /// Whether transient bytes are written before they are read.
    fn check_initialized(&self) -> Result<()> {
        let mut written: HashMap<u64, Written> = HashMap::new();
        for (position, node) in self.nodes.iter().enumerate() {
            let transient: Vec<u64> = node.transients().map(|buffer| buffer.allocation().id).collect();
            let bindings = || {
                let pairs = node.ranges.iter().zip(node.kernel().bindings);
                pairs.filter(|(range, _)| transient.contains(&range.allocation) && range.start < range.end)
            };
            for (range, binding) in bindings().filter(|(range, _)| range.access.reads()) {
                let known = written.get(&range.allocation);
                if !known.is_some_and(|known| known.covers(range.start, range.end)) {
                    let (kernel, argument) = (node.kernel().name, binding.name);
                    return Err(Error::Uninitialized { node: position, kernel, argument });
                }
            }
            for (range, _) in bindings().filter(|(range, _)| range.access.writes()) {
                written.entry(range.allocation).or_default().add(range.start, range.end);
            }
        }
        Ok(())
    }
}

impl CapturedNode {
    /// The transient buffers among the arguments.
    pub(super) fn transients(&self) -> impl Iterator<Item = &crate::Buffer> {
        use crate::KernelArg::{Buffer, BufferWithOffset, Bytes};
        let buffers = self.dispatch.args().iter().filter_map(|arg| match arg {
            Buffer(buffer) | BufferWithOffset(buffer, _) => Some(buffer),
            Bytes(_) => None,
        });
        buffers.filter(|buffer| buffer.is_transient())
    }
}

/// Bytes written so far, as separate intervals in order.
#[derive(Debug, Default)]
struct Written(Vec<(usize, usize)>);

impl Written {
    fn covers(&self, start: usize, end: usize) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= start);
        after > 0 && end <= self.0[after - 1].1
    }

    fn add(&mut self, mut start: usize, mut end: usize) {
        // All that touch or overlap the new interval become one with it.
        let low = self.0.partition_point(|&(_, last)| last < start);
        let high = self.0.partition_point(|&(first, _)| first <= end);
        if low < high {
            start = start.min(self.0[low].0);
            end = end.max(self.0[high - 1].1);
        }
        self.0.splice(low..high, [(start, end)]);
    }
}

type Key = fn(&Placement) -> (usize, usize);

fn by_size(place: &Placement) -> (usize, usize) {
    (place.bytes, place.last_group - place.first_group)
}

fn by_area(place: &Placement) -> (usize, usize) {
    (place.bytes.saturating_mul(place.last_group - place.first_group + 1), place.bytes)
}

/// Gives every value its offset, in falling order of `key`. Returns the arena's size.
fn assign(values: &mut [Placement], key: Key) -> usize {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&value| (std::cmp::Reverse(key(&values[value])), value));
    let mut placed: Vec<Placement> = Vec::with_capacity(values.len());
    for value in order {
        let place = &mut values[value];
        // Sorted by offset already: `placed` is kept so.
        let beside = placed
            .iter()
            .filter(|other| other.first_group <= place.last_group && place.first_group <= other.last_group);
        let mut free_from = 0;
        let mut best: Option<(usize, usize)> = None;
        for other in beside {
            if other.offset >= free_from + place.bytes {
                let gap = other.offset - free_from;
                if best.is_none_or(|(least, _)| gap < least) {
                    best = Some((gap, free_from));
                }
            }
            free_from = free_from.max(other.offset + other.bytes);
        }
        place.offset = best.map_or(free_from, |(_, offset)| offset);
        let at = placed.partition_point(|other| other.offset <= place.offset);
        placed.insert(at, *place);
    }
    placed.iter().map(|place| place.offset + place.bytes).max().unwrap_or(0)
}
