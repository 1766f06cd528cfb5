//! The Vulkan backend: GPUs on Linux, Windows and Android.
//!
//! See the README beside this file for how it works.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::hal::event::SharedEvent;
use crate::hal::file::MappedFile;
use crate::hal::gpu::{GpuCaps, GpuPlan};
use crate::hal::info::{DeviceInfo, DeviceSelect};
use crate::hal::kernel::Kernel;
use crate::hal::meter::MemoryMeter;
use crate::hal::wgsl::prepare::prepare;
use crate::hal::wgsl::translator::Translator;
use crate::hal::{Backend, CommandBuffer, Importance, Memory, Pipeline, ResolvedArg, Upcoming};
use crate::{Error, Result};

mod cache;
mod command;
mod context;
mod descriptors;
mod event;
mod heaps;
mod instance;
mod memory;
mod nodes;
mod physical;
mod pipeline;
mod pools;
mod queue;
mod timing;
mod transfer;

use cache::PipelineCache;
use command::{Maker, VulkanCommandBuffer};
use context::Context;
use descriptors::Descriptors;
use instance::Instance;
use pools::Pools;
use queue::Queue;
use transfer::Transfer;

/// How a device is opened.
#[derive(Debug, Clone)]
pub(crate) struct VulkanOptions {
    pub select: DeviceSelect,
    /// Collect the messages of layers.
    pub debug: bool,
    /// Held to these limits.
    pub caps: GpuCaps,
    /// Folder of the pipeline cache.
    pub cache: Option<PathBuf>,
    /// How long a submission may take.
    pub patience: Duration,
}

/// A GPU.
#[derive(Debug)]
pub(crate) struct VulkanBackend {
    context: Arc<Context>,
    maker: Maker,
    transfer: Arc<Transfer>,
    cache: Arc<PipelineCache>,
    translator: Arc<Translator>,
}

impl VulkanBackend {
    /// Opens a device.
    pub fn open(options: &VulkanOptions) -> Result<VulkanBackend> {
        if options.select == DeviceSelect::Auto && !nodes::may_have_gpu() {
            return Err(Error::NoDevice(
                "this system has no GPU; software ones have to be asked for by name".into(),
            ));
        }
        // Whose messages are collected has an instance of its own: a shared one would tell of other devices too.
        let instance = if options.debug { Arc::new(Instance::new()?) } else { Instance::get()? };
        let mut physical = physical::select(&instance, &options.select)?;
        physical.limits = physical.limits.capped(&options.caps);
        physical.info.gpu = Some(physical.limits.clone());
        let context = Context::new(instance, physical, options.debug)?;
        let queue = Queue::new(&context, options.patience)?;
        let pools = Pools::new(&context);
        let transfer = Transfer::new(&queue, &pools);
        let cache = PipelineCache::open(&context, options.cache.as_ref())?;
        let descriptors = Descriptors::new(&context);
        let translator = Arc::new(Translator::new(context.physical.limits.clone()));
        let maker = Maker { queue, pools, descriptors };
        Ok(VulkanBackend { context, maker, transfer, cache, translator })
    }
}

/// The devices of this machine that would do. None if there is no loader or no driver.
pub(crate) fn enumerate() -> Vec<DeviceInfo> {
    let devices = Instance::get().and_then(|instance| physical::enumerate(&instance)).unwrap_or_default();
    devices.into_iter().flatten().map(|device| device.info).collect()
}

impl Drop for VulkanBackend {
    fn drop(&mut self) {
        self.maker.queue.close();
    }
}

impl Backend for VulkanBackend {
    fn info(&self) -> &DeviceInfo {
        &self.context.physical.info
    }

    fn allocate(&self, bytes: usize, importance: Importance) -> Result<Arc<dyn Memory>> {
        Ok(Arc::new(memory::VulkanMemory::new(&self.context, &self.transfer, bytes, importance)?))
    }

    fn map_file(&self, file: &Arc<MappedFile>, offset: usize, len: usize) -> Result<Arc<dyn Memory>> {
        let limit = file.bytes().len();
        if offset.checked_add(len).is_none_or(|end| end > limit) {
            return Err(Error::OutOfBounds { start: offset, len, limit, dtype: crate::DType::U8 });
        }
        let memory = memory::VulkanMemory::new(&self.context, &self.transfer, len, Importance::Lasting)?;
        memory.write(0, &file.bytes()[offset..offset + len])?;
        Ok(Arc::new(memory.into_read_only()))
    }

    fn pipeline(&self, kernel: &'static Kernel) -> Result<Arc<dyn Pipeline>> {
        Ok(Arc::new(pipeline::VulkanPipeline::new(
            &self.context,
            &self.cache,
            &self.maker.descriptors,
            &self.translator,
            kernel,
        )?))
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
            if let Some(pipeline) = pipeline.as_any().downcast_ref::<pipeline::VulkanPipeline>() {
                let _ = pipeline.get(plan);
            }
        };
        prepare(dispatches, |upcoming| command::planned(&self.context, upcoming), make);
    }

    fn command_buffer(&self, label: &str) -> Result<Box<dyn CommandBuffer>> {
        Ok(Box::new(VulkanCommandBuffer::new(&self.maker, label)?))
    }

    fn event(&self) -> Result<Arc<dyn SharedEvent>> {
        Ok(Arc::new(event::VulkanEvent::new(&self.context)?))
    }

    fn memory_meter(&self) -> &MemoryMeter {
        &self.context.meter
    }

    fn messages(&self) -> Vec<String> {
        self.context.listener.as_ref().map(instance::Listener::messages).unwrap_or_default()
    }
}
