//! Submissions: what they wait for, and how they ended.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::event::MetalEvent;
use super::objects::lock;
use super::queue::Queue;
use super::recording::Source;
use super::timing::Samples;
use crate::hal::event::{Dependency, EventValue, Order, SharedEvent, named};
use crate::profile::Span;
use crate::{Error, Result};

/// A submission. Keeps its work until the end.
pub(super) struct Job {
    /// Gone once it has ended, before anybody is told.
    source: Mutex<Option<Arc<Source>>>,
    /// The work's stretches of dispatches, if they are timed.
    groups: Vec<Range<usize>>,
    pub order: Order,
    pub samples: Option<Samples>,
    time: OnceLock<Span>,
    phase: Mutex<Phase>,
    changed: Condvar,
    outcome: OnceLock<Result<()>>,
}

#[derive(Clone)]
enum Phase {
    Held,
    Committed(Instant),
    Ended(Result<()>),
}

impl Job {
    /// A submission that is held back until it [`starts`](Self::started).
    pub fn new(source: Arc<Source>, order: Order, samples: Option<Samples>) -> Arc<Job> {
        let groups = if samples.is_some() { source.work.groups.clone() } else { Vec::new() };
        Arc::new(Job {
            source: Mutex::new(Some(source)),
            groups,
            order,
            samples,
            time: OnceLock::new(),
            phase: Mutex::new(Phase::Held),
            changed: Condvar::new(),
            outcome: OnceLock::new(),
        })
    }

    /// The work, until it has ended.
    pub fn source(&self) -> Option<Arc<Source>> {
        lock(&self.source).clone()
    }

    /// The device has it from now on.
    pub fn started(&self) {
        self.enter(Phase::Committed(Instant::now()));
    }

    /// It has ended, or will not run at all.
    pub fn ended(&self, result: Result<()>) {
        if let Err(error) = &result {
            self.order.poison(error);
        }
        // Who waits finds the memory free that only this work used.
        drop(lock(&self.source).take());
        self.enter(Phase::Ended(result));
    }

    fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        self.changed.notify_all();
    }

    /// Waits until it is no longer held back.
    pub fn settled(&self) {
        let mut phase = lock(&self.phase);
        while matches!(*phase, Phase::Held) {
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the end. An error if the device takes longer than it may: then it counts as lost.
    pub fn end(&self, queue: &Queue) -> Result<()> {
        const LOOK: Duration = Duration::from_secs(1);
        let mut phase = lock(&self.phase);
        loop {
            match &*phase {
                Phase::Ended(result) => return result.clone(),
                Phase::Committed(start) if start.elapsed() > queue.patience() => {
                    let (what, seconds) = (named(&self.order.label), queue.patience().as_secs());
                    let name = queue.context().name();
                    return Err(queue
                        .context()
                        .lose(format!("{what} has not ended after {seconds} seconds on {name}")));
                }
                Phase::Committed(_) | Phase::Held => {}
            }
            phase = self.changed.wait_timeout(phase, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        matches!(*lock(&self.phase), Phase::Ended(_))
    }

    /// Waits for the end and tells how it went.
    pub fn wait(&self, queue: &Queue) -> Result<()> {
        let decide = || {
            // What it depended on was running beside it: by now it has ended.
            let result =
                self.end(queue).and_then(|()| self.order.after.iter().try_for_each(Dependency::check));
            if let Err(error) = &result {
                self.order.poison(error);
            }
            result
        };
        self.outcome.get_or_init(decide).clone()
    }

    /// When it ran, once it has ended.
    pub fn time(&self) -> Option<Span> {
        self.time.get().copied()
    }

    /// Notes when it ran: before it [`ended`](Self::ended).
    pub fn ran(&self, time: Option<Span>) {
        if let Some(time) = time {
            self.time.get_or_init(|| time);
        }
    }

    /// When it was handed to the device, while that has it.
    pub fn committed(&self) -> Option<Instant> {
        match *lock(&self.phase) {
            Phase::Committed(start) => Some(start),
            Phase::Held | Phase::Ended(_) => None,
        }
    }

    /// When each stretch of dispatches ran.
    pub fn group_times(&self) -> Vec<Option<Span>> {
        self.samples.as_ref().map_or_else(Vec::new, |samples| samples.times(&self.groups))
    }
}

/// Whether the value is reached, or will be by work that the device already has.
pub(super) fn promised((event, value): &EventValue) -> Result<bool> {
    metal(event)?.is_promised(*value)
}

/// The event as one of this backend.
pub(super) fn metal(event: &Arc<dyn SharedEvent>) -> Result<&MetalEvent> {
    let found = event.as_any().downcast_ref();
    found.ok_or_else(|| Error::WrongDevice { what: "an event".into() })
}
