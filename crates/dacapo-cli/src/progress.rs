//! Progress on standard error: only for a terminal, and only when something takes long enough to wonder.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long something may take before its progress is shown.
const PATIENCE: Duration = Duration::from_millis(400);

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Tokens.
    Tokens,
}

/// A bar that appears when its work takes longer than a moment, and vanishes at the end.
#[derive(Debug)]
pub struct Progress {
    label: &'static str,
    unit: Unit,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Progress of the work that `label` names, as in "loading".
    pub fn new(label: &'static str, unit: Unit) -> Self {
        Progress { label, unit, started: Instant::now(), bar: None }
    }

    /// Shows that `done` of `total` is done.
    pub fn update(&mut self, done: u64, total: u64) {
        if self.bar.is_none() {
            if done >= total || self.started.elapsed() < PATIENCE || !std::io::stderr().is_terminal() {
                return;
            }
            self.bar = Some(self.make_bar(total));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// Takes the bar away.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn make_bar(&self, total: u64) -> ProgressBar {
        let counts = match self.unit {
            Unit::Bytes => "{decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
            Unit::Tokens => "{human_pos}/{human_len} tokens {per_sec}",
        };
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {counts} {{eta}}")) {
            bar.set_style(style);
        }
        bar.with_message(self.label).with_elapsed(self.started.elapsed())
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
