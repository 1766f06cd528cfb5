//! Command buffers: recorded once, with a descriptor set for each dispatch, submitted any number of times.

use std::any::Any;
use std::sync::Arc;

use ash::vk;
use smallvec::SmallVec;

use super::context::Context;
use super::memory::VulkanMemory;
use super::pipeline::VulkanPipeline;
use super::pools::{CommandPool, ENTRY, EXIT, GROUPS, Pools};
use super::queue::{Commands, Job, Queue};
use super::timing::{Clock, Stretches};
use crate::hal::event::Order;
use crate::hal::gpu::{self, GpuArg, GpuContext, GpuPlan, PipelineKey};
use crate::hal::kernel::Kernel;
use crate::hal::{CommandBuffer, Completion, Memory, Pipeline, Recording, ResolvedArg, Upcoming};
use crate::profile::Span;
use crate::{Error, Result};

/// Descriptor sets of one descriptor pool.
const SETS: u32 = 128;

/// What command buffers are made from.
#[derive(Clone)]
pub(super) struct Maker {
    pub queue: Arc<Queue>,
    pub pools: Arc<Pools>,
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
    /// Descriptor sets left in the newest pool.
    sets_left: u32,
    /// The pipeline that is bound.
    bound: vk::Pipeline,
    /// Whether a dispatch followed the last barrier.
    group: bool,
}

/// Recorded commands, with everything that they use.
struct Recorded {
    /// Present until dropped.
    pool: Option<CommandPool>,
    descriptors: Vec<vk::DescriptorPool>,
    memory: Vec<Arc<dyn Memory>>,
    stretches: Option<Stretches>,
    pools: Arc<Pools>,
    context: Arc<Context>,
}

impl VulkanCommandBuffer {
    pub fn new(maker: &Maker, label: &str) -> Result<VulkanCommandBuffer> {
        let pool = maker.pools.take()?;
        pool.begin()?;
        pool.barrier(&ENTRY);
        let recorded = Recorded {
            pool: Some(pool),
            descriptors: Vec::new(),
            memory: Vec::new(),
            stretches: None,
            pools: maker.pools.clone(),
            context: maker.queue.context().clone(),
        };
        Ok(VulkanCommandBuffer {
            maker: maker.clone(),
            label: label.to_owned(),
            recorded,
            sets_left: 0,
            bound: vk::Pipeline::null(),
            group: false,
        })
    }

    /// A descriptor set of a layout, written with these bindings.
    fn descriptor_set(
        &mut self,
        layout: vk::DescriptorSetLayout,
        bindings: &[vk::DescriptorBufferInfo],
    ) -> Result<vk::DescriptorSet> {
        let context = self.recorded.context.clone();
        if self.sets_left == 0 {
            let sizes = [vk::DescriptorPoolSize {
                ty: vk::DescriptorType::STORAGE_BUFFER,
                descriptor_count: SETS * crate::hal::cpu::tile::MAX_BINDINGS as u32,
            }];
            let create = vk::DescriptorPoolCreateInfo::default().max_sets(SETS).pool_sizes(&sizes);
            // SAFETY: the structures live.
            let pool = unsafe { context.device.create_descriptor_pool(&create, None) }
                .map_err(|code| context.error("vkCreateDescriptorPool", code))?;
            self.recorded.descriptors.push(pool);
            self.sets_left = SETS;
        }
        let pool = self.recorded.descriptors.last().copied().unwrap_or_default();
        let layouts = [layout];
        let allocate = vk::DescriptorSetAllocateInfo::default().descriptor_pool(pool).set_layouts(&layouts);
        // SAFETY: the pool was made for so many sets; nobody else uses it.
        let set = unsafe { context.device.allocate_descriptor_sets(&allocate) }
            .map_err(|code| context.error("vkAllocateDescriptorSets", code))?[0];
        self.sets_left -= 1;
        let write = |(index, binding): (usize, &'_ vk::DescriptorBufferInfo)| vk::WriteDescriptorSet {
            dst_set: set,
            dst_binding: index as u32,
            descriptor_count: 1,
            descriptor_type: vk::DescriptorType::STORAGE_BUFFER,
            p_buffer_info: binding,
            ..Default::default()
        };
        let writes: SmallVec<[_; 8]> = bindings.iter().enumerate().map(write).collect();
        // SAFETY: the set was just allocated; `bindings` lives until the call returns.
        unsafe { context.device.update_descriptor_sets(&writes, &[]) };
        Ok(set)
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
        let plan = plan(pipeline, &context, &bound, params, grid)?;
        if plan.workgroups.contains(&0) {
            return Ok(());
        }
        let limits = &context.physical.limits;
        if plan.workgroups.iter().zip(&limits.workgroups).any(|(count, most)| count > most) {
            let expected = format!("at most {:?} workgroups on {}", limits.workgroups, context.name());
            return Err(Error::argument(kernel.name, "grid", expected, format!("{:?}", plan.workgroups)));
        }
        let made = pipeline.get(&plan)?;
        let inline: SmallVec<[u8; 128]> =
            params.iter().copied().chain(bound.rests.iter().flat_map(|rest| rest.to_le_bytes())).collect();
        if inline.len() != made.inline_bytes {
            let message = format!(
                "its text has {} inline bytes; parameters and offsets are {}",
                made.inline_bytes,
                inline.len()
            );
            return Err(Error::Shader { kernel: kernel.name.into(), message });
        }
        let set = self.descriptor_set(pipeline.set_layout, &bound.infos)?;
        let (device, commands, stage) = (&context.device, self.commands(), vk::ShaderStageFlags::COMPUTE);
        let [x, y, z] = plan.workgroups;
        // SAFETY: the commands are being recorded; pipeline, layout and set fit each other and are kept, as is the
        // memory; the counts are within the limits.
        unsafe {
            if self.bound != made.pipeline {
                device.cmd_bind_pipeline(commands, vk::PipelineBindPoint::COMPUTE, made.pipeline);
                self.bound = made.pipeline;
            }
            let (point, layout) = (vk::PipelineBindPoint::COMPUTE, pipeline.layout);
            device.cmd_bind_descriptor_sets(commands, point, layout, 0, &[set], &[]);
            if !inline.is_empty() {
                device.cmd_push_constants(commands, layout, stage, 0, &inline);
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
            let rest = arg.offset as u64 % limits.binding_align;
            // Kernels see words: a view of bytes that ends within one is bound to the word's end.
            let range = (rest + (arg.len * arg.dtype.size()) as u64).next_multiple_of(4).max(4);
            if range > limits.binding_bytes {
                let expected = format!("at most {} bytes on {}", limits.binding_bytes, context.name());
                return Err(Error::argument(kernel.name, binding.name, expected, range));
            }
            bound.infos.push(vk::DescriptorBufferInfo {
                buffer: memory.raw.buffer,
                offset: arg.offset as u64 - rest,
                range,
            });
            bound.args.push(GpuArg { len: arg.len, dtype: arg.dtype, misalignment: rest as u32 });
            bound.rests.push(rest as u32);
        }
        Ok(bound)
    }
}

/// A pipeline that an upcoming dispatch will need.
pub(super) struct Planned {
    pipeline: Arc<dyn Pipeline>,
    plan: GpuPlan,
}

impl Planned {
    /// The same for dispatches that need the same pipeline.
    pub fn key(&self) -> (usize, PipelineKey) {
        (Arc::as_ptr(&self.pipeline).cast::<()>() as usize, PipelineKey::of(&self.plan))
    }

    /// Makes it. What fails fails again when it is needed, and is told then.
    pub fn make(&self) {
        if let Some(pipeline) = self.pipeline.as_any().downcast_ref::<VulkanPipeline>() {
            let _ = pipeline.get(&self.plan);
        }
    }
}

/// What a dispatch will need, if it can be encoded at all.
pub(super) fn planned(context: &Context, upcoming: &Upcoming) -> Option<Planned> {
    let pipeline = upcoming.pipeline.as_any().downcast_ref::<VulkanPipeline>()?;
    let bound = Bound::new(context, pipeline.kernel, &upcoming.args).ok()?;
    let plan = plan(pipeline, context, &bound, &upcoming.params, upcoming.grid).ok()?;
    (!plan.workgroups.contains(&0)).then(|| Planned { pipeline: upcoming.pipeline.clone(), plan })
}

/// The kernel's plan.
fn plan(
    pipeline: &VulkanPipeline,
    context: &Context,
    bound: &Bound,
    params: &[u8],
    grid: [u32; 3],
) -> Result<GpuPlan> {
    let limits = &context.physical.limits;
    gpu::plan(pipeline.kernel, pipeline.twin, &GpuContext { args: &bound.args, params, grid, limits })
}

impl Commands for Recorded {
    fn commands(&self) -> vk::CommandBuffer {
        self.pool.as_ref().map_or(vk::CommandBuffer::null(), |pool| pool.commands)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        for &pool in &self.descriptors {
            // SAFETY: the queue keeps what it has submitted until it has ended.
            unsafe { self.context.device.destroy_descriptor_pool(pool, None) }
        }
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
    let clock = recorded.stretches.as_ref().map(|_| Clock::now(&recorded.context));
    let job = queue.submit(recorded.clone(), order)?;
    Ok(Arc::new(VulkanCompletion { queue: queue.clone(), job, label, clock: clock.flatten() }))
}

/// The fate of a submission.
struct VulkanCompletion {
    queue: Arc<Queue>,
    job: Arc<Job>,
    label: String,
    clock: Option<Clock>,
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
        let recorded = self.job.work().as_any().downcast_ref::<Recorded>();
        let stretches = recorded.and_then(|recorded| recorded.stretches.as_ref());
        match (stretches, &self.clock) {
            (Some(stretches), Some(clock)) => vec![stretches.times(self.queue.context(), clock)],
            _ => vec![Vec::new()],
        }
    }
}
