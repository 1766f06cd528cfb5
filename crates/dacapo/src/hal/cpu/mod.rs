//! The CPU backend: a queue, a pool of workers, and memory.
//!
//! See the README beside this file for how it works.

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::hal::event::SharedEvent;
use crate::hal::file::MappedFile;
use crate::hal::gpu::GpuLimits;
use crate::hal::info::{BackendKind, DeviceInfo, DeviceKind};
use crate::hal::kernel::Kernel;
use crate::hal::meter::MemoryMeter;
use crate::hal::{Backend, CommandBuffer, Importance, Memory, Pipeline};
use crate::{Error, Result};

mod command;
mod event;
mod gate;
mod job;
#[cfg(all(test, loom))]
mod loom_tests;
mod memory;
mod queue;
mod slab;
mod sync;
mod system;
pub mod tile;

use command::{CpuCommandBuffer, CpuPipeline, Program};
use queue::Queue;

/// The CPU as a device.
pub(crate) struct CpuBackend {
    info: DeviceInfo,
    queue: Arc<Queue<Program>>,
    workers: Vec<JoinHandle<()>>,
    threads: usize,
    slabs: slab::Slabs,
    meter: MemoryMeter,
}

impl std::fmt::Debug for CpuBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cpu backend with {} workers", self.threads)
    }
}

impl CpuBackend {
    /// Starts `threads` workers; by default as many as the process may use cores. Operations see `as_gpu`, if it is there.
    pub fn open(threads: Option<usize>, as_gpu: Option<GpuLimits>) -> Result<Self> {
        let info = DeviceInfo { gpu: as_gpu, ..describe(threads) };
        let threads = info.threads;
        let queue = Arc::new(Queue::new());
        let mut backend = CpuBackend {
            info,
            queue,
            workers: Vec::with_capacity(threads),
            threads,
            slabs: slab::Slabs::default(),
            meter: MemoryMeter::default(),
        };
        for index in 0..threads {
            let queue = backend.queue.clone();
            let worker = std::thread::Builder::new()
                .name(format!("dacapo-{index}"))
                .spawn(move || queue.run_worker())
                .map_err(|e| Error::DeviceLost(format!("cannot start worker {index}: {e}")))?;
            backend.workers.push(worker);
        }
        Ok(backend)
    }
}

/// The CPU's description, with the number of workers that `threads` leads to.
pub(crate) fn describe(threads: Option<usize>) -> DeviceInfo {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    DeviceInfo {
        backend: BackendKind::Cpu,
        index: 0,
        name: system::processor_name(),
        kind: DeviceKind::Processor,
        driver: None,
        threads: threads.unwrap_or(cores).max(1),
        memory_bytes: system::memory_bytes(),
        features: system::features(),
        gpu: None,
    }
}

impl Drop for CpuBackend {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of kernels; there is nothing to learn from how it ended.
            let _ = worker.join();
        }
    }
}

impl Backend for CpuBackend {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, bytes: usize, _: Importance) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(memory::HostMemory::new(bytes, &self.slabs, &self.info.name, &self.meter)?))
    }

    fn map_file(&self, file: &Arc<MappedFile>, offset: usize, len: usize) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(memory::FileMemory::new(file.clone(), offset, len, &self.meter)?))
    }

    fn pipeline(&self, kernel: &'static Kernel) -> Result<Arc<dyn Pipeline>> {
        Ok(Arc::new(CpuPipeline { kernel }))
    }

    fn command_buffer(&self, label: &str) -> Result<Box<dyn CommandBuffer>> {
        Ok(Box::new(CpuCommandBuffer::new(self.queue.clone(), self.threads, label)))
    }

    fn event(&self) -> Result<Arc<dyn SharedEvent>> {
        Ok(Arc::new(event::CpuEvent::new()))
    }

    fn make_resident(&self, memory: &dyn Memory) -> Result<()> {
        memory.populate();
        Ok(())
    }

    fn memory_meter(&self) -> &MemoryMeter {
        &self.meter
    }
}
