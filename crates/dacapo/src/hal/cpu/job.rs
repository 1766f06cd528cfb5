//! The meeting point of the workers on one command buffer.
//!
//! A job is a row of groups, a group a number of tiles. Workers claim tiles of the current group one by one, and
//! nobody starts a group before every tile of the one before it is complete. There is no fixed set of
//! participants: a worker that wakes late finds less to do, and holds nobody up.

use std::time::{Duration, Instant};

use super::sync::{AtomicBool, AtomicU64, Mutex, Ordering, relax};
use crate::profile::Span;
use crate::{Error, Result};

/// A count of claims or completions, on a cache line of its own: the count in the lower half, the run that it belongs to
/// in the upper one. What an earlier run has left counts as nothing, so that nobody has to walk over all groups to set
/// them back between two runs.
#[repr(align(128))]
struct Count(AtomicU64);

/// Bits of the count.
const LOW: u32 = 32;

impl Count {
    fn new() -> Self {
        Count(AtomicU64::new(0))
    }

    /// What a value counts for a run; `None` if it belongs to another.
    fn of(run: u32, value: u64) -> Option<usize> {
        (value >> LOW == u64::from(run)).then_some((value & u64::from(u32::MAX)) as usize)
    }

    /// Adds to the run's count. Returns the count before.
    fn add(&self, run: u32, more: usize, order: Ordering) -> usize {
        let more = more as u64;
        loop {
            if let Some(before) = Count::of(run, self.0.fetch_add(more, order)) {
                return before;
            }
            // Left by an earlier run, as is what was just added. The first to replace it is the first of this run;
            // whoever comes too late with that adds to the new count.
            let left = self.0.load(Ordering::Relaxed);
            let first = (u64::from(run) << LOW) | more;
            let is_old = Count::of(run, left).is_none();
            if is_old && self.0.compare_exchange(left, first, order, Ordering::Relaxed).is_ok() {
                return 0;
            }
        }
    }

    fn get(&self, run: u32, order: Ordering) -> usize {
        Count::of(run, self.0.load(order)).unwrap_or(0)
    }
}

/// Progress of one group.
struct Group {
    tiles: usize,
    claimed: Count,
    completed: Count,
}

/// When a group's first tile began and its last one ended, in nanoseconds since the job's origin.
struct Stamp {
    begin: AtomicU64,
    end: AtomicU64,
}

/// The times of all groups.
struct Clock {
    origin: Instant,
    stamps: Vec<Stamp>,
}

impl Clock {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    // Each worker notes its own first and last moment of a group before it counts its tiles as complete, so that who
    // sees the group complete sees its times as well. The counts order them: relaxed is enough here.

    fn begin(&self, group: usize) {
        self.stamps[group].begin.fetch_min(self.now(), Ordering::Relaxed);
    }

    fn end(&self, group: usize) {
        self.stamps[group].end.fetch_max(self.now(), Ordering::Relaxed);
    }

    fn reset(&self) {
        for stamp in &self.stamps {
            stamp.begin.store(u64::MAX, Ordering::Relaxed);
            stamp.end.store(0, Ordering::Relaxed);
        }
    }
}

/// Progress of one job through its groups.
pub(super) struct Progress {
    groups: Vec<Group>,
    /// Counts the resets. Comes around after four thousand million, and every run touches every group.
    run: u32,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
    /// Present if the job is timed.
    clock: Option<Clock>,
}

impl Progress {
    /// A job with this many tiles in each group.
    pub fn new(tiles: impl IntoIterator<Item = usize>) -> Self {
        let group = |tiles| Group { tiles, claimed: Count::new(), completed: Count::new() };
        Progress {
            groups: tiles.into_iter().map(group).collect(),
            run: 0,
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
            clock: None,
        }
    }

    /// The same job, with the times of its groups.
    pub fn timed(mut self, origin: Instant) -> Self {
        let stamp = |_: &Group| Stamp { begin: AtomicU64::new(u64::MAX), end: AtomicU64::new(0) };
        self.clock = Some(Clock { origin, stamps: self.groups.iter().map(stamp).collect() });
        self
    }

    /// Forgets everything that was done, for another run of the same job.
    pub fn reset(&mut self) {
        // Relaxed: whoever runs it next gets it through a lock.
        self.run = self.run.wrapping_add(1);
        self.clock.iter().for_each(Clock::reset);
        self.failed.store(false, Ordering::Relaxed);
        *self.error.lock().expect("no holder of this lock panics") = None;
    }

    /// Works on the job until it is complete: runs `tile(group, index)` for every tile this worker can claim.
    ///
    /// Returns whether this worker completed the job's last tile; exactly one worker does, unless the job is
    /// empty.
    pub fn work(&self, mut tile: impl FnMut(usize, usize) -> Result<()>) -> bool {
        let mut finished = false;
        for (index, group) in self.groups.iter().enumerate().filter(|(_, group)| group.tiles > 0) {
            let mut done = 0;
            loop {
                // Relaxed: a claim only has to be unique. What the tile reads was made visible by the acquiring
                // load at the end of the previous group.
                let claimed = group.claimed.add(self.run, 1, Ordering::Relaxed);
                if claimed >= group.tiles {
                    break;
                }
                if done == 0
                    && let Some(clock) = &self.clock
                {
                    clock.begin(index);
                }
                if !self.failed.load(Ordering::Relaxed)
                    && let Err(error) = tile(index, claimed)
                {
                    self.fail(error);
                }
                done += 1;
            }
            finished = false;
            if done > 0 {
                self.clock.iter().for_each(|clock| clock.end(index));
                // Release: our tiles' writes; acquire: everybody's, for the next group.
                let before = group.completed.add(self.run, done, Ordering::AcqRel);
                finished = before + done == group.tiles;
            }
            let mut turn = 0;
            while group.completed.get(self.run, Ordering::Acquire) < group.tiles {
                relax(turn);
                turn = turn.wrapping_add(1);
            }
        }
        finished
    }

    /// When a group ran; `None` if it had no tiles or the job is not timed. Meaningful once the job is complete.
    pub fn span(&self, group: usize) -> Option<Span> {
        let clock = self.clock.as_ref()?;
        let stamp = clock.stamps.get(group)?;
        let (begin, end) = (stamp.begin.load(Ordering::Relaxed), stamp.end.load(Ordering::Relaxed));
        let at = |nanoseconds| clock.origin + Duration::from_nanos(nanoseconds);
        (begin <= end).then(|| Span { start: at(begin), end: at(end) })
    }

    /// Whether there is nothing to do at all.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|g| g.tiles == 0)
    }

    /// The error of the first tile that failed. Meaningful once the job is complete.
    pub fn result(&self) -> Result<()> {
        match self.error.lock().expect("no holder of this lock panics").clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Fails the job, unless it has failed already: tiles that have not begun are counted, not run.
    pub fn fail(&self, error: Error) {
        let mut first = self.error.lock().expect("no holder of this lock panics");
        if first.is_none() {
            *first = Some(error);
        }
        self.failed.store(true, Ordering::Relaxed);
    }
}
