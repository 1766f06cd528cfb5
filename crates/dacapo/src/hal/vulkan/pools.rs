//! Command buffers with their pools, used again.

use std::sync::{Arc, Mutex};

use ash::vk;

use super::context::{Context, lock};
use crate::Result;

/// A memory barrier: what came before it, what comes after.
pub(super) struct Barrier {
    from: (vk::PipelineStageFlags2, vk::AccessFlags2),
    to: (vk::PipelineStageFlags2, vk::AccessFlags2),
}

const SHADER: vk::PipelineStageFlags2 = vk::PipelineStageFlags2::COMPUTE_SHADER;
const SHADER_WRITE: vk::AccessFlags2 = vk::AccessFlags2::SHADER_STORAGE_WRITE;
const SHADER_BOTH: vk::AccessFlags2 = vk::AccessFlags2::from_raw(
    vk::AccessFlags2::SHADER_STORAGE_READ.as_raw() | vk::AccessFlags2::SHADER_STORAGE_WRITE.as_raw(),
);
const MEMORY_BOTH: vk::AccessFlags2 = vk::AccessFlags2::from_raw(
    vk::AccessFlags2::MEMORY_READ.as_raw() | vk::AccessFlags2::MEMORY_WRITE.as_raw(),
);
const OUTSIDE: vk::PipelineStageFlags2 = vk::PipelineStageFlags2::from_raw(
    vk::PipelineStageFlags2::HOST.as_raw() | vk::PipelineStageFlags2::ALL_TRANSFER.as_raw(),
);

/// Between groups of dispatches.
pub(super) const GROUPS: Barrier = Barrier { from: (SHADER, SHADER_WRITE), to: (SHADER, SHADER_BOTH) };

/// Between earlier submissions and dispatches.
pub(super) const ENTRY: Barrier = Barrier {
    from: (
        vk::PipelineStageFlags2::from_raw(SHADER.as_raw() | OUTSIDE.as_raw()),
        vk::AccessFlags2::from_raw(
            SHADER_WRITE.as_raw()
                | vk::AccessFlags2::HOST_WRITE.as_raw()
                | vk::AccessFlags2::TRANSFER_WRITE.as_raw(),
        ),
    ),
    to: (SHADER, SHADER_BOTH),
};

/// Between dispatches and the host, which reads after the end.
pub(super) const EXIT: Barrier = Barrier {
    from: (SHADER, SHADER_WRITE),
    to: (vk::PipelineStageFlags2::HOST, vk::AccessFlags2::HOST_READ),
};

/// Between everything and everything: around copies.
pub(super) const EVERYTHING: Barrier = Barrier {
    from: (
        vk::PipelineStageFlags2::from_raw(vk::PipelineStageFlags2::ALL_COMMANDS.as_raw() | OUTSIDE.as_raw()),
        vk::AccessFlags2::MEMORY_WRITE,
    ),
    to: (
        vk::PipelineStageFlags2::from_raw(vk::PipelineStageFlags2::ALL_COMMANDS.as_raw() | OUTSIDE.as_raw()),
        MEMORY_BOTH,
    ),
};

/// A command buffer and the pool that it alone comes from, so that any thread may use it.
pub(super) struct CommandPool {
    pool: vk::CommandPool,
    pub commands: vk::CommandBuffer,
    context: Arc<Context>,
}

impl CommandPool {
    fn new(context: &Arc<Context>) -> Result<CommandPool> {
        let device = &context.device;
        let create = vk::CommandPoolCreateInfo::default().queue_family_index(context.physical.family);
        // SAFETY: the structure lives.
        let pool = unsafe { device.create_command_pool(&create, None) }
            .map_err(|code| context.error("vkCreateCommandPool", code))?;
        let mut made = CommandPool { pool, commands: vk::CommandBuffer::null(), context: context.clone() };
        let allocate = vk::CommandBufferAllocateInfo::default().command_pool(pool).command_buffer_count(1);
        // SAFETY: the pool was just made.
        let commands = unsafe { device.allocate_command_buffers(&allocate) }
            .map_err(|code| context.error("vkAllocateCommandBuffers", code))?;
        made.commands = commands[0];
        Ok(made)
    }

    /// Starts recording.
    pub fn begin(&self) -> Result<()> {
        // A recording may be submitted again while it still runs.
        let begin =
            vk::CommandBufferBeginInfo::default().flags(vk::CommandBufferUsageFlags::SIMULTANEOUS_USE);
        // SAFETY: the commands are not in use.
        unsafe { self.context.device.begin_command_buffer(self.commands, &begin) }
            .map_err(|code| self.context.error("vkBeginCommandBuffer", code))
    }

    /// Ends recording.
    pub fn end(&self) -> Result<()> {
        // SAFETY: recording was begun.
        unsafe { self.context.device.end_command_buffer(self.commands) }
            .map_err(|code| self.context.error("vkEndCommandBuffer", code))
    }

    /// Adds a barrier.
    pub fn barrier(&self, barrier: &Barrier) {
        let memory = [vk::MemoryBarrier2::default()
            .src_stage_mask(barrier.from.0)
            .src_access_mask(barrier.from.1)
            .dst_stage_mask(barrier.to.0)
            .dst_access_mask(barrier.to.1)];
        let dependency = vk::DependencyInfo::default().memory_barriers(&memory);
        // SAFETY: recording was begun.
        unsafe { self.context.device.cmd_pipeline_barrier2(self.commands, &dependency) }
    }
}

impl Drop for CommandPool {
    fn drop(&mut self) {
        // SAFETY: whoever submits the commands keeps the pool until they have ended.
        unsafe { self.context.device.destroy_command_pool(self.pool, None) }
    }
}

/// Pools that are free.
pub(super) struct Pools {
    context: Arc<Context>,
    free: Mutex<Vec<CommandPool>>,
}

impl Pools {
    pub fn new(context: &Arc<Context>) -> Arc<Pools> {
        Arc::new(Pools { context: context.clone(), free: Mutex::default() })
    }

    /// An empty command buffer.
    pub fn take(&self) -> Result<CommandPool> {
        self.context.check()?;
        match lock(&self.free).pop() {
            Some(pool) => Ok(pool),
            None => CommandPool::new(&self.context),
        }
    }

    /// Takes a pool back whose commands are not in use.
    pub fn give(&self, pool: CommandPool) {
        // SAFETY: nothing of the pool is in use, says the caller.
        let reset =
            unsafe { self.context.device.reset_command_pool(pool.pool, vk::CommandPoolResetFlags::empty()) };
        if reset.is_ok() {
            lock(&self.free).push(pool);
        }
    }
}
