//! The queue: what is handed to the device at once, and what has to wait for the host first.
//!
//! The device runs submissions in order, and each begins with a barrier, so that none needs a semaphore to wait for
//! another. A submission that waits for a value which neither work before it nor the host has promised is held
//! back, with everything behind it, by a thread that lives as long as there is such work.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ash::vk;

use super::context::{Context, lock};
use super::event::{self, VulkanEvent};
use crate::hal::event::{Dependency, EventValue, Order, named};
use crate::{Error, Result};

/// Nanoseconds of one look at work that runs.
const LOOK: u64 = 1_000_000_000;

/// What the device works on, kept until it has ended.
pub(super) trait Commands: Send + Sync {
    /// The recorded commands.
    fn commands(&self) -> vk::CommandBuffer;
}

/// The queue of a device.
pub(super) struct Queue {
    context: Arc<Context>,
    /// Raised by one with each submission.
    timeline: vk::Semaphore,
    state: Mutex<State>,
    /// The highest value that the timeline was seen at.
    reached: AtomicU64,
    closed: AtomicBool,
    /// How long a submission may take before the device counts as hung.
    patience: Duration,
}

#[derive(Default)]
struct State {
    /// Submissions handed to the device.
    submitted: u64,
    /// What the device may still be working on, with the timeline's value at its end.
    in_flight: VecDeque<(u64, Arc<Job>)>,
    /// What is held back, in order.
    held: VecDeque<Arc<Job>>,
    /// Whether a thread takes care of it.
    attended: bool,
}

/// A submission.
pub(super) struct Job {
    /// Gone once somebody has waited for its end.
    work: Mutex<Option<Arc<dyn Commands>>>,
    order: Order,
    phase: Mutex<Phase>,
    changed: Condvar,
    outcome: OnceLock<Result<()>>,
}

#[derive(Clone)]
enum Phase {
    Held,
    Submitted(u64),
    Failed(Error),
}

impl Queue {
    pub fn new(context: &Arc<Context>, patience: Duration) -> Result<Arc<Queue>> {
        Ok(Arc::new(Queue {
            context: context.clone(),
            timeline: event::timeline(context)?,
            state: Mutex::default(),
            reached: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            patience,
        }))
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Hands work to the device, or holds it back until it may run.
    pub fn submit(self: &Arc<Self>, work: Arc<dyn Commands>, order: Order) -> Result<Arc<Job>> {
        self.context.check()?;
        let job = Arc::new(Job {
            work: Mutex::new(Some(work)),
            order,
            phase: Mutex::new(Phase::Held),
            changed: Condvar::new(),
            outcome: OnceLock::new(),
        });
        let mut state = lock(&self.state);
        if state.held.is_empty() && !state.attended {
            match job.order.may_run(promised) {
                Ok(true) => {
                    self.start(&mut state, &job)?;
                    return Ok(job);
                }
                Ok(false) => {}
                Err(error) => {
                    job.fail(error);
                    return Ok(job);
                }
            }
        }
        state.held.push_back(job.clone());
        if !state.attended {
            let queue = self.clone();
            std::thread::Builder::new()
                .name("dacapo-vulkan".into())
                .spawn(move || queue.attend())
                .map_err(|error| self.context.lose(format!("its queue cannot start a thread: {error}")))?;
            state.attended = true;
        }
        Ok(job)
    }

    /// Hands commands to the device that depend on nothing, with semaphores to raise. Returns what to wait for.
    pub fn submit_raw(&self, commands: vk::CommandBuffer, signals: &[(vk::Semaphore, u64)]) -> Result<u64> {
        self.submit_locked(&mut lock(&self.state), commands, signals)
    }

    fn submit_locked(
        &self,
        state: &mut State,
        commands: vk::CommandBuffer,
        signals: &[(vk::Semaphore, u64)],
    ) -> Result<u64> {
        self.context.check()?;
        let value = state.submitted + 1;
        let commands = [vk::CommandBufferSubmitInfo::default().command_buffer(commands)];
        let signal = |&(semaphore, value): &(vk::Semaphore, u64)| {
            vk::SemaphoreSubmitInfo::default()
                .semaphore(semaphore)
                .value(value)
                .stage_mask(vk::PipelineStageFlags2::ALL_COMMANDS)
        };
        let signals: smallvec::SmallVec<[_; 4]> =
            signals.iter().chain([&(self.timeline, value)]).map(signal).collect();
        let submit =
            [vk::SubmitInfo2::default().command_buffer_infos(&commands).signal_semaphore_infos(&signals)];
        let queue = lock(&self.context.queue);
        // SAFETY: the commands are recorded and kept until they have ended; the queue is locked.
        unsafe { self.context.device.queue_submit2(*queue, &submit, vk::Fence::null()) }
            .map_err(|code| self.context.error("vkQueueSubmit2", code))?;
        state.submitted = value;
        Ok(value)
    }

    /// Hands a job that may run to the device.
    fn start(&self, state: &mut State, job: &Arc<Job>) -> Result<()> {
        self.retire(state);
        let mut signals: smallvec::SmallVec<[(vk::Semaphore, u64); 4]> = smallvec::SmallVec::new();
        for (event, value) in &job.order.signals {
            let semaphore = vulkan(event)?.promise(*value);
            signals.extend(semaphore.map(|semaphore| (semaphore, *value)));
        }
        let Some(work) = lock(&job.work).clone() else { return Ok(()) };
        let value = self.submit_locked(state, work.commands(), &signals)?;
        state.in_flight.push_back((value, job.clone()));
        job.enter(Phase::Submitted(value));
        Ok(())
    }

    /// Lets go of what the device has ended.
    fn retire(&self, state: &mut State) {
        let reached = self.reached();
        while state.in_flight.front().is_some_and(|(value, _)| *value <= reached) {
            state.in_flight.pop_front();
        }
    }

    /// How far the device has come. A lost device has ended everything.
    fn reached(&self) -> u64 {
        // SAFETY: the semaphore belongs to the device and lives.
        match unsafe { self.context.device.get_semaphore_counter_value(self.timeline) } {
            Ok(value) => {
                self.reached.fetch_max(value, Ordering::AcqRel);
                value
            }
            Err(code) => {
                self.context.error("vkGetSemaphoreCounterValue", code);
                u64::MAX
            }
        }
    }

    /// Waits until the device has come so far.
    pub fn wait(&self, value: u64, what: &str) -> Result<()> {
        if self.reached.load(Ordering::Acquire) >= value {
            return self.context.check();
        }
        let start = Instant::now();
        while !event::wait(&self.context, self.timeline, value, LOOK)? {
            if start.elapsed() > self.patience {
                let seconds = self.patience.as_secs();
                return Err(self.context.lose(format!(
                    "{what} has not ended after {seconds} seconds on {}",
                    self.context.name()
                )));
            }
        }
        self.reached.fetch_max(value, Ordering::AcqRel);
        self.context.check()
    }

    /// The life of the thread that attends to what is held back.
    fn attend(&self) {
        loop {
            let job = {
                let mut state = lock(&self.state);
                let Some(job) = state.held.front().cloned() else {
                    state.attended = false;
                    return;
                };
                job
            };
            let admitted = job.order.admit(promised, &|| self.closed.load(Ordering::Acquire));
            let mut state = lock(&self.state);
            state.held.pop_front();
            if let Err(error) = admitted.and_then(|()| self.start(&mut state, &job)) {
                job.fail(error);
            }
        }
    }

    /// Gives up on what waits for the host, and waits for the device.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let held: Vec<_> = lock(&self.state).held.iter().cloned().collect();
        for job in &held {
            job.order.waits.iter().for_each(|(event, _)| event.wake());
        }
        for job in held {
            job.settled();
        }
        let last = lock(&self.state).submitted;
        // A device that is lost runs nothing any more.
        let _ = self.wait(last, "the last submission");
        lock(&self.state).in_flight.clear();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: every submission was waited for when the backend closed the queue, or the device is lost.
        unsafe { self.context.device.destroy_semaphore(self.timeline, None) }
    }
}

/// Whether the value is reached, or will be by work that the device already has.
fn promised((event, value): &EventValue) -> Result<bool> {
    vulkan(event)?.is_promised(*value)
}

fn vulkan(event: &Arc<dyn crate::hal::event::SharedEvent>) -> Result<&VulkanEvent> {
    let found = event.as_any().downcast_ref();
    found.ok_or_else(|| Error::WrongDevice { what: "an event".into() })
}

impl Job {
    fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        self.changed.notify_all();
    }

    fn fail(&self, error: Error) {
        self.order.poison(&error);
        self.enter(Phase::Failed(error));
    }

    /// Its phase, once it is no longer held back.
    fn settled(&self) -> Phase {
        let mut phase = lock(&self.phase);
        while matches!(*phase, Phase::Held) {
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
        phase.clone()
    }

    /// Whether it has ended.
    pub fn is_done(&self, queue: &Queue) -> bool {
        let phase = lock(&self.phase).clone();
        match phase {
            Phase::Held => false,
            Phase::Submitted(value) => {
                queue.reached.load(Ordering::Acquire) >= value || queue.reached() >= value
            }
            Phase::Failed(_) => true,
        }
    }

    /// Waits for the end and tells how it went.
    pub fn wait(&self, queue: &Queue) -> Result<()> {
        let decide = || {
            let result = match self.settled() {
                Phase::Held => Ok(()),
                Phase::Failed(error) => return Err(error),
                Phase::Submitted(value) => {
                    let ended = queue.wait(value, &named(&self.order.label));
                    if ended.is_ok() {
                        // What it used need not wait for the next submission to be free.
                        drop(lock(&self.work).take());
                    }
                    ended
                }
            };
            // What it depended on was running beside it: by now it has ended.
            let result = result.and_then(|()| self.order.after.iter().try_for_each(Dependency::check));
            if let Err(error) = &result {
                self.order.poison(error);
            }
            result
        };
        self.outcome.get_or_init(decide).clone()
    }
}
