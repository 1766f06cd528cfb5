//! Events of the CPU backend: a counter, a lock, those who wait.

use super::sync::{Condvar, Mutex};
use crate::hal::event::SharedEvent;
use crate::{Error, Result};

/// A counter that only rises.
pub(super) struct CpuEvent {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    value: u64,
    poison: Option<Error>,
}

impl CpuEvent {
    /// A counter at zero.
    pub fn new() -> Self {
        CpuEvent { state: Mutex::new(State { value: 0, poison: None }), changed: Condvar::new() }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no holder of this lock panics"));
        self.changed.notify_all();
    }
}

impl std::fmt::Debug for CpuEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event at {}", self.value())
    }
}

impl SharedEvent for CpuEvent {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn value(&self) -> u64 {
        self.state.lock().expect("no holder of this lock panics").value
    }

    fn signal(&self, value: u64) {
        self.change(|state| {
            if state.poison.is_none() {
                state.value = state.value.max(value);
            }
        });
    }

    fn poison(&self, poison: Error) {
        self.change(|state| {
            state.poison.get_or_insert(poison);
        });
    }

    fn poisoned(&self) -> Option<Error> {
        self.state.lock().expect("no holder of this lock panics").poison.clone()
    }

    fn wait(&self, value: u64, give_up: &dyn Fn() -> bool) -> Option<Result<()>> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        loop {
            if state.value >= value {
                return Some(Ok(()));
            }
            if let Some(poison) = &state.poison {
                return Some(Err(poison.clone()));
            }
            if give_up() {
                return None;
            }
            state = self.changed.wait(state).expect("no holder of this lock panics");
        }
    }

    fn wake(&self) {
        // Under the lock: whoever has asked `give_up` and not gone to sleep yet must not miss this.
        self.change(|_| {});
    }
}
