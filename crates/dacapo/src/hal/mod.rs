//! The hardware layer: what a backend implements. No logic of its own.
//!
//! Everything above this floor speaks to a backend through these traits alone. They follow what the three
//! families of backend have in common: memory that may or may not be visible to the host, pipelines made from
//! kernels, command buffers that hold dispatches and full barriers, and completions of submitted command buffers.

use std::any::Any;
use std::fmt::Debug;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::profile::Span;
use crate::{DType, Error, Result};

pub mod cpu;
pub mod event;
pub mod fault;
pub mod file;
pub mod gpu;
pub mod info;
pub mod kernel;
#[cfg(all(feature = "metal", any(target_vendor = "apple", metal_sim)))]
pub mod metal;
pub mod meter;
pub mod signature;
#[cfg(feature = "vulkan")]
pub mod vulkan;
#[cfg(any(feature = "vulkan", feature = "metal"))]
pub mod wgsl;

use event::{Order, SharedEvent};
use file::MappedFile;
use info::DeviceInfo;
use kernel::Kernel;
use meter::MemoryMeter;
use signature::Access;

/// What should stay in a device's own memory if there is not enough of it for all programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Importance {
    /// Weights, caches: read in every step.
    Lasting,
    /// Values within graphs, blocks of pools.
    Scratch,
}

/// A device that can hold memory and run command buffers.
pub(crate) trait Backend: Send + Sync + Debug {
    /// What the device is and can do.
    fn info(&self) -> &DeviceInfo;

    /// Zeroed memory of at least `bytes` bytes, aligned for every element type.
    fn allocate(&self, bytes: usize, importance: Importance) -> Result<Arc<dyn Memory>>;

    /// Memory that is a part of a file, read-only, copied only if the device cannot read it in place.
    fn map_file(&self, file: &Arc<MappedFile>, offset: usize, len: usize) -> Result<Arc<dyn Memory>>;

    /// Makes a kernel ready to run.
    fn pipeline(&self, kernel: &'static Kernel) -> Result<Arc<dyn Pipeline>>;

    /// Gets ready what dispatches will need that takes long to make, side by side. A hint: what cannot be made fails
    /// when the dispatch is encoded.
    fn prepare(&self, dispatches: &mut dyn Iterator<Item = Upcoming>) {
        let _ = dispatches;
    }

    /// Whether there is code for this kernel here. A device without it cannot make its pipeline.
    fn supports(&self, kernel: &'static Kernel) -> bool {
        let _ = kernel;
        true
    }

    /// Whether a dispatch of a kernel that is supported would run here, as far as that can be told from its plan: it may
    /// ask for more workgroup memory than there is. Memory need not exist yet.
    fn fits(
        &self,
        kernel: &'static Kernel,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        let _ = (kernel, args, params, grid);
        Ok(())
    }

    /// An empty command buffer.
    fn command_buffer(&self, label: &str) -> Result<Box<dyn CommandBuffer>>;

    /// A counter at zero that submissions and the host signal and wait for.
    fn event(&self) -> Result<Arc<dyn SharedEvent>>;

    /// Brings memory near the device before it is needed. A hint.
    fn make_resident(&self, memory: &dyn Memory) -> Result<()> {
        let _ = memory;
        Ok(())
    }

    /// Takes back what [`make_resident`](Self::make_resident) asked for. Nothing in flight uses the memory.
    fn evict(&self, memory: &dyn Memory) {
        let _ = memory;
    }

    /// What the driver and its layers had to say, if the device was opened to collect it.
    fn messages(&self) -> Vec<String> {
        Vec::new()
    }

    /// Has the tools of the device's maker note the work that begins from now on, in a file that does not exist yet.
    fn capture(&self, file: &Path) -> Result<Box<dyn Capture>> {
        let reason = format!("only Metal devices can be captured, and this one is {}", self.info().backend);
        Err(Error::Capture { file: file.to_path_buf(), reason })
    }

    /// Counts the memory that exists.
    fn memory_meter(&self) -> &MemoryMeter;
}

/// A capture that is going on. Dropped, it ends.
pub(crate) trait Capture: Send + Debug {
    /// Ends it. An error if the file is not there then.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A block of memory of one device.
pub(crate) trait Memory: Send + Sync + Debug {
    /// Bytes.
    fn len(&self) -> usize;

    /// For the backend to recognize its own.
    #[cfg_attr(not(feature = "vulkan"), allow(dead_code, reason = "the processor does not ask"))]
    fn as_any(&self) -> &dyn Any;

    /// Whether neither host nor device may write it.
    fn read_only(&self) -> bool;

    /// Address of the first byte if the host can reach the memory directly. Valid as long as the object lives.
    fn host_ptr(&self) -> Option<NonNull<u8>>;

    /// Copies bytes to the host. The caller has made sure that nobody writes them meanwhile.
    fn read(&self, offset: usize, to: &mut [u8]) -> Result<()>;

    /// Copies bytes from the host. The caller has made sure that nobody uses them meanwhile, and that the memory
    /// is not read-only.
    fn write(&self, offset: usize, from: &[u8]) -> Result<()>;

    /// Sets all bytes to zero, under the conditions of [`write`](Self::write).
    fn clear(&self) -> Result<()>;

    /// Touches the memory, so that its first use does not have to fetch it. A hint.
    fn populate(&self) {}
}

/// A buffer argument of a dispatch, checked and resolved.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedArg {
    /// The memory it lies in, kept alive by whoever keeps this.
    pub memory: Arc<dyn Memory>,
    /// First byte of the view in its memory.
    pub offset: usize,
    /// Elements in the view.
    pub len: usize,
    /// Their type; `offset` lies on its boundary wherever the device needs that.
    pub dtype: DType,
    /// What the kernel's signature says.
    pub access: Access,
}

/// A dispatch that will be encoded.
#[cfg_attr(not(feature = "vulkan"), allow(dead_code, reason = "the processor does not ask"))]
pub(crate) struct Upcoming {
    pub pipeline: Arc<dyn Pipeline>,
    pub args: smallvec::SmallVec<[ResolvedArg; 8]>,
    pub params: smallvec::SmallVec<[u8; 64]>,
    pub grid: [u32; 3],
}

/// A kernel made ready to run on one device.
pub(crate) trait Pipeline: Send + Sync + Debug {
    /// For the backend to recognize its own.
    fn as_any(&self) -> &dyn Any;
}

/// Dispatches and barriers in the order in which they were encoded.
pub(crate) trait CommandBuffer: Send {
    /// Adds a dispatch. It may run beside every other one since the last barrier.
    ///
    /// The caller has checked the arguments against the kernel's signature, and that nothing a concurrent
    /// dispatch writes is touched by this one.
    fn dispatch(
        &mut self,
        pipeline: &dyn Pipeline,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()>;

    /// Everything before becomes complete and visible to everything after.
    fn barrier(&mut self);

    /// From now on the device notes when the dispatches between two barriers begin and end, for
    /// [`Completion::group_times`]. Called before the first dispatch. A device without such a clock ignores it.
    fn time_groups(&mut self) {}

    /// Hands the work to the device. Command buffers of a device run in the order of submission, each as its
    /// [`Order`] says.
    fn submit(self: Box<Self>, order: Order) -> Result<Arc<dyn Completion>>;

    /// Ends the encoding without running anything: the work can then be submitted again and again.
    fn finish(self: Box<Self>) -> Result<Arc<dyn Recording>>;
}

/// An encoded command buffer that can be submitted any number of times. It keeps the memory it uses alive.
pub(crate) trait Recording: Send + Sync + Debug {
    /// Hands the work to the device, in the order of submission and as its [`Order`] says. No work for each
    /// dispatch, where the device allows it.
    fn submit(&self, order: Order) -> Result<Arc<dyn Completion>>;
}

/// The fate of a submitted command buffer.
pub(crate) trait Completion: Send + Sync + Debug {
    /// Whether it has ended, well or not.
    fn is_done(&self) -> bool;

    /// Waits for the end. Gives the same answer every time.
    fn wait(&self) -> Result<()>;

    /// After the end: when each stretch of dispatches between two barriers ran, on the host's clock, for each command
    /// buffer that this stands for. `None` for a stretch without work. Empty lists if nobody asked for times.
    fn group_times(&self) -> Vec<Vec<Option<Span>>> {
        Vec::new()
    }

    /// After the end: when each command buffer that this stands for ran, on the host's clock. `None` for those that did not
    /// run, and where the device does not tell.
    fn times(&self) -> Vec<Option<Span>> {
        vec![None]
    }
}
