//! Compiling: passes in order, memory, and everything encoded once.

use std::ops::Range;
use std::time::Instant;

use super::replay::Encoded;
use super::{
    ChunkOptions, ChunkReport, CompiledGraph, ComputeGraph, FusePattern, FuseReport, MemoryReport,
    ScheduleOptions, ScheduleReport,
};
use crate::Result;
use crate::device::Device;
use crate::hal::Upcoming;
use crate::profile::{CompileTimes, Counters, Span};
use crate::usage::Uses;

/// Which passes a graph goes through.
#[derive(Debug, Clone, Copy)]
pub struct GraphOptions {
    /// Fuse what these patterns match. Default: none.
    pub fuse: &'static [FusePattern],
    /// Arrange the dispatches. Default: by levels. `None` keeps the recorded order.
    pub reorder: Option<ScheduleOptions>,
    /// Most bytes that the transient values may take. Default: no limit. Where the arrangement asked for takes more, others
    /// are tried that keep fewer values at a time, at the price of more groups ([`MemoryReport::extra_groups`]); without
    /// `reorder`, only splitting groups of the recorded order.
    pub memory_limit: Option<usize>,
    /// Cut into several submissions. Default: one.
    pub chunk: Option<ChunkOptions>,
    /// Note when each group of each run begins and ends. Costs two looks at the clock for each group and worker.
    /// Default: no.
    pub timing: bool,
}

impl Default for GraphOptions {
    fn default() -> Self {
        GraphOptions { reorder: Some(ScheduleOptions::default()), ..Self::recorded() }
    }
}

impl GraphOptions {
    /// No pass at all: the recorded order in one submission. Transient buffers still get their memory.
    pub const fn recorded() -> Self {
        GraphOptions { fuse: &[], reorder: None, memory_limit: None, chunk: None, timing: false }
    }
}

/// What each pass did; `None` for a pass that was not asked for.
#[derive(Debug, Clone, Default)]
pub struct PassReports {
    /// Fusing.
    pub fuse: Option<FuseReport>,
    /// Scheduling.
    pub schedule: Option<ScheduleReport>,
    /// Memory of transient buffers.
    pub memory: MemoryReport,
    /// Cutting into submissions.
    pub chunk: Option<ChunkReport>,
}

impl ComputeGraph {
    /// Puts the graph through the passes and gives its transient buffers memory on `device`: fuse, reorder, place,
    /// in this order. Nothing is encoded. The chunk pass runs at encoding.
    ///
    /// # Errors
    /// As [`place`](Self::place); [`Error::MemoryLimit`](crate::Error::MemoryLimit) if no arrangement found stays within the
    /// limit of memory.
    pub fn optimize(&self, device: &Device, options: &GraphOptions) -> Result<(ComputeGraph, PassReports)> {
        let mut reports = PassReports::default();
        let mut fused = None;
        if !options.fuse.is_empty() {
            let (graph, report) = self.fuse(device, options.fuse);
            reports.fuse = Some(report);
            fused = Some(graph);
        }
        let graph = fused.as_ref().unwrap_or(self);
        let mut arranged = None;
        let occupancy = |asked: ScheduleOptions| {
            let known = asked.occupancy.unwrap_or_else(|| device.info().occupancy());
            ScheduleOptions { occupancy: Some(known), ..asked }
        };
        let reorder = options.reorder.map(occupancy);
        if let Some(schedule) = &reorder {
            let (in_groups, report) = graph.reorder(schedule);
            reports.schedule = Some(report);
            arranged = Some(in_groups);
        }
        let mut plan = arranged.as_ref().unwrap_or(graph).plan_memory()?;
        let mut extra_groups = 0;
        if let Some(limit) = options.memory_limit
            && plan.report().peak_bytes > limit
        {
            let less = graph.within(limit, plan.report().peak_bytes, reorder.as_ref())?;
            let groups = reports.schedule.as_ref().map_or(less.schedule.groups_before, |asked| asked.groups);
            extra_groups = less.schedule.groups.saturating_sub(groups);
            reports.schedule = reorder.and(Some(less.schedule));
            (arranged, plan) = (Some(less.graph), less.plan);
        }
        let (placed, report) = arranged.as_ref().unwrap_or(graph).place_as(device, &plan)?;
        reports.memory = MemoryReport { extra_groups, ..report };
        Ok((placed, reports))
    }

    /// Puts the graph through the passes, allocates its memory, makes its kernels ready, resolves its arguments and
    /// encodes it, once, for being replayed any number of times.
    ///
    /// # Errors
    /// As [`optimize`](Self::optimize) and [`CommandEncoder::dispatch`](crate::CommandEncoder::dispatch).
    pub fn compile(&self, device: &Device, label: &str, options: &GraphOptions) -> Result<CompiledGraph> {
        let start = Instant::now();
        let (graph, mut reports) = self.optimize(device, options)?;
        let optimized = Instant::now();
        let parts = match &options.chunk {
            Some(chunk) => {
                let (parts, report) = graph.chunks(chunk);
                reports.chunk = Some(report);
                parts
            }
            None => std::iter::once(0..graph.len()).collect(),
        };
        graph.prepare(device)?;
        let mut recordings = Vec::with_capacity(parts.len());
        let mut uses = Uses::default();
        for node in graph.nodes() {
            uses.record(&node.dispatch().buffers()?, node.ranges());
        }
        let mut counters = Counters::default();
        let mut groups = Vec::new();
        for part in parts {
            let mut encoder = device.encoder(label)?;
            if options.timing {
                encoder.time_groups();
            }
            graph.encode_part(&mut encoder, part.clone())?;
            let recorded = encoder.record()?;
            counters += recorded.counters;
            recordings.push(recorded.recording);
            groups.push(ranges(&recorded.starts, part));
        }
        let times = CompileTimes {
            optimize: Span { start, end: optimized },
            encode: Span { start: optimized, end: Instant::now() },
        };
        let uses = uses.lasting();
        let encoded = Encoded { recordings, uses, counters, groups: options.timing.then_some(groups), times };
        Ok(CompiledGraph::new(device, label, graph, encoded, reports))
    }
}

impl ComputeGraph {
    /// Lets the device compile the kernels that the graph needs, several at a time, where that takes long.
    ///
    /// # Errors
    /// If the device asks for a kernel that cannot be made ready at all, or arguments do not fit their kernel.
    fn prepare(&self, device: &Device) -> Result<()> {
        let mut failed = Ok(());
        let mut upcoming = self.nodes().iter().map_while(|node| {
            let upcoming = node.dispatch().bind().and_then(|bound| {
                let pipeline = device.registry().pipeline(device.backend(), node.kernel())?;
                let (args, params) = (bound.resolved, bound.params);
                Ok(Upcoming { pipeline, args, params, grid: node.dispatch().threads() })
            });
            upcoming.map_err(|error| failed = Err(error)).ok()
        });
        device.backend().prepare(&mut upcoming);
        failed
    }
}

/// The nodes of each group of a part of a graph, from the places in the part where its groups begin.
fn ranges(starts: &[usize], part: Range<usize>) -> Vec<Range<usize>> {
    let ends = starts.iter().skip(1).map(|start| part.start + start).chain([part.end]);
    starts.iter().zip(ends).map(|(start, end)| part.start + start..end).collect()
}
