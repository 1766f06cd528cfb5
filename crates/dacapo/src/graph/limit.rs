//! Schedules for little memory: fewer values alive at a time, at the price of more groups.
//!
//! Two values may share bytes if their lives have no group in common, so that what has to be there at once is what a
//! group's dispatches touch and what lives across it. Splitting groups and finishing one branch before the next begins
//! makes that less. Finding the least is as hard as the order of a register allocation (NP-hard); what is tried here is
//! the recorded order, in groups and one by one, and a greedy order that prefers dispatches which leave less alive.

use std::collections::HashMap;

use super::memory::ALIGN;
use super::schedule::{ScheduleReport, look_ahead};
use super::{ComputeGraph, Dependencies, MemoryPlan, ScheduleOptions};
use crate::{Error, Result};

/// A schedule that keeps a limit of memory.
pub(super) struct Within {
    pub graph: ComputeGraph,
    pub schedule: ScheduleReport,
    pub plan: MemoryPlan,
}

impl ComputeGraph {
    /// Arranges a recorded graph so that its transient values take no more than `limit` bytes, in the fewest groups found.
    /// `least` is what the arrangement asked for takes, which is too much. Without `reorder` the order stays, and only
    /// groups are split.
    ///
    /// # Errors
    /// [`Error::MemoryLimit`] with the least memory that an arrangement was found for.
    pub(super) fn within(
        &self,
        limit: usize,
        least: usize,
        reorder: Option<&ScheduleOptions>,
    ) -> Result<Within> {
        let order = self.dependencies();
        let occupancy = reorder.copied().unwrap_or_default().threads();
        let one_by_one: Vec<usize> = (0..self.len()).collect();
        let (mut best, mut least): (Option<Within>, usize) = (None, least);
        let mut consider = |group_of: &[usize]| -> Result<usize> {
            let (graph, schedule) = self.scheduled(&order, group_of, occupancy);
            let plan = graph.plan_memory()?;
            let peak = plan.report().peak_bytes;
            if peak <= limit && best.as_ref().is_none_or(|best| schedule.groups < best.schedule.groups) {
                best = Some(Within { graph, schedule, plan });
            }
            Ok(peak)
        };
        least = least.min(consider(&one_by_one)?);
        if reorder.is_some() {
            let values = Values::of(self);
            least = least.min(consider(&look_ahead(&order, 0))?);
            least = least.min(consider(&frugal(&order, &values, 0))?);
            // What this comes to depends on the limit, so that it says nothing of other limits.
            consider(&frugal(&order, &values, limit))?;
        }
        best.ok_or(Error::MemoryLimit { limit, least })
    }
}

/// The transient values that the nodes touch.
struct Values {
    /// For each node, each value once.
    of: Vec<Vec<usize>>,
    bytes: Vec<usize>,
    /// Nodes that touch a value.
    uses: Vec<usize>,
}

impl Values {
    fn of(graph: &ComputeGraph) -> Self {
        let mut known: HashMap<u64, usize> = HashMap::new();
        let mut values = Values { of: Vec::with_capacity(graph.len()), bytes: Vec::new(), uses: Vec::new() };
        for node in graph.nodes() {
            let mut touched = Vec::new();
            for buffer in node.transients() {
                let allocation = buffer.allocation();
                let value = *known.entry(allocation.id).or_insert(values.bytes.len());
                if value == values.bytes.len() {
                    values.bytes.push(allocation.byte_len().next_multiple_of(ALIGN));
                    values.uses.push(0);
                }
                if !touched.contains(&value) {
                    touched.push(value);
                    values.uses[value] += 1;
                }
            }
            values.of.push(touched);
        }
        values
    }
}

/// Values while a schedule is made.
struct Alive<'a> {
    values: &'a Values,
    /// Nodes that have yet to touch a value.
    left: Vec<usize>,
    born: Vec<bool>,
    /// Bytes of the values that are born and not done with.
    bytes: usize,
}

impl Alive<'_> {
    /// Bytes of the values that a node would be the first to touch.
    fn births(&self, node: usize) -> usize {
        let new = self.values.of[node].iter().filter(|&&value| !self.born[value]);
        new.map(|&value| self.values.bytes[value]).sum()
    }

    /// Bytes of the values that a node would be the last to touch.
    fn deaths(&self, node: usize) -> usize {
        let last = self.values.of[node].iter().filter(|&&value| self.left[value] == 1);
        last.map(|&value| self.values.bytes[value]).sum()
    }

    fn begin(&mut self, node: usize) {
        self.bytes += self.births(node);
        self.values.of[node].iter().for_each(|&value| self.born[value] = true);
    }

    fn end(&mut self, node: usize) {
        for &value in &self.values.of[node] {
            self.left[value] -= 1;
            if self.left[value] == 0 {
                self.bytes -= self.values.bytes[value];
            }
        }
    }
}

/// Each group begins with the ready node that leaves the fewest bytes alive, of those the one that is needed first; and
/// takes those that need no new memory, or none beyond `budget`.
fn frugal(order: &Dependencies, values: &Values, budget: usize) -> Vec<usize> {
    let (left, born) = (values.uses.clone(), vec![false; values.bytes.len()]);
    let mut alive = Alive { values, left, born, bytes: 0 };
    let nodes = values.of.len();
    let mut group_of = vec![0; nodes];
    let mut waits: Vec<usize> = (0..nodes).map(|node| order.before(node).len()).collect();
    let mut group = 0;
    for segment in order.segments() {
        // Everything before the segment is done: what still waits, waits for a node of the segment.
        let mut ready: Vec<usize> = segment.clone().filter(|&node| waits[node] == 0).collect();
        while !ready.is_empty() {
            let grows = |node: usize| alive.births(node) as i64 - alive.deaths(node) as i64;
            ready.sort_by_cached_key(|&node| (grows(node), order.latest(node), node));
            let mut placed: Vec<usize> = Vec::new();
            ready.retain(|&node| {
                let births = alive.births(node);
                let here = placed.is_empty() || births == 0 || alive.bytes + births <= budget;
                if here {
                    alive.begin(node);
                    placed.push(node);
                }
                !here
            });
            for &node in &placed {
                alive.end(node);
                group_of[node] = group;
                for &next in order.after(node) {
                    waits[next] -= 1;
                    if waits[next] == 0 && segment.contains(&next) {
                        ready.push(next);
                    }
                }
            }
            group += 1;
        }
    }
    group_of
}
