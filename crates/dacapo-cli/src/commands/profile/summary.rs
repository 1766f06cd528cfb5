//! The table of `dacapo profile`: time and bytes for each kind of work.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use dacapo::{GroupTime, OpKind};
use dacapo_lm::{Profile, ProfiledGraph, ProfiledNode};

use crate::open::Opened;
use crate::table::{Align, Table};
use crate::units;

/// What one kind of work took, over all runs of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Work {
    dispatches: usize,
    /// Bytes that they touched.
    bytes: u64,
    /// Seconds: their shares of the times of their groups.
    time: f64,
}

impl Work {
    fn add(&mut self, more: &Work) {
        self.dispatches += more.dispatches;
        self.bytes += more.bytes;
        self.time += more.time;
    }
}

/// One stage of the generation: all runs of the graphs with one label.
#[derive(Debug, PartialEq)]
struct Stage {
    label: &'static str,
    runs: usize,
    kinds: BTreeMap<OpKind, Work>,
    /// Seconds from the begin of each run's first group to the end of its last, together.
    device: f64,
}

impl Stage {
    fn total(&self) -> Work {
        let mut total = Work::default();
        self.kinds.values().for_each(|work| total.add(work));
        total
    }
}

/// All that is printed.
pub struct Summary {
    heading: String,
    stages: Vec<Stage>,
    host: [(&'static str, Duration); 4],
    /// Bytes per second that memory gives.
    bandwidth: f64,
}

impl Summary {
    /// The summary of a profile of `prompt` tokens on a machine whose memory gives `bandwidth` bytes per second.
    pub fn new(opened: &Opened, prompt: usize, profile: &Profile, bandwidth: f64) -> Self {
        let info = opened.model.device().info();
        let steps = profile.tokens.len().saturating_sub(1);
        let heading = format!(
            "{} on {} with {} threads: {prompt} tokens read, {steps} steps",
            opened.name,
            info.backend.name(),
            info.threads
        );
        Summary { heading, stages: stages(profile), host: host(profile), bandwidth }
    }
}

/// The stages in the order of their first runs.
fn stages(profile: &Profile) -> Vec<Stage> {
    let mut stages = Vec::<Stage>::new();
    for run in &profile.runs {
        let graph = &profile.graphs[run.graph];
        let index = stages.iter().position(|stage| stage.label == graph.label).unwrap_or_else(|| {
            stages.push(Stage { label: graph.label, runs: 0, kinds: BTreeMap::new(), device: 0.0 });
            stages.len() - 1
        });
        let stage = &mut stages[index];
        stage.runs += 1;
        stage.device += run.times.device().map_or(0.0, |span| span.duration().as_secs_f64());
        for group in &run.times.groups {
            divide(graph, group, &mut stage.kinds);
        }
    }
    stages
}

/// Divides a group's time among its dispatches by their bytes; evenly, if they touch none.
fn divide(graph: &ProfiledGraph, group: &GroupTime, kinds: &mut BTreeMap<OpKind, Work>) {
    let nodes = &graph.nodes[group.nodes.clone()];
    let bytes = |node: &ProfiledNode| node.bytes_read + node.bytes_written;
    let all = nodes.iter().map(bytes).sum::<u64>();
    let time = group.span.duration().as_secs_f64();
    for node in nodes {
        let share = if all == 0 { 1.0 / nodes.len() as f64 } else { bytes(node) as f64 / all as f64 };
        let work = Work { dispatches: 1, bytes: bytes(node), time: time * share };
        kinds.entry(node.kind).or_default().add(&work);
    }
}

/// Time that the host spent on each of its tasks.
fn host(profile: &Profile) -> [(&'static str, Duration); 4] {
    let (graphs, runs) = (&profile.graphs, &profile.runs);
    [
        ("record", graphs.iter().map(|graph| graph.record.duration()).sum()),
        ("compile", graphs.iter().map(|graph| graph.optimize.duration() + graph.encode.duration()).sum()),
        ("submit", runs.iter().map(|run| run.times.submit.duration()).sum()),
        ("wait", runs.iter().map(|run| run.times.wait.duration()).sum()),
    ]
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.3}", 1e3 * seconds)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\nmemory: {}/s read\n", self.heading, units::bytes(self.bandwidth as u64))?;
        let mut table = Table::new(&[
            ("stage", Align::Left),
            ("kind", Align::Left),
            ("dispatches", Align::Right),
            ("ms", Align::Right),
            ("share", Align::Right),
            ("bytes", Align::Right),
            ("GB/s", Align::Right),
            ("of memory speed", Align::Right),
        ]);
        for stage in &self.stages {
            let mut kinds = stage.kinds.iter().collect::<Vec<_>>();
            kinds.sort_by(|(_, a), (_, b)| b.time.total_cmp(&a.time));
            for (kind, work) in kinds {
                table.row(self.cells(stage, kind.name(), work));
            }
            let total = stage.total();
            let between = Work { time: (stage.device - total.time).max(0.0), ..Work::default() };
            table.row(self.cells(stage, "(between groups)", &between));
            table.row(self.cells(stage, "(all)", &Work { time: stage.device, ..total }));
        }
        writeln!(f, "{table}")?;
        let host = self.host.map(|(task, time)| format!("{task} {}", milliseconds(time.as_secs_f64())));
        writeln!(f, "host, in ms: {}", host.join(", "))
    }
}

impl Summary {
    fn cells(&self, stage: &Stage, kind: &str, work: &Work) -> [String; 8] {
        let rate = if work.time > 0.0 { work.bytes as f64 / work.time } else { 0.0 };
        let share = if stage.device > 0.0 { 100.0 * work.time / stage.device } else { 0.0 };
        let or_empty = |text: String| if work.bytes > 0 { text } else { String::new() };
        [
            format!("{} x {}", stage.label, stage.runs),
            kind.to_string(),
            or_empty(work.dispatches.to_string()),
            milliseconds(work.time),
            format!("{share:.1} %"),
            or_empty(units::bytes(work.bytes)),
            or_empty(units::digits(rate / 1e9)),
            or_empty(format!("{:.0} %", 100.0 * rate / self.bandwidth)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use dacapo::Span;

    use super::*;

    fn node(kind: OpKind, bytes: u64) -> ProfiledNode {
        ProfiledNode { kind, kernel: "kernel", bytes_read: bytes, bytes_written: 0 }
    }

    fn divided(nodes: Vec<ProfiledNode>) -> BTreeMap<OpKind, Work> {
        let start = Instant::now();
        let span = Span { start, end: start + Duration::from_secs(4) };
        let group = GroupTime { submission: 0, group: 0, nodes: 0..nodes.len(), span };
        let graph = ProfiledGraph { label: "decode", record: span, optimize: span, encode: span, nodes };
        let mut kinds = BTreeMap::new();
        divide(&graph, &group, &mut kinds);
        kinds
    }

    #[test]
    fn a_groups_time_is_divided_by_bytes() {
        let kinds = divided(vec![node(OpKind::Matmul, 10), node(OpKind::Norm, 10), node(OpKind::Matmul, 20)]);
        assert_eq!(kinds[&OpKind::Matmul], Work { dispatches: 2, bytes: 30, time: 3.0 });
        assert_eq!(kinds[&OpKind::Norm], Work { dispatches: 1, bytes: 10, time: 1.0 });
    }

    #[test]
    fn dispatches_without_bytes_share_evenly() {
        let kinds = divided(vec![node(OpKind::Matmul, 0), node(OpKind::Norm, 0)]);
        assert_eq!((kinds[&OpKind::Matmul].time, kinds[&OpKind::Norm].time), (2.0, 2.0));
    }
}
