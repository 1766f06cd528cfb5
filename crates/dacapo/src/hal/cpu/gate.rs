//! What a job in the queue does before its first tile and after its last: its [`Order`], carried out.

use super::job::Progress;
use super::sync::Mutex;
use crate::hal::event::{Dependency, EventValue, Order, named};
use crate::{Error, Result};

/// A job's order.
pub(super) struct Gate {
    label: String,
    waits: Vec<EventValue>,
    signals: Vec<EventValue>,
    /// Whether the job may run without asking.
    pub open: bool,
    /// What the job depends on, until that is decided.
    after: Mutex<Option<Vec<Dependency>>>,
}

impl Gate {
    pub fn new(order: Order) -> Self {
        let Order { label, waits, after, signals } = order;
        let open = waits.is_empty() && after.is_empty();
        Gate { label, waits, signals, open, after: Mutex::new(Some(after)) }
    }

    /// Waits until the job may run, or fails it. The first worker decides; the others wait for it.
    ///
    /// Every earlier job has ended by then, so what is still missing can only come from the host: when the queue
    /// closes, nobody waits for that any more.
    pub fn pass(&self, progress: &Progress, before: impl FnOnce(), closed: impl Fn() -> bool) {
        if self.open {
            return;
        }
        let mut after = self.after.lock().expect("no holder of this lock panics");
        let Some(after) = after.take() else { return };
        before();
        let decide = || -> Result<()> {
            after.iter().try_for_each(Dependency::check)?;
            for (event, value) in &self.waits {
                event.wait(*value, &closed).unwrap_or_else(|| {
                    let cause = format!("closed while {} waited for an event", named(&self.label));
                    Err(Error::DeviceLost(cause))
                })?;
            }
            Ok(())
        };
        if let Err(error) = decide() {
            progress.fail(error);
        }
    }

    /// Raises or poisons what the job was to signal.
    pub fn leave(&self, result: &Result<()>) {
        for (event, value) in &self.signals {
            match result {
                Ok(()) => event.signal(*value),
                Err(error) => event.poison(Error::poisoned(&named(&self.label), error.clone())),
            }
        }
    }

    /// Lets whoever waits here look whether the queue has closed.
    pub fn wake(&self) {
        self.waits.iter().for_each(|(event, _)| event.wake());
    }
}
