//! `dacapo profile`: the trace holds together, and what cannot be is refused.

mod common;

use common::run;
use serde_json::Value;

/// Runs the verb and returns its table and its trace.
fn profile(args: &[&str]) -> (String, Value) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("trace.json");
    let output = run(&[&["profile", "--out", out.to_str().unwrap()], args].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let trace = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    (String::from_utf8(output.stdout).unwrap(), trace)
}

struct Event {
    name: String,
    category: String,
    /// In microseconds.
    start: f64,
    end: f64,
    args: Value,
}

/// The complete events of the track with this name.
fn track(trace: &Value, name: &str) -> Vec<Event> {
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |event: &&Value| event["name"] == "thread_name" && event["args"]["name"] == name;
    let track = &events.iter().find(named).unwrap()["tid"];
    let events = events.iter().filter(|event| event["ph"] == "X" && event["tid"] == *track);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events
        .map(|event| {
            let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
            assert!(start >= 0.0 && length >= 0.0);
            let (name, category, args) = (text(&event["name"]), text(&event["cat"]), event["args"].clone());
            Event { name, category, start, end: start + length, args }
        })
        .collect()
}

/// Half of the clock's nanosecond, in microseconds: what rounding may do.
const ROUNDING: f64 = 5e-4;

/// Two events of a track lie one in the other, or one after the other.
fn check_nesting(events: &[Event]) {
    for (index, a) in events.iter().enumerate() {
        for b in &events[index + 1..] {
            let apart = a.end <= b.start + ROUNDING || b.end <= a.start + ROUNDING;
            let inside = |a: &Event, b: &Event| a.start <= b.start + ROUNDING && b.end <= a.end + ROUNDING;
            assert!(apart || inside(a, b) || inside(b, a), "{} and {}", a.name, b.name);
        }
    }
}

#[test]
fn a_trace_holds_together() {
    let (_, trace) = profile(&["--tokens", "20", "-n", "4", "--threads", "2"]);
    let (host, device) = (track(&trace, "host"), track(&trace, "device"));
    check_nesting(&host);
    check_nesting(&device);
    for name in ["record", "compile", "optimize", "encode", "submit", "wait"] {
        assert!(host.iter().any(|event| event.name == name), "{name}");
    }
    let submissions: Vec<_> = device.iter().filter(|event| event.category == "submission").collect();
    let names: Vec<_> = submissions.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["prefill", "sample", "decode", "decode", "decode", "decode"]);
    let groups: Vec<_> = device.iter().filter(|event| event.category == "group").collect();
    for submission in &submissions {
        let inside: Vec<_> = groups
            .iter()
            .filter(|g| submission.start <= g.start && g.end <= submission.end + ROUNDING)
            .collect();
        assert_eq!(submission.args["groups"], inside.len());
        let kernels = |group: &Event| -> u64 {
            group.args["kernels"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
        };
        assert_eq!(submission.args["dispatches"], inside.iter().map(|group| kernels(group)).sum::<u64>());
    }
    assert_eq!(host.iter().filter(|event| event.name == "submit").count(), submissions.len());
    let weights: u64 = groups.iter().map(|group| group.args["bytes_read"].as_u64().unwrap()).sum();
    assert!(weights > 5 * 2_000_000, "each pass reads the weights: {weights}");
}

#[test]
fn the_table_adds_up() {
    let (table, _) = profile(&["--prompt", "Once upon a time", "-n", "3"]);
    assert!(table.starts_with("demo on cpu"), "{table}");
    assert!(table.contains("4 tokens read, 3 steps"), "{table}");
    for stage in ["prefill x 1", "sample x 1", "decode x 3"] {
        let rows: Vec<_> = table.lines().filter(|line| line.starts_with(stage)).collect();
        // The number before " %", which is the first of a row's two.
        let share = |row: &&str| -> f64 {
            row.split(" %").next().unwrap().split_whitespace().last().unwrap().parse().unwrap()
        };
        let (all, parts) = rows.split_last().unwrap();
        assert!(all.contains("(all)"), "{table}");
        let sum = parts.iter().map(share).sum::<f64>();
        // Each share is rounded to a tenth.
        assert!((sum - share(all)).abs() <= 0.05 * (parts.len() + 1) as f64, "{stage}: {sum}\n{table}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("trace.json");
    let out = out.to_str().unwrap();
    let refusal = |args: &[&str]| {
        let output = run(&[&["profile", "--out", out], args].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap().lines().last().unwrap().to_owned()
    };
    assert_eq!(
        refusal(&["--tokens", "1020", "-n", "5"]),
        "dacapo: profile: expected a prompt and steps that fit the context of 1024 tokens, found 1020 and 5"
    );
    assert_eq!(
        refusal(&["--prompt", ""]),
        "dacapo: prompt: expected at least one token, found an empty text"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    assert_eq!(run(&["profile"]).status.code(), Some(2), "without a place for the trace");
    let both = ["profile", "--out", out, "--prompt", "a", "--tokens", "3"];
    assert_eq!(run(&both).status.code(), Some(2));
}

#[test]
fn the_processor_is_not_captured() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (out, file) = (path("trace.json"), path("steps.gputrace"));
    let profile = ["profile", "--device", "cpu", "--tokens", "4", "-n", "1"];
    let output = run(&[&profile[..], &["--out", &out, "--capture", &file]].concat());
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("dacapo: cannot capture to {file}: only Metal devices can be captured, and this one is cpu");
    assert_eq!(error.lines().last().unwrap(), expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}
