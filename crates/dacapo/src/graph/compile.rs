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
use crate::profile::{CompileTimes, Counters, Span};
use crate::usage::Uses;

/// Which passes a graph goes through.
#[derive(Debug, Clone, Copy)]
pub struct GraphOptions {
    /// Fuse what these patterns match. Default: none.
    pub fuse: &'static [FusePattern],
    /// Arrange the dispatches. Default: by levels. `None` keeps the recorded order.
    pub reorder: Option<ScheduleOptions>,
    /// Cut into several submissions. Default: one.
    pub chunk: Option<ChunkOptions>,
    /// Note when each group of each run begins and ends. Costs two looks at the clock for each group and worker.
    /// Default: no.
    pub timing: bool,
}

impl Default for GraphOptions {
    fn default() -> Self {
        GraphOptions { fuse: &[], reorder: Some(ScheduleOptions::default()), chunk: None, timing: false }
    }
}

impl GraphOptions {
    /// No pass at all: the recorded order in one submission. Transient buffers still get their memory.
    pub const fn recorded() -> Self {
        GraphOptions { fuse: &[], reorder: None, chunk: None, timing: false }
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
    /// As [`place`](Self::place).
    pub fn optimize(&self, device: &Device, options: &GraphOptions) -> Result<(ComputeGraph, PassReports)> {
        let mut reports = PassReports::default();
        let mut graph = None;
        if !options.fuse.is_empty() {
            let (fused, report) = self.fuse(device, options.fuse);
            reports.fuse = Some(report);
            graph = Some(fused);
        }
        if let Some(schedule) = &options.reorder {
            let (arranged, report) = graph.as_ref().unwrap_or(self).reorder(schedule);
            reports.schedule = Some(report);
            graph = Some(arranged);
        }
        let (placed, report) = graph.as_ref().unwrap_or(self).place(device)?;
        reports.memory = report;
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
        let encoded = Encoded { recordings, uses, counters, groups: options.timing.then_some(groups), times };
        Ok(CompiledGraph::new(device, label, graph, encoded, reports))
    }
}

/// The nodes of each group of a part of a graph, from the places in the part where its groups begin.
fn ranges(starts: &[usize], part: Range<usize>) -> Vec<Range<usize>> {
    let ends = starts.iter().skip(1).map(|start| part.start + start).chain([part.end]);
    starts.iter().zip(ends).map(|(start, end)| part.start + start..end).collect()
}
