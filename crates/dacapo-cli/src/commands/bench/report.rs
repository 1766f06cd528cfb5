//! What `dacapo bench` prints.

use std::fmt;

use serde::Serialize;

use super::measure::{Kind, Measured};
use crate::open::Opened;
use crate::table::{Align, Table};
use crate::units;

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    architecture: String,
    device: &'static str,
    device_name: String,
    threads: usize,
    repeat: usize,
    weight_bytes: u64,
    load_s: f64,
    peak_memory_bytes: Option<u64>,
    memory_bytes_per_second: f64,
    tests: Vec<Row>,
}

/// A test's speeds, in tokens per second.
#[derive(Debug, Serialize)]
struct Row {
    test: &'static str,
    tokens: usize,
    depth: usize,
    #[serde(skip)]
    label: String,
    median: f64,
    min: f64,
    max: f64,
    /// What one token must read; only where every token reads the weights anew.
    bytes_per_token: Option<u64>,
    share_of_memory_speed: Option<f64>,
}

impl Report {
    /// The report of these measurements.
    pub fn new(
        opened: &Opened,
        repeat: usize,
        peak_memory: Option<u64>,
        bandwidth: f64,
        results: &[Measured],
    ) -> Self {
        let model = &opened.model;
        let (info, footprint) = (model.device().info(), model.footprint());
        let row = |measured: &Measured| {
            let test = measured.test;
            let bytes = (test.kind == Kind::Generation).then(|| {
                let middle = (test.depth + test.tokens / 2) as u64;
                footprint.bytes_per_token + middle * footprint.kv_bytes_per_position + footprint.state_bytes
            });
            Row::new(measured, bytes, bandwidth)
        };
        Report {
            model: opened.name.clone(),
            architecture: model.config().architecture.clone(),
            device: info.backend.name(),
            device_name: info.name.clone(),
            threads: info.threads,
            repeat,
            weight_bytes: footprint.weight_bytes,
            load_s: opened.load.as_secs_f64(),
            peak_memory_bytes: peak_memory,
            memory_bytes_per_second: bandwidth,
            tests: results.iter().map(row).collect(),
        }
    }
}

impl Row {
    fn new(measured: &Measured, bytes_per_token: Option<u64>, bandwidth: f64) -> Self {
        let mut sorted = measured.speeds.clone();
        sorted.sort_by(f64::total_cmp);
        let median = median(&sorted);
        Row {
            test: match measured.test.kind {
                Kind::Prompt => "prompt",
                Kind::Generation => "generation",
            },
            tokens: measured.test.tokens,
            depth: measured.test.depth,
            label: measured.test.to_string(),
            median,
            min: sorted.first().copied().unwrap_or_default(),
            max: sorted.last().copied().unwrap_or_default(),
            bytes_per_token,
            share_of_memory_speed: bytes_per_token.map(|bytes| bytes as f64 * median / bandwidth),
        }
    }
}

/// The middle of sorted values, or the mean of the two in the middle; 0 of none.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted {
        [] => 0.0,
        _ if sorted.len().is_multiple_of(2) => (sorted[half - 1] + sorted[half]) / 2.0,
        _ => sorted[half],
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peak = self.peak_memory_bytes.map_or_else(|| "unknown".into(), units::bytes);
        writeln!(
            f,
            "model    {} ({}), {} of weights",
            self.model,
            self.architecture,
            units::bytes(self.weight_bytes)
        )?;
        writeln!(f, "device   {}: {}, {} threads", self.device, self.device_name, self.threads)?;
        writeln!(
            f,
            "memory   {}/s read; peak of the process {peak}",
            units::bytes(self.memory_bytes_per_second as u64)
        )?;
        writeln!(f, "load     {:.2} s\n", self.load_s)?;
        let mut table = Table::new(&[
            ("test", Align::Left),
            ("tokens/s", Align::Right),
            ("min", Align::Right),
            ("max", Align::Right),
            ("bytes/token", Align::Right),
            ("of memory speed", Align::Right),
        ]);
        for row in &self.tests {
            table.row([
                row.label.clone(),
                units::digits(row.median),
                units::digits(row.min),
                units::digits(row.max),
                row.bytes_per_token.map_or_else(String::new, units::bytes),
                row.share_of_memory_speed.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share)),
            ]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
    }
}
