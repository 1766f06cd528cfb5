//! The queue: what is committed at once, and what has to wait for the host first.
//!
//! The device runs command buffers in order, and a fence keeps their encoders apart, so that none needs an event to wait for
//! another. A submission that waits for a value which neither work before it nor the host has promised is held
//! back, with everything behind it, by a thread that lives as long as there is such work.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use block2::RcBlock;
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLCommandBuffer, MTLCommandBufferStatus, MTLEvent};
use smallvec::SmallVec;

use super::context::Context;
use super::job::{Job, metal, promised};
use super::objects::{Object, describe, lock};
use super::recording::{Ahead, Source};
use crate::hal::event::{Order, named};
use crate::{Error, Result};

/// The queue of a device.
pub(super) struct Queue {
    context: Arc<Context>,
    ahead: Ahead,
    state: Mutex<State>,
    closed: AtomicBool,
    /// How long a submission may take before the device counts as hung.
    patience: Duration,
}

#[derive(Default)]
struct State {
    /// What the device may still be working on.
    in_flight: Vec<Arc<Job>>,
    /// What is held back, in order.
    held: VecDeque<Arc<Job>>,
    /// Whether a thread takes care of it.
    attended: bool,
}

impl Queue {
    pub fn new(context: &Arc<Context>, patience: Duration) -> Arc<Queue> {
        Arc::new(Queue {
            context: context.clone(),
            ahead: Ahead::new(context),
            state: Mutex::default(),
            closed: AtomicBool::new(false),
            patience,
        })
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Commits work, or holds it back until it may run.
    pub fn submit(self: &Arc<Self>, source: &Arc<Source>, order: Order) -> Result<Arc<Job>> {
        self.context.check()?;
        let samples = source.samples(&self.context);
        let job = Job::new(source.clone(), order, samples);
        let mut state = lock(&self.state);
        if state.held.is_empty() && !state.attended {
            match job.order.may_run(promised) {
                Ok(true) => {
                    self.start(&mut state, &job)?;
                    return Ok(job);
                }
                Ok(false) => {}
                Err(error) => {
                    job.ended(Err(error));
                    return Ok(job);
                }
            }
        }
        state.held.push_back(job.clone());
        if !state.attended {
            let queue = self.clone();
            std::thread::Builder::new()
                .name("dacapo-metal".into())
                .spawn(move || queue.attend())
                .map_err(|error| self.context.lose(format!("its queue cannot start a thread: {error}")))?;
            state.attended = true;
        }
        Ok(job)
    }

    /// Commits a job that may run.
    fn start(self: &Arc<Self>, state: &mut State, job: &Arc<Job>) -> Result<()> {
        self.context.check()?;
        let Some(source) = job.source() else { return Ok(()) };
        state.in_flight.retain(|job| !job.is_done());
        autoreleasepool(|_| {
            if let Some(residency) = &self.context.residency {
                residency.flush();
            }
            let mut raised: SmallVec<[_; 4]> = SmallVec::new();
            for (event, value) in &job.order.signals {
                raised.push((metal(event)?, *value));
            }
            let commands = source.encoded(&self.context, job.samples.as_ref())?;
            // Nothing fails from here on: what is promised will be raised or poisoned.
            for (event, value) in raised {
                if let Some(raw) = event.promise(value) {
                    let raw: &ProtocolObject<dyn MTLEvent> = ProtocolObject::from_ref(&**raw);
                    commands.encodeSignalEvent_value(raw, value);
                }
            }
            self.when_done(&commands.0, job);
            job.started();
            state.in_flight.push(job.clone());
            commands.commit();
            Ok(())
        })?;
        self.ahead.after(&source);
        Ok(())
    }

    /// Has the job told how its command buffer ended.
    fn when_done(&self, commands: &Object<dyn MTLCommandBuffer>, job: &Arc<Job>) {
        let (job, context) = (job.clone(), self.context.clone());
        // The job keeps what the command buffer uses until here. Metal drops the block after the call.
        let block = RcBlock::new(move |commands: NonNull<ProtocolObject<dyn MTLCommandBuffer>>| {
            autoreleasepool(|_| {
                // SAFETY: Metal calls this with the command buffer, which lives meanwhile.
                let commands = unsafe { commands.as_ref() };
                let result = outcome(&context, commands, &job);
                job.ran(job.committed().and_then(|start| context.clock.ran(commands, start)));
                if let Some(samples) = &job.samples {
                    samples.ended(&context);
                }
                job.ended(result);
            });
        });
        // SAFETY: the block may be called by any thread: what it holds is shared.
        unsafe { commands.addCompletedHandler(RcBlock::as_ptr(&block)) };
    }

    /// The life of the thread that attends to what is held back.
    fn attend(self: &Arc<Self>) {
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
                job.ended(Err(error));
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
        let running = std::mem::take(&mut lock(&self.state).in_flight);
        for job in running {
            // A device that is lost runs nothing any more; other failures were told to whoever waited.
            let _ = job.end(self);
        }
        self.ahead.close();
    }
}

/// How a command buffer ended. A failed one leaves the device as it is.
fn outcome(context: &Context, commands: &ProtocolObject<dyn MTLCommandBuffer>, job: &Job) -> Result<()> {
    let status = commands.status();
    if status == MTLCommandBufferStatus::Completed {
        return Ok(());
    }
    let what = named(&job.order.label);
    let why = commands.error().map_or_else(|| "no reason given".into(), |error| describe(&error));
    Err(Error::Driver {
        device: context.name().to_owned(),
        call: "commit",
        code: format!("{what} ended with status {}: {why}", status.0),
    })
}
