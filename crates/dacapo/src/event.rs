//! Events: what submissions and the host wait for and signal.

use std::sync::Arc;

use crate::device::Device;
use crate::hal;
use crate::hal::event::EventValue;
use crate::state::DeviceState;
use crate::{Error, Result};

/// A counter that only rises, shared by the host and the submissions of one device. A handle; clones are the same
/// event.
///
/// It starts at 0. [`signal`](Self::signal) raises it from the host,
/// [`CommandEncoder::signal_event`](crate::CommandEncoder::signal_event) at the end of a submission. A submission
/// that fails *poisons* the events that it was to raise: values reached before stay reached, every wait for a higher
/// one returns the failure, now and later, and nothing raises the event again. A new event starts afresh.
#[derive(Debug, Clone)]
pub struct SharedEvent {
    event: Arc<dyn hal::event::SharedEvent>,
    label: Arc<str>,
    device: u64,
    state: Arc<DeviceState>,
}

/// A value of an event.
#[derive(Debug, Clone)]
pub(crate) struct EventPoint {
    pub event: SharedEvent,
    pub value: u64,
}

/// What a submission waits for, and what it signals at its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct StageEvents {
    pub waits: Vec<EventPoint>,
    pub signals: Vec<EventPoint>,
}

impl Device {
    /// A new event at 0. The label appears in errors.
    ///
    /// # Errors
    /// If the device is lost or cannot make one.
    pub fn event(&self, label: &str) -> Result<SharedEvent> {
        self.state().check()?;
        let event = self.note(self.backend().event())?;
        Ok(SharedEvent { event, label: label.into(), device: self.id(), state: self.state().clone() })
    }
}

impl SharedEvent {
    /// The label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The value reached.
    pub fn value(&self) -> u64 {
        self.event.value()
    }

    /// Whether a submission that was to raise the event has failed.
    pub fn is_poisoned(&self) -> bool {
        self.event.poisoned().is_some()
    }

    /// Waits until the event has reached `value`. Somebody else must raise it: a submission, or another thread.
    ///
    /// # Errors
    /// The failure of the submission that was to raise the event, if that value was not reached before.
    pub fn wait(&self, value: u64) -> Result<()> {
        match self.event.wait(value, &|| false).unwrap_or(Ok(())) {
            Err(Error::Poisoned { cause, .. }) => Err((*cause).clone()),
            other => self.state.note(other),
        }
    }

    /// Raises the event to `value` from the host.
    ///
    /// # Errors
    /// If the event has reached that value already, is poisoned, or the device is lost.
    pub fn signal(&self, value: u64) -> Result<()> {
        self.state.check()?;
        if let Some(poison) = self.event.poisoned() {
            return Err(poison);
        }
        if value <= self.value() {
            return Err(Error::State { call: "signal", state: "with a value already reached" });
        }
        self.event.signal(value);
        Ok(())
    }

    pub(crate) fn device(&self) -> u64 {
        self.device
    }
}

impl EventPoint {
    pub fn order(&self) -> EventValue {
        (self.event.event.clone(), self.value)
    }
}
