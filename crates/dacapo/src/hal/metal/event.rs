//! Events: shared events that the device raises, and what the host has to say about them.

use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use objc2::rc::autoreleasepool;
use objc2_metal::{MTLDevice, MTLSharedEvent};

use super::context::Context;
use super::objects::{Object, lock};
use crate::hal::event::SharedEvent;
use crate::{Error, Result};

/// Milliseconds after which a wait for the device looks whether the event was poisoned.
const LOOK: u64 = 10;

/// A counter that only rises.
///
/// Metal's event is raised by command buffers alone. What the host signals is kept beside it: submissions that wait for
/// the host are not committed before, so that the device never waits for the event.
pub(super) struct MetalEvent {
    context: Arc<Context>,
    raw: Object<dyn MTLSharedEvent>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Highest value that the host has signalled.
    host: u64,
    /// Highest value that a committed command buffer will signal.
    promised: u64,
    poison: Option<Error>,
}

impl MetalEvent {
    /// A counter at zero.
    pub fn new(context: &Arc<Context>) -> Result<MetalEvent> {
        let raw = autoreleasepool(|_| context.physical.raw.newSharedEvent());
        let raw = raw.ok_or_else(|| context.refused("newSharedEvent", "it gave none"))?;
        Ok(MetalEvent { context: context.clone(), raw, state: Mutex::default(), changed: Condvar::new() })
    }

    /// The event to raise to `value`, for work that is about to be committed; `None` if the value is reached without it.
    pub fn promise(&self, value: u64) -> Option<&Object<dyn MTLSharedEvent>> {
        let mut state = lock(&self.state);
        if state.poison.is_some() || value <= state.host.max(state.promised) {
            return None;
        }
        state.promised = value;
        self.changed.notify_all();
        Some(&self.raw)
    }

    /// Whether the value is reached, or will be by work that the device already has.
    pub fn is_promised(&self, value: u64) -> Result<bool> {
        let state = lock(&self.state);
        if state.host >= value {
            return Ok(true);
        }
        // Work that failed raises nothing.
        match (&state.poison, state.promised >= value) {
            (Some(poison), _) if self.device_value() < value => Err(poison.clone()),
            (_, promised) => Ok(promised),
        }
    }

    fn device_value(&self) -> u64 {
        autoreleasepool(|_| self.raw.signaledValue())
    }
}

impl std::fmt::Debug for MetalEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event at {}", self.value())
    }
}

impl SharedEvent for MetalEvent {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn value(&self) -> u64 {
        self.device_value().max(lock(&self.state).host)
    }

    fn signal(&self, value: u64) {
        let mut state = lock(&self.state);
        if state.poison.is_none() {
            state.host = state.host.max(value);
        }
        self.changed.notify_all();
    }

    fn poison(&self, poison: Error) {
        lock(&self.state).poison.get_or_insert(poison);
        self.changed.notify_all();
    }

    fn poisoned(&self) -> Option<Error> {
        lock(&self.state).poison.clone()
    }

    fn wait(&self, value: u64, give_up: &dyn Fn() -> bool) -> Option<Result<()>> {
        let mut state = lock(&self.state);
        loop {
            if state.host >= value || self.device_value() >= value {
                return Some(Ok(()));
            }
            if let Some(poison) = &state.poison {
                return Some(Err(poison.clone()));
            }
            if let Err(lost) = self.context.check() {
                return Some(Err(lost));
            }
            if state.promised >= value {
                drop(state);
                autoreleasepool(|_| self.raw.waitUntilSignaledValue_timeoutMS(value, LOOK));
                state = lock(&self.state);
                continue;
            }
            if give_up() {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn wake(&self) {
        // Under the lock: whoever has asked `give_up` and not gone to sleep yet must not miss this.
        let _state = lock(&self.state);
        self.changed.notify_all();
    }
}
