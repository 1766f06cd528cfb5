//! Queues and command buffers.

use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use block2::{DynBlock, RcBlock};
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, ProtocolObject};
use objc2::{DefinedClass, Message};
use objc2_metal::{MTLCommandBuffer, MTLCommandBufferStatus, MTLDispatchType};

use super::descriptors::PassDescriptor;
use super::encoder::Encoder;
use super::foundation::{Failure, Text, says};
use super::living;
use super::resources::{ResidencySet, SharedEvent};
use crate::gpu::{self, Pass, Samples, Submitted, Work};
use crate::{complain, lock};

/// How long a call waits for command buffers to end before the simulation says that it would wait for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Command buffers of a queue that exist and have not ended.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    count: Mutex<usize>,
    fewer: Condvar,
}

/// One of them.
#[derive(Debug)]
struct Place(Arc<Unfinished>);

impl Place {
    fn new(unfinished: &Arc<Unfinished>, most: usize) -> Place {
        let count = lock(&unfinished.count);
        let full = |count: &mut usize| *count >= most;
        let waited = unfinished.fewer.wait_timeout_while(count, PATIENCE, full);
        let (mut count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *count >= most {
            complain(format!("{count} command buffers exist: another is waited for, for ever"));
        }
        *count += 1;
        Place(unfinished.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&self.0.count) -= 1;
        self.0.fewer.notify_all();
    }
}

/// What a queue holds.
pub(crate) struct QueueState {
    id: usize,
    most: usize,
    unfinished: Arc<Unfinished>,
    sets: Mutex<Vec<Retained<ResidencySet>>>,
}

class!(Queue "SimulatedCommandQueue" { QueueState }
    #[unsafe(method(setLabel:))]
    fn set_label(&self, label: Option<&Text>) {
        says(label);
    }

    #[unsafe(method(addResidencySet:))]
    fn add_set(&self, set: &ResidencySet) {
        lock(&self.ivars().sets).push(living(set).retain());
    }

    #[unsafe(method(removeResidencySet:))]
    fn remove_set(&self, set: &ResidencySet) {
        let set = std::ptr::from_ref(living(set));
        lock(&self.ivars().sets).retain(|known| !std::ptr::eq(&raw const **known, set));
    }

    #[unsafe(method_id(commandBuffer))]
    fn command_buffer(&self) -> Option<Retained<CommandBuffer>> {
        Some(self.commands(true))
    }

    #[unsafe(method_id(commandBufferWithUnretainedReferences))]
    fn unretained(&self) -> Option<Retained<CommandBuffer>> {
        Some(self.commands(false))
    }
);

impl Queue {
    pub fn new(most: usize) -> Retained<Queue> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Queue::make(QueueState { id, most, unfinished: Arc::default(), sets: Mutex::default() })
    }

    fn commands(&self, keeps: bool) -> Retained<CommandBuffer> {
        let queue = living(self).ivars();
        let state = State {
            work: Work { queue: queue.id, ..Work::default() },
            place: Some(Place::new(&queue.unfinished, queue.most)),
            captures: super::capture::begun(),
            ..State::default()
        };
        CommandBuffer::make(Commands { queue: self.retain(), keeps, state: Mutex::new(state) })
    }

    /// The buffers that its residency sets keep resident.
    fn resident(&self) -> HashSet<usize> {
        lock(&self.ivars().sets).iter().flat_map(|set| set.resident()).collect()
    }
}

/// A command buffer as the program knows it.
type Protocol = ProtocolObject<dyn MTLCommandBuffer>;
type Handler = dyn Fn(NonNull<Protocol>);

/// What a command buffer holds.
pub(crate) struct Commands {
    queue: Retained<Queue>,
    /// Whether it keeps what its commands use.
    keeps: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    work: Work,
    /// An encoder was given out and has not ended.
    encoding: bool,
    handlers: Vec<RcBlock<Handler>>,
    status: Status,
    place: Option<Place>,
    /// Captures that had begun when it was made.
    captures: u64,
    /// When the device began and ended it, in nanoseconds; 0 if it did not.
    times: (u64, u64),
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Status {
    #[default]
    Open,
    Committed,
    Completed,
    Failed(gpu::Failure),
}

class!(CommandBuffer "SimulatedCommandBuffer" { Commands }
    #[unsafe(method(setLabel:))]
    fn set_label(&self, label: Option<&Text>) {
        self.state().work.label = says(label);
    }

    #[unsafe(method_id(computeCommandEncoderWithDispatchType:))]
    fn encoder(&self, dispatch_type: MTLDispatchType) -> Option<Retained<Encoder>> {
        self.encode(dispatch_type == MTLDispatchType::Concurrent, None)
    }

    #[unsafe(method_id(computeCommandEncoderWithDescriptor:))]
    fn described(&self, described: &PassDescriptor) -> Option<Retained<Encoder>> {
        let said = described.said();
        let samples = said.attachment.as_ref().and_then(|attachment| {
            let said = attachment.said();
            let values = said.values.clone()?;
            let count = lock(&values).len();
            if said.begin.max(said.end) >= count {
                complain(format!("samples {} and {} are noted; there are {count}", said.begin, said.end));
            }
            Some(Samples { values, begin: said.begin, end: said.end })
        });
        self.encode(said.concurrent, samples)
    }

    #[unsafe(method(encodeSignalEvent:value:))]
    fn signal(&self, event: &SharedEvent, value: u64) {
        let mut state = self.open("encodeSignalEvent");
        if state.encoding {
            complain(format!("{:?}: an event is signalled while an encoder is open", state.work.label));
        }
        event.promise(value);
        state.work.signals.push((event.event().clone(), value));
    }

    #[unsafe(method(addCompletedHandler:))]
    fn add_handler(&self, handler: *mut DynBlock<Handler>) {
        // SAFETY: a block, as the caller says.
        let handler = unsafe { RcBlock::copy(handler) };
        self.open("addCompletedHandler").handlers.extend(handler);
    }

    #[unsafe(method(commit))]
    fn commit(&self) {
        let mut state = self.open("commit");
        if state.encoding {
            complain(format!("{:?} is committed while an encoder is open", state.work.label));
        }
        if state.status != Status::Open {
            return;
        }
        state.status = Status::Committed;
        let mut work = std::mem::take(&mut state.work);
        super::capture::committed(&work.label, state.captures);
        drop(state);
        let resident = self.ivars().queue.resident();
        work.passes.iter_mut().for_each(|pass| pass.resident.clone_from(&resident));
        gpu::start(Submitted { commands: self.retain(), work: Arc::new(work) });
    }

    #[unsafe(method(status))]
    fn status(&self) -> MTLCommandBufferStatus {
        match self.state().status {
            Status::Open => MTLCommandBufferStatus::NotEnqueued,
            Status::Committed => MTLCommandBufferStatus::Committed,
            Status::Completed => MTLCommandBufferStatus::Completed,
            Status::Failed(_) => MTLCommandBufferStatus::Error,
        }
    }

    #[unsafe(method(GPUStartTime))]
    fn begin_time(&self) -> f64 {
        self.state().times.0 as f64 / 1e9
    }

    #[unsafe(method(GPUEndTime))]
    fn end_time(&self) -> f64 {
        self.state().times.1 as f64 / 1e9
    }

    #[unsafe(method_id(error))]
    fn error(&self) -> Option<Retained<Failure>> {
        match &self.state().status {
            Status::Failed(failure) => {
                Some(Failure::make(("MTLCommandBufferErrorDomain", failure.code, failure.reason.clone())))
            }
            _ => None,
        }
    }
);

impl CommandBuffer {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&living(self).ivars().state)
    }

    /// The state, for a call that only works before the commit.
    fn open(&self, call: &str) -> std::sync::MutexGuard<'_, State> {
        let state = self.state();
        if state.status != Status::Open {
            complain(format!("{call} is called on a command buffer that was committed"));
        }
        state
    }

    /// Whether it keeps what its commands use.
    pub fn keeps(&self) -> bool {
        self.ivars().keeps
    }

    fn encode(&self, concurrent: bool, samples: Option<Samples>) -> Option<Retained<Encoder>> {
        let mut state = self.open("computeCommandEncoder");
        if std::mem::replace(&mut state.encoding, true) {
            complain(format!("{:?}: an encoder is made while another is open", state.work.label));
        }
        drop(state);
        Some(Encoder::new(self, concurrent, samples))
    }

    /// An encoder has ended. What it says after the commit is lost.
    pub fn ended(&self, pass: Pass) {
        let mut state = self.state();
        if state.status != Status::Open {
            complain("an encoder ends after its command buffer was committed");
        }
        state.encoding = false;
        state.work.passes.push(pass);
    }

    /// The device is done with it, which it began and ended at these times.
    pub fn complete(&self, failure: Option<gpu::Failure>, times: (u64, u64)) {
        let mut state = self.state();
        state.times = times;
        state.status = failure.map_or(Status::Completed, Status::Failed);
        let handlers = std::mem::take(&mut state.handlers);
        let place = state.place.take();
        drop(state);
        drop(place);
        // SAFETY: an object is as good as another type of it that has no content of its own.
        let own: &Protocol = unsafe { &*std::ptr::from_ref::<AnyObject>(self.as_ref()).cast() };
        for handler in handlers {
            handler.call((NonNull::from(own),));
        }
    }
}
