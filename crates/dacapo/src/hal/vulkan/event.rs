//! Events: timeline semaphores that the device raises, and what the host has to say about them.

use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ash::vk;

use super::context::{Context, lock};
use crate::hal::event::SharedEvent;
use crate::{Error, Result};

/// Nanoseconds after which a wait for the device looks whether the device still lives.
const LOOK: u64 = 50_000_000;

/// A counter that only rises.
///
/// The semaphore is raised by submissions alone. What the host signals is kept beside it: submissions that wait for the
/// host are not handed to the device before, so that the device never waits for the semaphore.
pub(super) struct VulkanEvent {
    context: Arc<Context>,
    semaphore: vk::Semaphore,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Highest value that the host has signalled.
    host: u64,
    /// Highest value that a submission handed to the device will signal.
    promised: u64,
    poison: Option<Error>,
}

impl VulkanEvent {
    /// A counter at zero.
    pub fn new(context: &Arc<Context>) -> Result<VulkanEvent> {
        Ok(VulkanEvent {
            context: context.clone(),
            semaphore: timeline(context)?,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// The semaphore to raise to `value`, for work that is about to be handed to the device; `None` if the value is
    /// reached without it.
    pub fn promise(&self, value: u64) -> Option<vk::Semaphore> {
        let mut state = lock(&self.state);
        if state.poison.is_some() || value <= state.host.max(state.promised) {
            return None;
        }
        state.promised = value;
        self.changed.notify_all();
        Some(self.semaphore)
    }

    /// Whether the value is reached, or will be by work that the device already has.
    pub fn is_promised(&self, value: u64) -> Result<bool> {
        let state = lock(&self.state);
        if state.host.max(state.promised) >= value {
            return Ok(true);
        }
        state.poison.clone().map_or(Ok(false), Err)
    }
}

/// A timeline semaphore at zero.
pub(super) fn timeline(context: &Context) -> Result<vk::Semaphore> {
    let mut kind = vk::SemaphoreTypeCreateInfo::default().semaphore_type(vk::SemaphoreType::TIMELINE);
    let create = vk::SemaphoreCreateInfo::default().push_next(&mut kind);
    // SAFETY: the structures live.
    unsafe { context.device.create_semaphore(&create, None) }
        .map_err(|code| context.error("vkCreateSemaphore", code))
}

/// Waits for a semaphore, for so many nanoseconds. Whether it has come that far.
pub(super) fn wait(
    context: &Context,
    semaphore: vk::Semaphore,
    value: u64,
    nanoseconds: u64,
) -> Result<bool> {
    let (semaphores, values) = ([semaphore], [value]);
    let wait = vk::SemaphoreWaitInfo::default().semaphores(&semaphores).values(&values);
    // SAFETY: the semaphore belongs to the device and lives.
    match unsafe { context.device.wait_semaphores(&wait, nanoseconds) } {
        Ok(()) => Ok(true),
        Err(vk::Result::TIMEOUT) => Ok(false),
        Err(code) => Err(context.error("vkWaitSemaphores", code)),
    }
}

impl std::fmt::Debug for VulkanEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event at {}", self.value())
    }
}

impl SharedEvent for VulkanEvent {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn value(&self) -> u64 {
        // SAFETY: the semaphore belongs to the device and lives. A lost device has raised nothing more.
        let device = unsafe { self.context.device.get_semaphore_counter_value(self.semaphore) }.unwrap_or(0);
        device.max(lock(&self.state).host)
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
            if state.host >= value {
                return Some(Ok(()));
            }
            if state.promised >= value {
                drop(state);
                match wait(&self.context, self.semaphore, value, LOOK) {
                    Ok(false) => {}
                    Ok(true) => return Some(Ok(())),
                    Err(error) => return Some(Err(error)),
                }
                state = lock(&self.state);
                continue;
            }
            if let Some(poison) = &state.poison {
                return Some(Err(poison.clone()));
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

impl Drop for VulkanEvent {
    fn drop(&mut self) {
        // SAFETY: work that signals the event keeps it until it has ended.
        unsafe { self.context.device.destroy_semaphore(self.semaphore, None) }
    }
}
