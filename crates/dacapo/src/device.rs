//! Devices.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::buffer::{Allocation, Buffer, Reclaim, Role, lock};
use crate::dispatch::Dispatch;
use crate::event::{EventPoint, StageEvents};
use crate::hal::cpu::CpuBackend;
use crate::hal::event::Order;
use crate::hal::fault::{FaultBackend, FaultPlan};
use crate::hal::file::MappedFile;
use crate::hal::gpu::{GpuCaps, GpuLimits};
use crate::hal::info::{BackendKind, DeviceInfo, DeviceSelect, MetalOptions};
use crate::hal::kernel::Kernel;
use crate::hal::meter::{MemoryMeter, MemoryUse};
use crate::hal::{Backend, Completion, Importance, Memory};
use crate::profile::{Counters, SharedCounters};
use crate::registry::KernelRegistry;
use crate::residency::Members;
use crate::state::DeviceState;
use crate::submission::{Fate, Submission};
use crate::usage::Touches;
use crate::{DType, Element, Error, Result};

/// Which device to open, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Family of the device. Default: the CPU.
    pub backend: BackendKind,
    /// Worker threads of a CPU device. Default: as many as the process may use cores.
    pub threads: Option<usize>,
    /// Which GPU is meant. Default: the best.
    pub select: DeviceSelect,
    /// Folder in which a GPU's compiled kernels are kept between runs. Default: nowhere.
    pub cache: Option<PathBuf>,
    /// How long one submission may take on a GPU before the device counts as lost. Default: a minute.
    pub patience: Duration,
    /// Collect what a GPU's driver and its validation layers have to say, for [`Device::messages`]. Default: no.
    pub debug: bool,
    /// For tests: a GPU is used as if it could do no more than this. Default: what it can.
    pub gpu_caps: GpuCaps,
    /// How a Metal device is used.
    pub metal: MetalOptions,
    /// For tests: what a CPU device says it offers as a GPU. Operations record what they would record there; the CPU runs
    /// that, or somebody else. Default: nothing.
    pub as_gpu: Option<GpuLimits>,
    /// For tests: something that is to fail. Default: nothing.
    pub fault: Option<FaultPlan>,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        DeviceOptions {
            backend: BackendKind::Cpu,
            threads: None,
            select: DeviceSelect::Auto,
            cache: None,
            patience: Duration::from_secs(60),
            debug: false,
            gpu_caps: GpuCaps::default(),
            metal: MetalOptions::default(),
            as_gpu: None,
            fault: None,
        }
    }
}

impl DeviceOptions {
    /// A GPU through Vulkan.
    pub fn vulkan(select: DeviceSelect) -> Self {
        DeviceOptions { backend: BackendKind::Vulkan, select, ..DeviceOptions::default() }
    }

    /// A GPU through Metal.
    pub fn metal(select: DeviceSelect) -> Self {
        DeviceOptions { backend: BackendKind::Metal, select, ..DeviceOptions::default() }
    }

    fn backend(&self) -> Result<Box<dyn Backend>> {
        match self.backend {
            BackendKind::Cpu => Ok(Box::new(CpuBackend::open(self.threads, self.as_gpu.clone())?)),
            #[cfg(feature = "vulkan")]
            BackendKind::Vulkan => {
                let options = crate::hal::vulkan::VulkanOptions {
                    select: self.select.clone(),
                    debug: self.debug,
                    caps: self.gpu_caps,
                    cache: self.cache.clone(),
                    patience: self.patience,
                };
                Ok(Box::new(crate::hal::vulkan::VulkanBackend::open(&options)?))
            }
            #[cfg(all(feature = "metal", any(target_vendor = "apple", metal_sim)))]
            BackendKind::Metal => {
                let (select, options) = (&self.select, &self.metal);
                Ok(Box::new(crate::hal::metal::MetalBackend::open(
                    select,
                    options,
                    &self.gpu_caps,
                    self.patience,
                )?))
            }
            #[allow(unreachable_patterns, reason = "a program may have every backend")]
            absent => Err(Error::NoDevice(format!("this program was built without the {absent} backend"))),
        }
    }
}

/// An open device: memory, kernels and a queue. A handle; clones are the same device.
///
/// Command buffers run in the order in which they are committed. Several threads may use a device at once.
#[derive(Debug, Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    backend: Box<dyn Backend>,
    registry: KernelRegistry,
    state: Arc<DeviceState>,
    in_flight: Mutex<Vec<Arc<Fate>>>,
    /// Flushed at each submission.
    residency: Mutex<Vec<Weak<Mutex<Members>>>>,
}

impl Device {
    /// Opens a device.
    ///
    /// # Errors
    /// If there is no such device, or it cannot be started.
    pub fn open(options: DeviceOptions) -> Result<Device> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut backend = options.backend()?;
        if let Some(plan) = options.fault {
            backend = Box::new(FaultBackend::new(backend, plan));
        }
        Ok(Device {
            inner: Arc::new(Inner {
                id: NEXT.fetch_add(1, Ordering::Relaxed),
                backend,
                registry: KernelRegistry::default(),
                state: Arc::default(),
                in_flight: Mutex::default(),
                residency: Mutex::default(),
            }),
        })
    }

    /// All devices that [`open`](Self::open) could open on this machine.
    pub fn enumerate() -> Vec<DeviceInfo> {
        let devices = std::iter::once(crate::hal::cpu::describe(None));
        #[cfg(all(feature = "metal", any(target_vendor = "apple", metal_sim)))]
        let devices = devices.chain(crate::hal::metal::enumerate());
        #[cfg(feature = "vulkan")]
        let devices = devices.chain(crate::hal::vulkan::enumerate());
        devices.collect()
    }

    /// What a GPU's driver and its validation layers had to say so far, if the device was opened with
    /// [`debug`](DeviceOptions::debug).
    pub fn messages(&self) -> Vec<String> {
        self.inner.backend.messages()
    }

    /// What the device is and can do.
    pub fn info(&self) -> &DeviceInfo {
        self.inner.backend.info()
    }

    /// Worker threads.
    pub fn threads(&self) -> usize {
        self.info().threads
    }

    /// Whether the device has code for this kernel.
    pub fn supports(&self, kernel: &'static Kernel) -> bool {
        self.inner.backend.supports(kernel)
    }

    /// Whether the device can run this dispatch, as far as its kernel's plan tells.
    pub(crate) fn fits(&self, dispatch: &Dispatch) -> Result<()> {
        let bound = dispatch.bind()?;
        let (kernel, grid) = (dispatch.kernel(), dispatch.threads());
        self.inner.backend.fits(kernel, &bound.resolved, &bound.params, grid)
    }

    /// A buffer of zeros.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn alloc(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let len = crate::buffer::element_count(shape)?;
        let memory = self.allocate(len * dtype.size(), Importance::Lasting)?;
        Buffer::new(self.allocation(memory, Role::Shared, None), 0, dtype, shape)
    }

    /// A buffer with these elements.
    ///
    /// # Errors
    /// If the memory cannot be had, or the shape has another number of elements.
    pub fn upload<T: Element>(&self, elements: &[T], shape: &[usize]) -> Result<Buffer> {
        let buffer = self.alloc(T::DTYPE, shape)?;
        buffer.copy_from(elements)?;
        Ok(buffer)
    }

    /// A buffer that is a part of a file, from byte `offset` on: read-only and not copied where the device can
    /// read the file in place. The offset need not be aligned, but kernels and guards refuse what is misaligned
    /// for its type; bytes ([`DType::U8`]) always work.
    ///
    /// # Errors
    /// If the part reaches past the end of the file.
    pub fn map(
        &self,
        file: &Arc<MappedFile>,
        offset: usize,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Buffer> {
        let len = crate::buffer::element_count(shape)?;
        self.inner.state.check()?;
        let memory = self.note(self.inner.backend.map_file(file, offset, len * dtype.size()))?;
        Buffer::new(self.allocation(memory, Role::Shared, None), 0, dtype, shape)
    }

    /// A buffer for a value that lives only inside a graph: written by one dispatch, read by later ones of the
    /// same graph, seen by nobody else. It has no memory until the graph is compiled or finished; then the values
    /// of the graph share one arena. Every byte must be written before it is read.
    ///
    /// Until then nothing but recording can use it: live encoding and host access fail with
    /// [`Error::Transient`](crate::Error::Transient).
    ///
    /// # Errors
    /// If the shape is too large to address.
    pub fn transient(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let len = crate::buffer::element_count(shape)? * dtype.size();
        let memory = Arc::new(crate::transient::NoMemory { len });
        Buffer::new(self.allocation(memory, Role::Transient, None), 0, dtype, shape)
    }

    /// The kernels compiled so far.
    pub fn registry(&self) -> &KernelRegistry {
        &self.inner.registry
    }

    /// What all encoders of this device have done since it was opened.
    pub fn counters(&self) -> Counters {
        self.inner.state.counters.snapshot()
    }

    /// Memory that exists on this device: buffers, free blocks of pools, what unended work keeps.
    pub fn memory_in_use(&self) -> MemoryUse {
        self.memory_meter().in_use()
    }

    /// A handle that counts this device's memory, also after the device is gone.
    pub fn memory_meter(&self) -> MemoryMeter {
        self.inner.backend.memory_meter().clone()
    }

    /// Waits until everything committed so far has ended. Work that waits for an event which the host is to signal
    /// ends only when another thread does so.
    ///
    /// # Errors
    /// The first failure among submissions that nobody can ask any more.
    pub fn wait_idle(&self) -> Result<()> {
        let pending = lock(&self.inner.in_flight).clone();
        pending.iter().for_each(|fate| fate.settle());
        self.report_lost()
    }

    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn state(&self) -> &Arc<DeviceState> {
        &self.inner.state
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.inner.backend
    }

    pub(crate) fn shared_counters(&self) -> &SharedCounters {
        &self.inner.state.counters
    }

    /// Remembers it if the result says that the device is lost.
    pub(crate) fn note<T>(&self, result: Result<T>) -> Result<T> {
        self.inner.state.note(result)
    }

    /// Zeroed memory, for a new allocation.
    pub(crate) fn allocate(&self, bytes: usize, importance: Importance) -> Result<Arc<dyn Memory>> {
        self.inner.state.check()?;
        self.note(self.inner.backend.allocate(bytes, importance))
    }

    pub(crate) fn allocation(
        &self,
        memory: Arc<dyn Memory>,
        role: Role,
        reclaim: Option<Reclaim>,
    ) -> Arc<Allocation> {
        Allocation::new(self.inner.id, memory, self.inner.state.clone(), role, reclaim)
    }

    /// Fails if the device is lost, or if a submission failed whose handles were all dropped before anybody asked.
    pub(crate) fn report_lost(&self) -> Result<()> {
        self.inner.state.check()?;
        let mut in_flight = lock(&self.inner.in_flight);
        let mut lost = Ok(());
        // A finished submission stays listed while somebody may still ask for its failure, or drop it unasked.
        in_flight.retain(|fate| {
            if !fate.is_done() {
                return true;
            }
            if lost.is_ok() {
                lost = fate.lost_failure(&self.inner.state);
            }
            fate.may_be_lost()
        });
        lost
    }

    /// Starts work that uses this memory, between these events. `start` hands it to the backend.
    ///
    /// Registration and submission are one step: a guard of the host taken meanwhile waits for this submission.
    pub(crate) fn submit(
        &self,
        label: &str,
        touches: &Arc<Touches>,
        events: &StageEvents,
        start: impl FnOnce(Order) -> Result<Arc<dyn Completion>>,
    ) -> Result<Submission> {
        self.report_lost()?;
        self.flush_residency(touches)?;
        let state = &self.inner.state;
        let mut ledger = lock(&state.ledger);
        ledger.check_free(touches)?;
        let order = Order {
            label: label.to_owned(),
            waits: events.waits.iter().map(EventPoint::order).collect(),
            after: ledger.dependencies(touches),
            signals: events.signals.iter().map(EventPoint::order).collect(),
        };
        let completion = state.note(start(order))?;
        let submission = Submission::new(label.to_owned(), completion, state.clone());
        ledger.submitted(submission.fate().clone(), touches.clone());
        lock(&self.inner.in_flight).push(submission.fate().clone());
        Ok(submission)
    }

    /// From now on, every submission flushes this set first.
    pub(crate) fn attach(&self, set: Weak<Mutex<Members>>) {
        lock(&self.inner.residency).push(set);
    }

    fn flush_residency(&self, touches: &Touches) -> Result<()> {
        let mut sets = lock(&self.inner.residency);
        sets.retain(|set| set.strong_count() > 0);
        for set in sets.iter().filter_map(Weak::upgrade) {
            self.note(lock(&set).flush(self.backend(), |allocation| touches.contains(allocation)))?;
        }
        Ok(())
    }
}
