//! What there is to draw: operations in their groups, what waits for what, and the report.

use std::path::Path;

use dacapo::{ComputeGraph, Hazard, OpKind, PassReports};
use serde::Serialize;

use crate::units;

/// An arranged graph, ready to be written in any format.
#[derive(Debug, Serialize)]
pub struct Picture {
    #[serde(flatten)]
    pub origin: Origin,
    pub report: Report,
    /// The operations in order; those of a group follow each other.
    pub nodes: Vec<Node>,
}

/// Which pass of which model.
#[derive(Debug, Serialize)]
pub struct Origin {
    pub model: String,
    pub stage: &'static str,
    pub length: usize,
    /// "recorded" or "optimized".
    pub order: &'static str,
}

/// What the passes came to.
#[derive(Debug, Serialize)]
pub struct Report {
    pub dispatches: usize,
    pub groups: usize,
    /// Operations in the longest chain: no order has fewer groups.
    pub lower_bound: usize,
    /// Bytes that all groups touch.
    pub bytes: u64,
    /// Size of the arena that the activations share.
    pub activation_bytes: usize,
    /// What the activations would take without sharing.
    pub activation_bytes_sum: usize,
    /// Operations made of several.
    pub fusions: usize,
    /// Operations that are not where they were recorded.
    pub moved: usize,
}

/// An operation.
#[derive(Debug, Serialize)]
pub struct Node {
    /// Its place in the list.
    pub index: usize,
    pub kind: &'static str,
    pub kernel: &'static str,
    pub group: usize,
    /// Read and written.
    pub bytes: u64,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Its place in the recording.
    pub recorded: usize,
    /// The operations that it waits for directly, by index.
    pub dependencies: Vec<usize>,
    /// Those that are not implied by others, for drawing.
    #[serde(skip)]
    pub edges: Vec<Edge>,
    #[serde(skip)]
    pub op: OpKind,
}

/// A line of the drawing.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub from: usize,
    /// The later reads what the earlier writes; if not, it only writes over memory that the earlier uses.
    pub flow: bool,
}

impl Origin {
    /// The model without the folders that it lies in.
    pub fn name(&self) -> String {
        let name = Path::new(&self.model).file_name();
        name.map_or_else(|| self.model.clone(), |name| name.to_string_lossy().into_owned())
    }
}

impl Picture {
    /// A scheduled graph and what the passes said of it.
    pub fn new(origin: Origin, graph: &ComputeGraph, reports: &PassReports) -> Self {
        let order = graph.dependencies();
        // A graph that no pass has arranged runs one by one.
        let groups = graph.groups().unwrap_or_else(|| (0..graph.len()).map(|node| node..node + 1).collect());
        let mut group_of = vec![0; graph.len()];
        groups.iter().enumerate().for_each(|(group, nodes)| group_of[nodes.clone()].fill(group));
        let before: Vec<&[(usize, Hazard)]> = (0..graph.len()).map(|node| order.before(node)).collect();
        let nodes: Vec<Node> = std::iter::zip(graph.nodes(), reduce(&before))
            .enumerate()
            .map(|(index, (node, edges))| Node {
                index,
                kind: node.kind().name(),
                kernel: node.kernel().name,
                group: group_of[index],
                bytes: node.bytes_read() + node.bytes_written(),
                bytes_read: node.bytes_read(),
                bytes_written: node.bytes_written(),
                recorded: node.recorded(),
                dependencies: before[index].iter().map(|&(from, _)| from).collect(),
                edges,
                op: node.kind(),
            })
            .collect();
        let schedule = reports.schedule.as_ref();
        let report = Report {
            dispatches: graph.len(),
            groups: groups.len(),
            lower_bound: schedule.map_or(order.depth(), |report| report.lower_bound),
            bytes: nodes.iter().map(|node| node.bytes).sum(),
            activation_bytes: reports.memory.peak_bytes,
            activation_bytes_sum: reports.memory.sum_bytes,
            fusions: reports.fuse.as_ref().map_or(0, |report| report.fused.len()),
            moved: schedule.map_or(0, |report| report.moved),
        };
        Picture { origin, report, nodes }
    }

    /// The operations of each group.
    pub fn groups(&self) -> impl Iterator<Item = &[Node]> {
        self.nodes.chunk_by(|a, b| a.group == b.group)
    }

    /// The kinds that occur, in the order of their first operation.
    pub fn kinds(&self) -> Vec<OpKind> {
        let mut kinds = Vec::new();
        for node in &self.nodes {
            if !kinds.contains(&node.op) {
                kinds.push(node.op);
            }
        }
        kinds
    }

    /// What is drawn: "demo: decode at 128 tokens, optimized".
    pub fn title(&self) -> String {
        let Origin { stage, length, order, .. } = &self.origin;
        let model = self.origin.name();
        let preposition = if *stage == "decode" { "at" } else { "of" };
        let plural = if *length == 1 { "" } else { "s" };
        format!("{model}: {stage} {preposition} {length} token{plural}, {order}")
    }

    /// The report, as short statements.
    pub fn facts(&self) -> Vec<String> {
        let report = &self.report;
        vec![
            format!("{} dispatches in {} groups", report.dispatches, report.groups),
            format!("longest chain {}", report.lower_bound),
            format!("{} moved", report.moved),
            format!("{} fused", report.fusions),
            format!("{} touched", units::bytes(report.bytes)),
            format!(
                "activations {} (unshared {})",
                units::bytes(report.activation_bytes as u64),
                units::bytes(report.activation_bytes_sum as u64)
            ),
        ]
    }
}

impl Node {
    /// Everything about it, one statement a line.
    pub fn details(&self) -> String {
        let mut lines = format!(
            "{} {} ({})\ngroup {}, recorded as {}\nreads {}, writes {}",
            self.index,
            self.kernel,
            self.kind,
            self.group,
            self.recorded,
            units::bytes(self.bytes_read),
            units::bytes(self.bytes_written)
        );
        if !self.dependencies.is_empty() {
            let list: Vec<String> = self.dependencies.iter().map(usize::to_string).collect();
            lines += &format!("\nwaits for {}", list.join(", "));
        }
        lines
    }
}

/// A kind's fill colour: light, so that dark text can be read on it.
pub fn colour(kind: OpKind) -> &'static str {
    match kind {
        OpKind::Norm => "#c5def5",
        OpKind::Matmul => "#f8c9a4",
        OpKind::Quantize => "#e6d3a1",
        OpKind::Attention => "#f4b0c0",
        OpKind::Rope => "#dccbf3",
        OpKind::KvWrite => "#bcb2e8",
        OpKind::Softmax => "#f0bfe0",
        OpKind::Activation => "#c8e8b8",
        OpKind::Elementwise => "#a9e0d3",
        OpKind::Embed => "#dfe29a",
        OpKind::Sample => "#f9e27d",
        OpKind::Copy => "#d6d6d6",
        _ => "#eeeeee",
    }
}

/// Text between tags or in an attribute of XML or HTML.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // XML has no way to write them.
            control if control.is_control() && !matches!(control, '\n' | '\t') => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// For every node the direct dependencies that are not paths of others (transitive reduction). Dependencies point
/// to nodes before.
fn reduce(before: &[&[(usize, Hazard)]]) -> Vec<Vec<Edge>> {
    let words = before.len().div_ceil(64);
    // One bit for each node that must run before.
    let mut ancestors: Vec<Vec<u64>> = Vec::with_capacity(before.len());
    let mut reduced = Vec::with_capacity(before.len());
    for list in before {
        let mut mine = vec![0; words];
        let mut edges = Vec::new();
        let mut latest_first = list.to_vec();
        latest_first.sort_unstable_by_key(|&(from, _)| std::cmp::Reverse(from));
        // A path to a node can only lead through later ones, which have been seen by then.
        for (from, hazard) in latest_first {
            if mine[from / 64] >> (from % 64) & 1 == 0 {
                edges.push(Edge { from, flow: hazard == Hazard::ReadAfterWrite });
                mine[from / 64] |= 1 << (from % 64);
                mine.iter_mut().zip(&ancestors[from]).for_each(|(word, other)| *word |= other);
            }
        }
        ancestors.push(mine);
        reduced.push(edges);
    }
    reduced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_imply_is_not_drawn() {
        let raw = Hazard::ReadAfterWrite;
        let lists = [
            vec![],
            vec![(0, raw)],
            vec![(0, raw), (1, raw)],
            vec![(0, raw)],
            vec![(2, raw), (3, raw), (1, raw)],
        ];
        let before: Vec<&[(usize, Hazard)]> = lists.iter().map(Vec::as_slice).collect();
        let drawn: Vec<Vec<usize>> =
            reduce(&before).iter().map(|edges| edges.iter().map(|edge| edge.from).collect()).collect();
        assert_eq!(drawn, [vec![], vec![0], vec![1], vec![0], vec![3, 2]]);
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("a<b>&\"c\u{1}"), "a&lt;b&gt;&amp;&quot;c\u{fffd}");
    }
}
