//! The Metal backend: GPUs of Apple silicon.
//!
//! See the README beside this file for how it works.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use objc2::rc::autoreleasepool;

use crate::Result;
use crate::hal::event::SharedEvent;
use crate::hal::file::MappedFile;
use crate::hal::gpu::{GpuCaps, GpuPlan};
use crate::hal::info::{DeviceInfo, DeviceSelect, MetalOptions};
use crate::hal::kernel::Kernel;
use crate::hal::meter::MemoryMeter;
use crate::hal::wgsl::prepare::prepare;
use crate::hal::wgsl::translator::Translator;
use crate::hal::{Backend, Capture, CommandBuffer, Importance, Memory, Pipeline, ResolvedArg, Upcoming};

mod capture;
mod command;
mod context;
mod device;
mod event;
mod indirect;
mod job;
mod memory;
mod node;
mod objects;
mod pipeline;
mod queue;
mod recording;
mod residency;
mod timing;
mod work;

use command::MetalCommandBuffer;
use context::Context;
use memory::MetalMemory;
use queue::Queue;

/// A GPU.
pub(crate) struct MetalBackend {
    context: Arc<Context>,
    queue: Arc<Queue>,
    translator: Arc<Translator>,
}

impl std::fmt::Debug for MetalBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.context.fmt(f)
    }
}

impl MetalBackend {
    /// Opens a device. `patience` is how long a submission may take.
    pub fn open(
        select: &DeviceSelect,
        options: &MetalOptions,
        caps: &GpuCaps,
        patience: Duration,
    ) -> Result<MetalBackend> {
        let mut physical = device::select(select)?;
        physical.limits = physical.limits.capped(caps);
        physical.info.gpu = Some(physical.limits.clone());
        let context = Context::new(physical, options.clone())?;
        let queue = Queue::new(&context, patience);
        let translator = Arc::new(Translator::new(context.physical.limits.clone()));
        Ok(MetalBackend { context, queue, translator })
    }
}

/// The devices of this machine that would do.
pub(crate) fn enumerate() -> Vec<DeviceInfo> {
    device::enumerate().into_iter().flatten().map(|device| device.info).collect()
}

impl Drop for MetalBackend {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Backend for MetalBackend {
    fn info(&self) -> &DeviceInfo {
        &self.context.physical.info
    }

    fn allocate(&self, bytes: usize, _: Importance) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(MetalMemory::new(&self.context, bytes)?))
    }

    fn map_file(&self, file: &Arc<MappedFile>, offset: usize, len: usize) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(MetalMemory::of_file(&self.context, file, offset, len)?))
    }

    fn pipeline(&self, kernel: &'static Kernel) -> Result<Arc<dyn Pipeline>> {
        Ok(Arc::new(pipeline::MetalPipeline::new(&self.context, &self.translator, kernel)?))
    }

    fn supports(&self, kernel: &'static Kernel) -> bool {
        kernel.gpu.is_some_and(|twin| twin.runs_on(&self.context.physical.limits))
    }

    fn fits(
        &self,
        kernel: &'static Kernel,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        self.translator.check(kernel, args, params, grid)
    }

    fn prepare(&self, dispatches: &mut dyn Iterator<Item = Upcoming>) {
        let make = |pipeline: &dyn Pipeline, plan: &GpuPlan| {
            if let Ok(pipeline) = node::metal(pipeline) {
                let _ = pipeline.get(plan);
            }
        };
        prepare(dispatches, |upcoming| planned(&self.context, upcoming), make);
    }

    fn command_buffer(&self, label: &str) -> Result<Box<dyn CommandBuffer>> {
        self.context.check()?;
        Ok(Box::new(MetalCommandBuffer::new(&self.queue, label)))
    }

    fn event(&self) -> Result<Arc<dyn SharedEvent>> {
        Ok(Arc::new(event::MetalEvent::new(&self.context)?))
    }

    fn make_resident(&self, memory: &dyn Memory) -> Result<()> {
        let memory = memory.as_any().downcast_ref::<MetalMemory>();
        if let (Some(residency), Some(memory)) = (&self.context.residency, memory) {
            autoreleasepool(|_| residency.add(&memory.buffer));
        }
        Ok(())
    }

    fn evict(&self, memory: &dyn Memory) {
        let memory = memory.as_any().downcast_ref::<MetalMemory>();
        if let (Some(residency), Some(memory)) = (&self.context.residency, memory) {
            autoreleasepool(|_| residency.remove(&memory.buffer));
        }
    }

    fn capture(&self, file: &Path) -> Result<Box<dyn Capture>> {
        Ok(Box::new(capture::MetalCapture::start(&self.context, file)?))
    }

    fn memory_meter(&self) -> &MemoryMeter {
        &self.context.meter
    }
}

/// The plan of an upcoming dispatch, if it has one.
fn planned(context: &Context, upcoming: &Upcoming) -> Option<GpuPlan> {
    let pipeline = node::metal(&*upcoming.pipeline).ok()?;
    let places = node::Places::new(context, pipeline.kernel, &upcoming.args).ok()?;
    places.plan(context, pipeline, &upcoming.params, upcoming.grid).ok()
}
