//! A backend that wraps another and fails on cue, for tests.
//!
//! What is not told to fail is the wrapped backend's own. See the README beside this file.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::event::{Order, SharedEvent, named};
use super::file::MappedFile;
use super::info::DeviceInfo;
use super::kernel::Kernel;
use super::meter::MemoryMeter;
use super::{
    Backend, Capture, CommandBuffer, Completion, Importance, Memory, Pipeline, Recording, ResolvedArg,
    Upcoming,
};
use crate::profile::Span;
use crate::{Error, Result};

mod crash;

/// What is to fail: the `nth` time that the device comes to the point `at`, and only that time. For tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    /// Where.
    pub at: FaultPoint,
    /// Which time, from 1. 0 never comes.
    pub nth: u64,
}

/// Where a device can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultPoint {
    /// A block of memory cannot be had: [`Error::OutOfMemory`].
    Allocate,
    /// A part of a file cannot be mapped: [`Error::Io`].
    MapFile,
    /// The device says that it has no code for a kernel. Asked before a fusion is made.
    Support,
    /// A kernel cannot be made ready: [`Error::Injected`].
    Pipeline,
    /// A dispatch cannot be encoded: [`Error::Injected`].
    Encode,
    /// A barrier is left out. Nobody is told, and the results may be wrong: to see whether a checker notices.
    Barrier,
    /// A command buffer is refused: [`Error::Injected`].
    Submit,
    /// A submission fails after its work was done: [`Error::KernelFailed`]. Only on the CPU: on a GPU it ends, or the device
    /// is lost.
    Complete,
    /// The device is lost, at the nth call of any kind: [`Error::DeviceLost`], then and ever after.
    DeviceLost,
}

/// The wrapper.
#[derive(Debug)]
pub(crate) struct FaultBackend {
    inner: Arc<dyn Backend>,
    cue: Arc<Cue>,
}

/// Counts calls and says which one fails.
#[derive(Debug)]
struct Cue {
    plan: FaultPlan,
    calls: AtomicU64,
    lost: OnceLock<String>,
    /// To be poisoned when the device is lost, so that nobody waits for a lost device.
    events: Mutex<Vec<Weak<dyn SharedEvent>>>,
}

impl FaultBackend {
    /// Wraps a backend.
    pub fn new(inner: Box<dyn Backend>, plan: FaultPlan) -> Self {
        let cue = Cue { plan, calls: AtomicU64::new(0), lost: OnceLock::new(), events: Mutex::default() };
        FaultBackend { inner: Arc::from(inner), cue: Arc::new(cue) }
    }
}

impl Cue {
    /// Whether this call is the one to fail. An error if the device is lost, be it now.
    fn call(&self, point: FaultPoint, what: &dyn Fn() -> String) -> Result<bool> {
        self.check()?;
        if self.plan.at != point && self.plan.at != FaultPoint::DeviceLost {
            return Ok(false);
        }
        // Relaxed: the calls of several threads come in any order.
        let is_it = self.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.plan.nth;
        if is_it && self.plan.at == FaultPoint::DeviceLost {
            self.lost.get_or_init(|| format!("on request, at {}", what()));
            let error = self.check();
            let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events.iter().filter_map(Weak::upgrade) {
                if let Err(error) = &error {
                    event.poison(error.clone());
                }
            }
            return error.map(|()| false);
        }
        Ok(is_it)
    }

    /// A call that fails with [`Error::Injected`] when it is to fail.
    fn pass(&self, point: FaultPoint, what: &dyn Fn() -> String) -> Result<()> {
        if self.call(point, what)? {
            return Err(Error::Injected { what: what() });
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        match self.lost.get() {
            Some(cause) => Err(Error::DeviceLost(cause.clone())),
            None => Ok(()),
        }
    }
}

impl Backend for FaultBackend {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn allocate(&self, bytes: usize, importance: Importance) -> Result<Arc<dyn Memory>> {
        if self.cue.call(FaultPoint::Allocate, &|| format!("an allocation of {bytes} bytes"))? {
            return Err(Error::OutOfMemory { requested: bytes, device: self.info().name.clone() });
        }
        self.inner.allocate(bytes, importance)
    }

    fn map_file(&self, file: &Arc<MappedFile>, offset: usize, len: usize) -> Result<Arc<dyn Memory>> {
        let path = file.path();
        if self.cue.call(FaultPoint::MapFile, &|| format!("a mapping of {}", path.display()))? {
            let source = Arc::new(std::io::Error::other("injected fault: mapping failed on request"));
            return Err(Error::Io { path: path.to_path_buf(), source });
        }
        self.inner.map_file(file, offset, len)
    }

    fn pipeline(&self, kernel: &'static Kernel) -> Result<Arc<dyn Pipeline>> {
        self.cue.pass(FaultPoint::Pipeline, &|| format!("the pipeline of kernel {}", kernel.name))?;
        self.inner.pipeline(kernel)
    }

    fn prepare(&self, dispatches: &mut dyn Iterator<Item = Upcoming>) {
        self.inner.prepare(dispatches);
    }

    fn supports(&self, kernel: &'static Kernel) -> bool {
        // Only an answer: a device is not lost by being asked.
        let lacks = self.cue.plan.at == FaultPoint::Support
            && self.cue.calls.fetch_add(1, Ordering::Relaxed) + 1 == self.cue.plan.nth;
        !lacks && self.inner.supports(kernel)
    }

    fn fits(
        &self,
        kernel: &'static Kernel,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        self.inner.fits(kernel, args, params, grid)
    }

    fn command_buffer(&self, label: &str) -> Result<Box<dyn CommandBuffer>> {
        self.cue.check()?;
        let inner = self.inner.command_buffer(label)?;
        let (backend, cue) = (self.inner.clone(), self.cue.clone());
        Ok(Box::new(FaultCommands { inner, backend, cue, label: label.to_owned(), dispatches: 0 }))
    }

    fn event(&self) -> Result<Arc<dyn SharedEvent>> {
        // Under the lock, so that no event is made behind the back of a loss.
        let mut events = self.cue.events.lock().unwrap_or_else(PoisonError::into_inner);
        self.cue.check()?;
        let event = self.inner.event()?;
        events.retain(|event| event.strong_count() > 0);
        events.push(Arc::downgrade(&event));
        Ok(event)
    }

    fn make_resident(&self, memory: &dyn Memory) -> Result<()> {
        self.cue.check()?;
        self.inner.make_resident(memory)
    }

    fn evict(&self, memory: &dyn Memory) {
        self.inner.evict(memory);
    }

    fn memory_meter(&self) -> &MemoryMeter {
        self.inner.memory_meter()
    }

    fn messages(&self) -> Vec<String> {
        self.inner.messages()
    }

    fn capture(&self, file: &Path) -> Result<Box<dyn Capture>> {
        self.cue.check()?;
        self.inner.capture(file)
    }
}

struct FaultCommands {
    inner: Box<dyn CommandBuffer>,
    backend: Arc<dyn Backend>,
    cue: Arc<Cue>,
    label: String,
    dispatches: usize,
}

impl CommandBuffer for FaultCommands {
    fn dispatch(
        &mut self,
        pipeline: &dyn Pipeline,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        self.dispatches += 1;
        let (index, label) = (self.dispatches, &self.label);
        self.cue.pass(FaultPoint::Encode, &|| format!("encoding of dispatch {index} of {label:?}"))?;
        self.inner.dispatch(pipeline, args, params, grid)
    }

    fn barrier(&mut self) {
        let left_out = self.cue.plan.at == FaultPoint::Barrier
            && self
                .cue
                .call(FaultPoint::Barrier, &|| format!("a barrier of {:?}", self.label))
                .is_ok_and(|it| it);
        if !left_out {
            self.inner.barrier();
        }
    }

    fn time_groups(&mut self) {
        self.inner.time_groups();
    }

    fn submit(self: Box<Self>, order: Order) -> Result<Arc<dyn Completion>> {
        let FaultCommands { inner, backend, cue, label, .. } = *self;
        submit(&*backend, cue, label, order, |order| inner.submit(order))
    }

    fn finish(self: Box<Self>) -> Result<Arc<dyn Recording>> {
        let FaultCommands { inner, backend, cue, label, .. } = *self;
        cue.check()?;
        Ok(Arc::new(FaultRecording { inner: inner.finish()?, backend, cue, label }))
    }
}

/// A recording whose submissions fail on cue.
#[derive(Debug)]
struct FaultRecording {
    inner: Arc<dyn Recording>,
    backend: Arc<dyn Backend>,
    cue: Arc<Cue>,
    label: String,
}

impl Recording for FaultRecording {
    fn submit(&self, order: Order) -> Result<Arc<dyn Completion>> {
        let (cue, label) = (self.cue.clone(), self.label.clone());
        submit(&*self.backend, cue, label, order, |order| self.inner.submit(order))
    }
}

/// Submits work, unless that or the work itself is to fail.
fn submit(
    backend: &dyn Backend,
    cue: Arc<Cue>,
    label: String,
    order: Order,
    submit: impl FnOnce(Order) -> Result<Arc<dyn Completion>>,
) -> Result<Arc<dyn Completion>> {
    cue.pass(FaultPoint::Submit, &|| named(&label))?;
    let fails = cue.plan.at == FaultPoint::Complete && cue.call(FaultPoint::Complete, &|| named(&label))?;
    let inner = if fails { crash::after(backend, order, submit)? } else { submit(order)? };
    Ok(Arc::new(FaultCompletion { inner, cue, label, outcome: OnceLock::new() }))
}

/// The end of a submission, which may find the device lost.
#[derive(Debug)]
struct FaultCompletion {
    inner: Arc<dyn Completion>,
    cue: Arc<Cue>,
    label: String,
    outcome: OnceLock<Result<()>>,
}

impl Completion for FaultCompletion {
    fn is_done(&self) -> bool {
        self.inner.is_done()
    }

    fn wait(&self) -> Result<()> {
        // Even on a lost device the memory is in use until the wrapped backend has ended.
        let result = self.inner.wait();
        let decide = || match self.cue.plan.at {
            FaultPoint::DeviceLost => {
                self.cue.call(FaultPoint::Complete, &|| format!("the end of {}", named(&self.label)))?;
                result
            }
            _ => result,
        };
        self.outcome.get_or_init(decide).clone()
    }

    fn group_times(&self) -> Vec<Vec<Option<Span>>> {
        self.inner.group_times()
    }

    fn times(&self) -> Vec<Option<Span>> {
        self.inner.times()
    }
}
