//! The verb graph: pictures of forward passes.

mod common;

use common::{dacapo, failure, json, repository_path, run, text};
use serde_json::Value;
use std::io::Read;
use std::process::Stdio;

fn number(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

/// Checks that a graph in JSON agrees with itself, and gives its groups and its lower bound.
fn check(graph: &Value) -> (usize, usize) {
    let (report, nodes) = (&graph["report"], graph["nodes"].as_array().unwrap());
    assert_eq!(number(&report["dispatches"]), nodes.len());
    let group = |node: &Value| number(&node["group"]);
    let mut last = 0;
    for (index, node) in nodes.iter().enumerate() {
        assert_eq!(number(&node["index"]), index);
        assert!((last..=last + 1).contains(&group(node)), "groups follow each other");
        last = group(node);
        for from in node["dependencies"].as_array().unwrap() {
            assert!(group(&nodes[number(from)]) < group(node), "{node}");
        }
        assert!(!node["kind"].as_str().unwrap().is_empty() && !node["kernel"].as_str().unwrap().is_empty());
        assert_eq!(number(&node["bytes"]), number(&node["bytes_read"]) + number(&node["bytes_written"]));
    }
    let groups = number(&report["groups"]);
    assert_eq!(groups, last + 1);
    assert_eq!(number(&report["bytes"]), nodes.iter().map(|node| number(&node["bytes"])).sum::<usize>());
    assert!(number(&report["activation_bytes"]) > 0);
    assert!(number(&report["activation_bytes"]) <= number(&report["activation_bytes_sum"]));
    assert!(number(&report["moved"]) <= nodes.len());
    assert!(report["fusions"].is_u64());
    // Who was recorded where: each place at most once.
    let mut recorded: Vec<usize> = nodes.iter().map(|node| number(&node["recorded"])).collect();
    recorded.sort_unstable();
    recorded.dedup();
    assert_eq!(recorded.len(), nodes.len());
    (groups, number(&report["lower_bound"]))
}

/// Tags of an XML or HTML text: every one that opens is closed, in order. Gives how many there are of each name.
fn well_formed(text: &str) -> std::collections::HashMap<String, usize> {
    let mut open: Vec<&str> = Vec::new();
    let mut count = std::collections::HashMap::new();
    for part in text.split('<').skip(1) {
        let (tag, after) = part.split_once('>').expect("a tag ends");
        assert!(!after.contains('>'), "{part}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{part}");
        } else if !tag.starts_with('!') {
            let name = tag.split([' ', '/']).next().unwrap();
            *count.entry(name.to_string()).or_insert(0) += 1;
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    count
}

#[test]
fn the_json_agrees_with_itself_and_optimizing_never_adds_groups() {
    for stage in ["decode", "prefill"] {
        let after = json(&["graph", "--stage", stage, "--format", "json"]);
        let before = json(&["graph", "--stage", stage, "--format", "json", "--before"]);
        let ((groups, bound), (groups_before, bound_before)) = (check(&after), check(&before));
        assert!(groups_before >= groups && groups >= bound, "{groups_before} {groups} {bound}");
        assert!(groups_before >= bound_before);
        assert_eq!((&after["order"], &before["order"]), (&"optimized".into(), &"recorded".into()));
        assert_eq!((&after["stage"], &after["length"]), (&stage.into(), &128.into()));
        assert_eq!(before["report"]["moved"], 0);
        let in_order =
            before["nodes"].as_array().unwrap().iter().all(|node| node["recorded"] == node["index"]);
        assert!(in_order);
    }
}

/// The picture of a pass has the fused operations, the one before has what they were made of.
#[test]
fn fusions_are_counted_and_shown() {
    for stage in ["decode", "prefill"] {
        let after = json(&["graph", "--stage", stage, "--format", "json"]);
        let before = json(&["graph", "--stage", stage, "--format", "json", "--before"]);
        let of = |graph: &Value, what: &str| number(&graph["report"][what]);
        let has = |graph: &Value, kernel: &str| {
            graph["nodes"].as_array().unwrap().iter().any(|node| node["kernel"] == kernel)
        };
        let fusions = of(&after, "fusions");
        assert!(fusions > 0 && of(&before, "fusions") == 0);
        assert!(of(&after, "dispatches") + fusions <= of(&before, "dispatches"));
        assert!(of(&after, "groups") < of(&before, "groups"));
        assert!(has(&after, "gated_q8") && !has(&after, "gated"));
        assert!(has(&before, "gated") && !has(&before, "gated_q8"));
        let svg = text(&["graph", "--stage", stage]);
        assert!(svg.contains(&format!("{fusions} fused")));
        assert!(text(&["graph", "--stage", stage, "--before"]).contains("0 fused"));
    }
}

#[test]
fn the_length_is_that_of_the_context_if_this_is_shorter() {
    let graph = json(&["graph", "--format", "json", "--context", "16"]);
    assert_eq!(graph["length"], 16);
}

#[test]
fn a_longer_prefill_touches_more() {
    let bytes = |length: &str| {
        number(
            &json(&["graph", "--stage", "prefill", "--length", length, "--format", "json"])["report"]["bytes"],
        )
    };
    assert!(bytes("64") > bytes("8"));
}

#[test]
fn a_picture_has_a_box_for_each_operation() {
    for extra in [&[][..], &["--before"], &["--stage", "prefill", "--length", "1"]] {
        let dispatches =
            number(&json(&[&["graph", "--format", "json"], extra].concat())["report"]["dispatches"]);
        let svg = text(&[&["graph"], extra].concat());
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        let tags = well_formed(&svg);
        assert_eq!((tags["title"], tags["svg"]), (dispatches, 1));
        assert!(svg.contains(&format!("{dispatches} dispatches in ")));
    }
}

#[test]
fn a_page_has_both_pictures_and_needs_nothing_else() {
    let html = text(&["graph", "--format", "html"]);
    let tags = well_formed(&html);
    assert_eq!((tags["svg"], tags["table"], tags["html"]), (2, 1, 1));
    for outside in ["src=", "href=", "@import", "<script"] {
        assert!(!html.contains(outside), "{outside}");
    }
    let [before, after] = [&["--before"][..], &[]].map(|extra| text(&[&["graph"], extra].concat()));
    assert!(html.contains(&before) && html.contains(&after));
}

#[test]
fn the_dot_file_has_a_cluster_for_each_group() {
    let report = &json(&["graph", "--format", "json"])["report"];
    let dot = text(&["graph", "--format", "dot"]);
    assert!(dot.starts_with("digraph"));
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    assert_eq!(dot.matches("subgraph cluster_").count(), number(&report["groups"]));
    assert_eq!(dot.matches("fillcolor=").count(), number(&report["dispatches"]));
    assert!(dot.contains(" -> "));
}

#[test]
fn a_file_gets_what_standard_output_would() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("graph.svg");
    let model = repository_path("models/demo/mlx");
    assert_eq!(text(&["graph", "--model", &model, "--out", out.to_str().unwrap()]), "");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), text(&["graph", "--model", &model]));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let line = failure(&run(&["graph", "--out", folder.path().to_str().unwrap()]));
    assert!(line.starts_with(&format!("dacapo: {}: ", folder.path().display())), "{line}");
}

#[test]
fn wrong_arguments_are_refused() {
    let wrong: [&[&str]; 4] =
        [&["--stage", "encode"], &["--length", "0"], &["--length", "x"], &["--format", "png"]];
    for args in wrong {
        let output = run(&[&["graph"], args].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    }
    for stage in ["decode", "prefill"] {
        let line = failure(&run(&["graph", "--stage", stage, "--length", "1025"]));
        assert_eq!(line, "dacapo: prompt of 1025 tokens does not fit the context of 1024 tokens");
    }
    let line = failure(&run(&["graph", "--model", "no/such/model"]));
    assert!(line.starts_with("dacapo: no/such/model: No such file"), "{line}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let args = ["graph", "--format", "html"];
    let mut child = dacapo(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    // More than a pipe holds, so that the write meets the closed end.
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn the_help_shows_examples() {
    assert!(text(&["graph", "--help"]).contains("Examples:\n  dacapo graph"));
}
