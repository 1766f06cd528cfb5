//! Submitted work and its fate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::hal::event::{Dependency, Order, named};
use crate::hal::{Completion, Recording};
use crate::profile::{Counters, Span};
use crate::state::DeviceState;
use crate::{Error, Result};

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
    device: Arc<DeviceState>,
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
    /// Somebody has been told how it ended.
    observed: AtomicBool,
    /// No handle is left.
    dropped: AtomicBool,
}

impl Submission {
    pub(crate) fn new(label: String, completion: Arc<dyn Completion>, device: Arc<DeviceState>) -> Self {
        let (observed, dropped) = (AtomicBool::new(false), AtomicBool::new(false));
        let fate = Arc::new(Fate { label, completion, observed, dropped });
        Submission { handle: Arc::new(Handle { fate, device }) }
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
        let Handle { fate, device } = &*self.handle;
        device.counters.add(&Counters { waits: 1, ..Counters::default() });
        fate.outcome(device)
    }

    /// When the device ran this work, from the begin of its first command buffer to the end of its last. `None` before the
    /// end, if it did not run, and where the device does not tell without being asked: only Metal does. For times of its
    /// parts see [`replay_timed`](crate::CompiledGraph::replay_timed).
    pub fn device_time(&self) -> Option<Span> {
        let fate = self.fate();
        let times = if fate.is_done() { fate.times() } else { Vec::new() };
        let mut ran = times.into_iter().flatten();
        let first = ran.next()?;
        Some(Span { start: first.start, end: ran.last().unwrap_or(first).end })
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

    /// When its command buffers ran: see [`Completion::times`].
    pub fn times(&self) -> Vec<Option<Span>> {
        self.completion.times()
    }

    /// Waits for the end without asking how it went.
    pub fn settle(&self) {
        let _ = self.completion.wait();
    }

    /// Waits for the end and tells how it went. `device` is the one that it was submitted to: the fate itself does not
    /// hold it, because the device's books hold fates.
    pub fn outcome(&self, device: &DeviceState) -> Result<()> {
        let result = device.note(self.completion.wait());
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
    pub fn lost_failure(&self, device: &DeviceState) -> Result<()> {
        if self.dropped.load(Ordering::Acquire) && !self.observed.load(Ordering::Acquire) {
            self.outcome(device)?;
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

    fn times(&self) -> Vec<Option<Span>> {
        self.parts.iter().flat_map(|part| part.times()).collect()
    }
}

/// Submits parts of one run, behind each other: the first obeys the order's waits, the last gives its signals, and
/// each runs only if those before it did.
///
/// # Errors
/// If the first part is refused. If a later one is, what was submitted runs; the run as a whole has failed then, and
/// its events are poisoned.
pub(crate) fn start_parts(parts: &[Arc<dyn Recording>], order: Order) -> Result<Arc<dyn Completion>> {
    let Order { label, waits, after, signals } = order;
    let mut before = Some((waits, after));
    let mut run: Vec<Arc<dyn Completion>> = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let behind = |completion: &Arc<dyn Completion>| {
            vec![Dependency { label: label.clone(), completion: completion.clone() }]
        };
        let (waits, after) = match before.take() {
            Some(before) => before,
            None => (Vec::new(), run.last().map(behind).unwrap_or_default()),
        };
        let is_last = index + 1 == parts.len();
        let promised = if is_last { signals.clone() } else { Vec::new() };
        match part.submit(Order { label: label.clone(), waits, after, signals: promised }) {
            Ok(completion) => run.push(completion),
            Err(error) if index == 0 => return Err(error),
            Err(error) => {
                let poison = Error::poisoned(&named(&label), error.clone());
                signals.iter().for_each(|(event, _)| event.poison(poison.clone()));
                run.push(Arc::new(Refused(error)));
                break;
            }
        }
    }
    Ok(match &run[..] {
        [only] => only.clone(),
        _ => Arc::new(Run { parts: run }),
    })
}

/// A part that the device did not take.
#[derive(Debug)]
struct Refused(Error);

impl Completion for Refused {
    fn is_done(&self) -> bool {
        true
    }

    fn wait(&self) -> Result<()> {
        Err(self.0.clone())
    }
}
