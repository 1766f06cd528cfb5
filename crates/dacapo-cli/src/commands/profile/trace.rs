//! The trace file: the Trace Event Format of Chromium, which Perfetto reads.

use std::collections::BTreeMap;
use std::time::Instant;

use dacapo::{GroupTime, ReplayTimes, Span};
use dacapo_lm::{Profile, ProfiledGraph, ProfiledNode};
use serde_json::{Value, json};

/// The one process of the trace.
const PROCESS: u32 = 1;
/// Tracks, as thread numbers.
const HOST: u32 = 1;
const DEVICE: u32 = 2;

/// The whole file. Events of one track nest or follow each other; they never overlap in part.
pub fn events(profile: &Profile) -> Value {
    let name = |what: &str, track: u32, name: &str| json!({"ph": "M", "pid": PROCESS, "tid": track, "name": what, "args": {"name": name}});
    let mut events = vec![
        name("process_name", HOST, "dacapo"),
        name("thread_name", HOST, "host"),
        name("thread_name", DEVICE, "device"),
    ];
    let writer = Writer { start: profile.start };
    for graph in &profile.graphs {
        writer.graph(graph, &mut events);
    }
    for run in &profile.runs {
        writer.run(&profile.graphs[run.graph], &run.times, &mut events);
    }
    json!({"displayTimeUnit": "ns", "traceEvents": events})
}

struct Writer {
    /// Time zero.
    start: Instant,
}

impl Writer {
    /// A complete event; times are in microseconds.
    fn event(&self, track: u32, name: &str, category: &str, span: Span, args: &Value) -> Value {
        let microseconds = |at: Instant| at.saturating_duration_since(self.start).as_nanos() as f64 / 1e3;
        let duration = span.duration().as_nanos() as f64 / 1e3;
        json!({
            "ph": "X", "pid": PROCESS, "tid": track, "name": name, "cat": category,
            "ts": microseconds(span.start), "dur": duration, "args": args,
        })
    }

    fn graph(&self, graph: &ProfiledGraph, events: &mut Vec<Value>) {
        let args = json!({"graph": graph.label, "dispatches": graph.nodes.len()});
        let compile = Span { start: graph.optimize.start, end: graph.encode.end };
        let phases = [
            ("record", graph.record),
            ("compile", compile),
            ("optimize", graph.optimize),
            ("encode", graph.encode),
        ];
        events.extend(phases.map(|(name, span)| self.event(HOST, name, "host", span, &args)));
    }

    fn run(&self, graph: &ProfiledGraph, times: &ReplayTimes, events: &mut Vec<Value>) {
        let args = json!({"graph": graph.label});
        events.push(self.event(HOST, "submit", "host", times.submit, &args));
        events.push(self.event(HOST, "wait", "host", times.wait, &args));
        for part in times.groups.chunk_by(|a, b| a.submission == b.submission) {
            events.push(self.submission(graph, part));
            events.extend(part.iter().map(|group| self.group(graph, group)));
        }
    }

    /// The groups of one submission, of which there is at least one.
    fn submission(&self, graph: &ProfiledGraph, groups: &[GroupTime]) -> Value {
        let (first, last) = (&groups[0], &groups[groups.len() - 1]);
        let dispatches = groups.iter().map(|group| group.nodes.len()).sum::<usize>();
        let args = json!({"submission": first.submission, "groups": groups.len(), "dispatches": dispatches});
        let span = Span { start: first.span.start, end: last.span.end };
        self.event(DEVICE, graph.label, "submission", span, &args)
    }

    fn group(&self, graph: &ProfiledGraph, group: &GroupTime) -> Value {
        let nodes = &graph.nodes[group.nodes.clone()];
        let mut kernels = BTreeMap::<&str, usize>::new();
        for node in nodes {
            *kernels.entry(node.kernel).or_default() += 1;
        }
        let mut kinds = nodes.iter().map(|node| node.kind).collect::<Vec<_>>();
        kinds.sort_unstable();
        kinds.dedup();
        let kinds = kinds.into_iter().map(|kind| kind.name()).collect::<Vec<_>>();
        let sum = |bytes: fn(&ProfiledNode) -> u64| nodes.iter().map(bytes).sum::<u64>();
        let args = json!({
            "group": group.group, "kinds": kinds, "kernels": kernels,
            "bytes_read": sum(|node| node.bytes_read), "bytes_written": sum(|node| node.bytes_written),
        });
        self.event(DEVICE, &kinds.join(", "), "group", group.span, &args)
    }
}
