//! Command buffers: recorded once, with a descriptor set for each dispatch, submitted any number of times.

use std::sync::Arc;

use ash::vk;
use smallvec::SmallVec;

use super::context::Context;
use super::descriptors::{Descriptors, Set};
use super::memory::VulkanMemory;
use super::pipeline::VulkanPipeline;
use super::pools::{CommandPool, ENTRY, EXIT, GROUPS, Pools};
use super::queue::{Commands, Job, Queue};
use super::timing::{Clock, Stretches};
use crate::hal::event::Order;
use crate::hal::gpu::{GpuArg, GpuContext, GpuPlan};
use crate::hal::kernel::Kernel;
use crate::hal::{CommandBuffer, Completion, Memory, Pipeline, Recording, ResolvedArg, Upcoming};
use crate::profile::Span;
use crate::{Error, Result};

/// What command buffers are made from.
#[derive(Clone)]
pub(super) struct Maker {
    pub queue: Arc<Queue>,
    pub pools: Arc<Pools>,
    pub descriptors: Arc<Descriptors>,
}

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("maker of command buffers")
    }
}

/// A command buffer being recorded.
pub(super) struct VulkanCommandBuffer {
    maker: Maker,
    label: String,
    recorded: Recorded,
    /// The pipeline that is bound.
    bound: vk::Pipeline,
    /// The inline bytes that were set last.
    inline: SmallVec<[u8; 128]>,
    /// Whether a dispatch followed the last barrier.
    group: bool,
}

/// Recorded commands, with everything that they use.
struct Recorded {
    /// Present until dropped.
    pool: Option<CommandPool>,
    sets: Vec<Set>,
    memory: Vec<Arc<dyn Memory>>,
    stretches: Option<Stretches>,
    pools: Arc<Pools>,
    descriptors: Arc<Descriptors>,
    context: Arc<Context>,
}

impl VulkanCommandBuffer {
    pub fn new(maker: &Maker, label: &str) -> Result<VulkanCommandBuffer> {
        let pool = maker.pools.take()?;
        pool.begin()?;
        pool.barrier(&ENTRY);
        let recorded = Recorded {
            pool: Some(pool),
            sets: Vec::new(),
            memory: Vec::new(),
            stretches: None,
            pools: maker.pools.clone(),
            descriptors: maker.descriptors.clone(),
            context: maker.queue.context().clone(),
        };
        Ok(VulkanCommandBuffer {
            maker: maker.clone(),
            label: label.to_owned(),
            recorded,
            bound: vk::Pipeline::null(),
            inline: SmallVec::new(),
            group: false,
        })
    }

    fn commands(&self) -> vk::CommandBuffer {
        self.recorded.commands()
    }

    fn finish_recording(mut self) -> Result<(Arc<Queue>, Arc<Recorded>, String)> {
        let device = self.recorded.context.device.clone();
        let commands = self.commands();
        if let Some(stretches) = &mut self.recorded.stretches {
            stretches.end(&device, commands, self.group);
        }
        if let Some(pool) = &self.recorded.pool {
            pool.barrier(&EXIT);
            pool.end()?;
        }
        Ok((self.maker.queue, Arc::new(self.recorded), self.label))
    }
}

impl CommandBuffer for VulkanCommandBuffer {
    fn dispatch(
        &mut self,
        pipeline: &dyn Pipeline,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        let pipeline = pipeline
            .as_any()
            .downcast_ref::<VulkanPipeline>()
            .ok_or_else(|| Error::WrongDevice { what: "a pipeline".into() })?;
        let kernel = pipeline.kernel;
        let context = self.recorded.context.clone();
        let bound = Bound::new(&context, kernel, args)?;
        let limits = &context.physical.limits;
        let plan = pipeline.twin.plan_for(kernel, &GpuContext { args: &bound.args, params, grid, limits })?;
        if plan.workgroups.contains(&0) {
            return Ok(());
        }
        let made = pipeline.get(&plan)?;
        let mut inline: SmallVec<[u8; 128]> = SmallVec::from_slice(params);
        bound.rests.iter().for_each(|rest| inline.extend_from_slice(&rest.to_le_bytes()));
        if inline.len() != made.inline_bytes {
            let message = format!(
                "its text has {} inline bytes; parameters and offsets are {}",
                made.inline_bytes,
                inline.len()
            );
            return Err(Error::Shader { kernel: kernel.name.into(), message });
        }
        let set = self.recorded.descriptors.set(&bound.infos)?;
        self.recorded.sets.push(set);
        let (device, commands, stage) = (&context.device, self.commands(), vk::ShaderStageFlags::COMPUTE);
        let [x, y, z] = plan.workgroups;
        // SAFETY: the commands are being recorded; pipeline, layout and set fit each other and are kept, as is the
        // memory; the counts are within the limits.
        unsafe {
            if self.bound != made.pipeline {
                device.cmd_bind_pipeline(commands, vk::PipelineBindPoint::COMPUTE, made.pipeline);
                self.bound = made.pipeline;
            }
            let (point, layout) = (vk::PipelineBindPoint::COMPUTE, pipeline.layout.pipeline);
            device.cmd_bind_descriptor_sets(commands, point, layout, 0, &[set.raw], &[]);
            // All layouts have the same room for inline bytes, so that they stay as they are from kernel to kernel.
            if self.inline != inline {
                device.cmd_push_constants(commands, layout, stage, 0, &inline);
                self.inline = inline;
            }
            device.cmd_dispatch(commands, x, y, z);
        }
        self.recorded.memory.extend(args.iter().map(|arg| arg.memory.clone()));
        self.group = true;
        Ok(())
    }

    fn barrier(&mut self) {
        let (device, commands) = (self.recorded.context.device.clone(), self.commands());
        if let Some(stretches) = &mut self.recorded.stretches {
            stretches.boundary(&device, commands, self.group);
        }
        if self.group
            && let Some(pool) = &self.recorded.pool
        {
            pool.barrier(&GROUPS);
        }
        self.group = false;
    }

    fn time_groups(&mut self) {
        let (context, commands) = (self.recorded.context.clone(), self.commands());
        self.recorded.stretches = Stretches::begin(&context, commands);
    }

    fn submit(self: Box<Self>, order: Order) -> Result<Arc<dyn Completion>> {
        let (queue, recorded, label) = self.finish_recording()?;
        submit(&queue, &recorded, label, order)
    }

    fn finish(self: Box<Self>) -> Result<Arc<dyn Recording>> {
        let (queue, recorded, label) = self.finish_recording()?;
        Ok(Arc::new(VulkanRecording { queue, recorded, label }))
    }
}

/// A dispatch's buffers as descriptors: from the last place before the view where a binding may start.
struct Bound {
    infos: SmallVec<[vk::DescriptorBufferInfo; 8]>,
    args: SmallVec<[GpuArg; 8]>,
    /// Bytes between that place and the view's first.
    rests: SmallVec<[u32; 8]>,
}

impl Bound {
    fn new(context: &Context, kernel: &Kernel, args: &[ResolvedArg]) -> Result<Bound> {
        let limits = &context.physical.limits;
        let mut bound = Bound { infos: SmallVec::new(), args: SmallVec::new(), rests: SmallVec::new() };
        for (arg, binding) in args.iter().zip(kernel.bindings) {
            let what =
                || Error::WrongDevice { what: format!("argument {} of {}", binding.name, kernel.name) };
            // The memory of this backend is the only one whose `Any` is this type.
            let memory = arg.memory.as_any().downcast_ref::<VulkanMemory>().ok_or_else(what)?;
            let seen = GpuArg::new(arg, limits);
            seen.check(kernel, bound.args.len(), limits)?;
            bound.infos.push(vk::DescriptorBufferInfo {
                buffer: memory.raw.buffer,
                offset: arg.offset as u64 - u64::from(seen.misalignment),
                range: seen.bound_bytes(),
            });
            bound.rests.push(seen.misalignment);
            bound.args.push(seen);
        }
        Ok(bound)
    }
}

/// The plan of an upcoming dispatch, if it has one.
pub(super) fn planned(context: &Context, upcoming: &Upcoming) -> Option<GpuPlan> {
    let pipeline = upcoming.pipeline.as_any().downcast_ref::<VulkanPipeline>()?;
    let limits = &context.physical.limits;
    let args: SmallVec<[GpuArg; 8]> = upcoming.args.iter().map(|arg| GpuArg::new(arg, limits)).collect();
    let (params, grid) = (&upcoming.params[..], upcoming.grid);
    pipeline.twin.plan_for(pipeline.kernel, &GpuContext { args: &args, params, grid, limits }).ok()
}

impl Commands for Recorded {
    fn commands(&self) -> vk::CommandBuffer {
        self.pool.as_ref().map_or(vk::CommandBuffer::null(), |pool| pool.commands)
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // The queue keeps what it has submitted until it has ended.
        self.descriptors.give(std::mem::take(&mut self.sets));
        if let Some(pool) = self.pool.take() {
            self.pools.give(pool);
        }
    }
}

/// Commands to be submitted any number of times.
struct VulkanRecording {
    queue: Arc<Queue>,
    recorded: Arc<Recorded>,
    label: String,
}

impl std::fmt::Debug for VulkanRecording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "recording of {:?}", self.label)
    }
}

impl Recording for VulkanRecording {
    fn submit(&self, order: Order) -> Result<Arc<dyn Completion>> {
        submit(&self.queue, &self.recorded, self.label.clone(), order)
    }
}

fn submit(
    queue: &Arc<Queue>,
    recorded: &Arc<Recorded>,
    label: String,
    order: Order,
) -> Result<Arc<dyn Completion>> {
    let clock = recorded.stretches.as_ref().and_then(|_| Clock::now(&recorded.context));
    let job = queue.submit(recorded.clone(), order)?;
    let timed = clock.map(|clock| (recorded.clone(), clock));
    Ok(Arc::new(VulkanCompletion { queue: queue.clone(), job, label, timed }))
}

/// The fate of a submission.
struct VulkanCompletion {
    queue: Arc<Queue>,
    job: Arc<Job>,
    label: String,
    /// What notes its times, if it is timed.
    timed: Option<(Arc<Recorded>, Clock)>,
}

impl std::fmt::Debug for VulkanCompletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "completion of {:?}", self.label)
    }
}

impl Completion for VulkanCompletion {
    fn is_done(&self) -> bool {
        self.job.is_done(&self.queue)
    }

    fn wait(&self) -> Result<()> {
        self.job.wait(&self.queue)
    }

    fn group_times(&self) -> Vec<Vec<Option<Span>>> {
        let stretches = |(recorded, clock): &(Arc<Recorded>, Clock)| {
            recorded.stretches.as_ref().map(|stretches| stretches.times(self.queue.context(), clock))
        };
        vec![self.timed.as_ref().and_then(stretches).unwrap_or_default()]
    }
}
