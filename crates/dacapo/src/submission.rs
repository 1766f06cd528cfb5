//! Submitted work and its fate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;
use crate::hal::Completion;
use crate::hal::event::Dependency;
use crate::profile::{Counters, Span};
use crate::state::DeviceState;

/// Work that was handed to a device.
///
/// Clones are the same submission. If every handle is dropped and the work fails, the failure is reported by a
/// later call on the device, so that it cannot get lost.
#[derive(Debug, Clone)]
pub struct Submission {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    fate: Arc<Fate>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.fate.dropped.store(true, Ordering::Release);
    }
}

/// What the device, and the memory that the work uses, remember of a submission.
#[derive(Debug)]
pub(crate) struct Fate {
    label: String,
    completion: Arc<dyn Completion>,
    device: Arc<DeviceState>,
    /// Somebody has been told how it ended.
    observed: AtomicBool,
    /// No handle is left.
    dropped: AtomicBool,
}

impl Submission {
    pub(crate) fn new(label: String, completion: Arc<dyn Completion>, device: Arc<DeviceState>) -> Self {
        let (observed, dropped) = (AtomicBool::new(false), AtomicBool::new(false));
        let fate = Arc::new(Fate { label, completion, device, observed, dropped });
        Submission { handle: Arc::new(Handle { fate }) }
    }

    pub(crate) fn fate(&self) -> &Arc<Fate> {
        &self.handle.fate
    }

    /// Whether the work has ended, well or not.
    pub fn is_done(&self) -> bool {
        self.handle.fate.is_done()
    }

    /// Waits for the end. Waiting again gives the same answer again.
    ///
    /// # Errors
    /// What made the work fail; [`Error::Poisoned`](crate::Error::Poisoned) if it was not run because of what
    /// failed before.
    pub fn wait(&self) -> Result<()> {
        self.handle.fate.device.counters.add(&Counters { waits: 1, ..Counters::default() });
        self.handle.fate.outcome()
    }
}

impl Fate {
    pub fn is_done(&self) -> bool {
        self.completion.is_done()
    }

    /// The fate of this work together with more of the same run. Who asks about the later part hears of both.
    pub fn followed_by(&self, completion: Arc<dyn Completion>) -> Arc<dyn Completion> {
        Arc::new(Run { parts: vec![self.completion.clone(), completion] })
    }

    /// Another fate tells what this one would have told: see [`followed_by`](Self::followed_by).
    pub fn hand_over(&self) {
        self.observed.store(true, Ordering::Release);
    }

    /// When its groups ran: see [`Completion::group_times`].
    pub fn group_times(&self) -> Vec<Vec<Option<Span>>> {
        self.completion.group_times()
    }

    /// Waits for the end without asking how it went.
    pub fn settle(&self) {
        let _ = self.completion.wait();
    }

    /// Waits for the end and tells how it went.
    pub fn outcome(&self) -> Result<()> {
        let result = self.device.note(self.completion.wait());
        self.observed.store(true, Ordering::Release);
        result
    }

    /// Whether it has ended well.
    pub fn succeeded(&self) -> bool {
        self.is_done() && self.completion.wait().is_ok()
    }

    /// This submission, for one that depends on it.
    pub fn dependency(&self) -> Dependency {
        Dependency { label: self.label.clone(), completion: self.completion.clone() }
    }

    /// The failure that nobody was told of and nobody can ask for any more.
    pub fn lost_failure(&self) -> Result<()> {
        if self.dropped.load(Ordering::Acquire) && !self.observed.load(Ordering::Acquire) {
            self.outcome()?;
        }
        Ok(())
    }

    /// Whether a finished submission's failure could still go unheard.
    pub fn may_be_lost(&self) -> bool {
        !self.observed.load(Ordering::Acquire) && self.completion.wait().is_err()
    }
}

/// The fate of several submissions that count as one.
#[derive(Debug)]
pub(crate) struct Run {
    /// In the order in which they run.
    pub parts: Vec<Arc<dyn Completion>>,
}

impl Completion for Run {
    fn is_done(&self) -> bool {
        self.parts.iter().all(|part| part.is_done())
    }

    fn wait(&self) -> Result<()> {
        // All must have ended before anybody touches their memory, also after a failure.
        let outcomes: Vec<_> = self.parts.iter().map(|part| part.wait()).collect();
        outcomes.into_iter().collect()
    }

    fn group_times(&self) -> Vec<Vec<Option<Span>>> {
        self.parts.iter().flat_map(|part| part.group_times()).collect()
    }
}
