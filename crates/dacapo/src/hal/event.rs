//! Events, and what a submission waits for.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::Completion;
use crate::{Error, Result};

/// A counter that only rises, shared by host and device.
///
/// It can be *poisoned*: what was to raise it failed. Values reached before stay reached; waits for higher ones
/// end with the poison, which is an [`Error::Poisoned`] or [`Error::DeviceLost`] and stays the first one.
pub(crate) trait SharedEvent: Send + Sync + Debug {
    /// For the backend to recognize its own.
    #[cfg_attr(not(feature = "vulkan"), allow(dead_code, reason = "the processor does not ask"))]
    fn as_any(&self) -> &dyn Any;

    /// The value reached.
    fn value(&self) -> u64;

    /// Raises the value to `value`, unless it is there already or the event is poisoned.
    fn signal(&self, value: u64);

    /// Ends all waits for values not reached, now and later.
    fn poison(&self, poison: Error);

    /// Why values not reached will not be reached.
    fn poisoned(&self) -> Option<Error>;

    /// Waits until `value` is reached or the event is poisoned, or until `give_up` says so: then `None`.
    fn wait(&self, value: u64, give_up: &dyn Fn() -> bool) -> Option<Result<()>>;

    /// Makes everybody who waits ask `give_up` again.
    fn wake(&self);
}

/// A value of an event.
pub(crate) type EventValue = (Arc<dyn SharedEvent>, u64);

/// What comes before and after a submission's work.
///
/// When everything submitted before has ended, the backend waits for `waits`. If one of them is poisoned, or one
/// of `after` has failed, the work fails without being run ([`Error::poisoned`]). At the end it raises `signals`,
/// or poisons them if the work failed, before the completion is done.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Name of the submission, for those whom its failure reaches.
    pub label: String,
    /// Values to wait for.
    pub waits: Vec<EventValue>,
    /// Earlier submissions of this device whose results the work reads.
    pub after: Vec<Dependency>,
    /// Values to reach at the end.
    pub signals: Vec<EventValue>,
}

#[cfg(any(feature = "vulkan", all(feature = "metal", any(target_vendor = "apple", metal_sim))))]
/// For queues that hold work back until the host has done its part. `promised` says whether an event has a value, or will have
/// it by work that the device already has.
impl Order {
    /// Whether nothing but earlier work of the device stands before the work. An error if it must not run at all.
    pub fn may_run(&self, promised: impl Fn(&EventValue) -> Result<bool>) -> Result<bool> {
        for dependency in &self.after {
            if dependency.completion.is_done() {
                dependency.check()?;
            }
        }
        for wait in &self.waits {
            if !promised(wait)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until the work may run, or the queue is closed, which is an error.
    pub fn admit(
        &self,
        promised: impl Fn(&EventValue) -> Result<bool>,
        closed: &dyn Fn() -> bool,
    ) -> Result<()> {
        self.after.iter().try_for_each(Dependency::check)?;
        for wait in &self.waits {
            if promised(wait)? {
                continue;
            }
            let (event, value) = wait;
            event.wait(*value, closed).unwrap_or_else(|| {
                let cause = format!("closed while {} waited for an event", named(&self.label));
                Err(Error::DeviceLost(cause))
            })?;
        }
        Ok(())
    }

    /// Poisons what the work was to signal.
    pub fn poison(&self, error: &Error) {
        for (event, _) in &self.signals {
            event.poison(Error::poisoned(&named(&self.label), error.clone()));
        }
    }
}

/// A submission that another depends on.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// Its name.
    pub label: String,
    /// Its fate.
    pub completion: Arc<dyn Completion>,
}

impl Dependency {
    /// Waits for the submission and fails if it failed.
    pub fn check(&self) -> Result<()> {
        self.completion.wait().map_err(|cause| Error::poisoned(&named(&self.label), cause))
    }
}

/// How a submission is named in errors.
pub(crate) fn named(label: &str) -> String {
    format!("submission {label:?}")
}
