//! What encoders and devices have done, and when.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A stretch of time on the host's monotonic clock, to which devices convert theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub start: Instant,
    /// Its last moment, not before the first.
    pub end: Instant,
}

impl Span {
    /// Its length.
    pub fn duration(&self) -> Duration {
        self.end.saturating_duration_since(self.start)
    }
}

/// When the host compiled a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileTimes {
    /// The passes, and memory for transient buffers.
    pub optimize: Span,
    /// Encoding, directly after.
    pub encode: Span,
}

/// When one replay of a compiled graph was submitted, waited for and run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayTimes {
    /// The host submitted it.
    pub submit: Span,
    /// The host waited for its end.
    pub wait: Span,
    /// The device ran its groups, in this order and one after another.
    pub groups: Vec<GroupTime>,
}

impl ReplayTimes {
    /// From the begin of the first group to the end of the last; `None` if there was nothing to do.
    pub fn device(&self) -> Option<Span> {
        Some(Span { start: self.groups.first()?.span.start, end: self.groups.last()?.span.end })
    }
}

/// When one group of concurrent dispatches ran; or all groups of a command buffer, on a device that cannot time single ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTime {
    /// The command buffer of the replay that it is part of.
    pub submission: usize,
    /// Its index in the replay; that of the first, if it stands for several.
    pub group: usize,
    /// Its dispatches, as positions in [`CompiledGraph::graph`](crate::CompiledGraph::graph).
    pub nodes: Range<usize>,
    /// From the begin of the first dispatch to the end of the last.
    pub span: Span,
}

/// What was encoded, submitted and waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Dispatches encoded.
    pub dispatches: u64,
    /// Barriers placed, by the engine or on request.
    pub barriers: u64,
    /// Dispatches for which no barrier was needed, although another dispatch came before.
    pub elided_barriers: u64,
    /// Command buffers handed to the device.
    pub submissions: u64,
    /// Compiled graphs replayed.
    pub replays: u64,
    /// Times that the host waited for a submission.
    pub waits: u64,
    /// Encoders dropped with work that was never committed.
    pub discarded: u64,
}

impl std::ops::AddAssign for Counters {
    fn add_assign(&mut self, more: Counters) {
        self.dispatches += more.dispatches;
        self.barriers += more.barriers;
        self.elided_barriers += more.elided_barriers;
        self.submissions += more.submissions;
        self.replays += more.replays;
        self.waits += more.waits;
        self.discarded += more.discarded;
    }
}

/// [`Counters`] that threads share.
#[derive(Debug, Default)]
pub(crate) struct SharedCounters {
    dispatches: AtomicU64,
    barriers: AtomicU64,
    elided_barriers: AtomicU64,
    submissions: AtomicU64,
    replays: AtomicU64,
    waits: AtomicU64,
    discarded: AtomicU64,
}

impl SharedCounters {
    /// Adds everything in `counters`.
    pub fn add(&self, counters: &Counters) {
        // Relaxed: counts carry no order between them.
        let add = |to: &AtomicU64, n: u64| {
            to.fetch_add(n, Ordering::Relaxed);
        };
        add(&self.dispatches, counters.dispatches);
        add(&self.barriers, counters.barriers);
        add(&self.elided_barriers, counters.elided_barriers);
        add(&self.submissions, counters.submissions);
        add(&self.replays, counters.replays);
        add(&self.waits, counters.waits);
        add(&self.discarded, counters.discarded);
    }

    /// The counts now.
    pub fn snapshot(&self) -> Counters {
        let get = |from: &AtomicU64| from.load(Ordering::Relaxed);
        Counters {
            dispatches: get(&self.dispatches),
            barriers: get(&self.barriers),
            elided_barriers: get(&self.elided_barriers),
            submissions: get(&self.submissions),
            replays: get(&self.replays),
            waits: get(&self.waits),
            discarded: get(&self.discarded),
        }
    }
}
