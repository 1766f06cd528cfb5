//! Copies between the host and memory that it cannot reach, through a ring of two staging buffers.

use std::sync::{Arc, Mutex};

use ash::vk;
use gpu_allocator::MemoryLocation;

use super::context::{Context, lock};
use super::memory::RawBuffer;
use super::pools::Pools;
use super::queue::Queue;
use crate::Result;
use crate::hal::Importance;

/// Bytes of one of the two staging buffers of a direction.
const STAGE: usize = 16 << 20;

/// Copies to and from the device's own memory.
pub(super) struct Transfer {
    queue: Arc<Queue>,
    pools: Arc<Pools>,
    up: Mutex<Option<[RawBuffer; 2]>>,
    down: Mutex<Option<[RawBuffer; 2]>>,
}

impl Transfer {
    pub fn new(queue: &Arc<Queue>, pools: &Arc<Pools>) -> Arc<Transfer> {
        let (queue, pools) = (queue.clone(), pools.clone());
        Arc::new(Transfer { queue, pools, up: Mutex::default(), down: Mutex::default() })
    }

    fn context(&self) -> &Arc<Context> {
        self.queue.context()
    }

    fn stages<'a>(
        &self,
        slot: &'a mut Option<[RawBuffer; 2]>,
        location: MemoryLocation,
    ) -> Result<&'a [RawBuffer; 2]> {
        Ok(match slot {
            Some(stages) => stages,
            None => {
                let stage =
                    || RawBuffer::new(self.context(), STAGE, location, Importance::Scratch, "staging");
                slot.insert([stage()?, stage()?])
            }
        })
    }

    /// Copies bytes into a buffer, and waits. While one half of the ring is on its way the other is filled.
    pub fn write(&self, to: vk::Buffer, offset: usize, from: &[u8]) -> Result<()> {
        let mut slot = lock(&self.up);
        let stages = self.stages(&mut slot, MemoryLocation::CpuToGpu)?;
        let mut running = [None, None];
        for (i, part) in from.chunks(STAGE).enumerate() {
            let stage = &stages[i % 2];
            self.settle(running[i % 2].take())?;
            let base = stage.mapped().ok_or_else(|| self.unmapped())?;
            // SAFETY: a part is no longer than the stage, which no copy reads any more.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), base.as_ptr(), part.len()) };
            let at = offset + i * STAGE;
            running[i % 2] = Some(self.copy(stage.buffer, 0, to, at, part.len())?);
        }
        running.into_iter().try_for_each(|job| self.settle(job))
    }

    /// Copies bytes out of a buffer, and waits.
    pub fn read(&self, from: vk::Buffer, offset: usize, to: &mut [u8]) -> Result<()> {
        let mut slot = lock(&self.down);
        let stage = &self.stages(&mut slot, MemoryLocation::GpuToCpu)?[0];
        let base = stage.mapped().ok_or_else(|| self.unmapped())?;
        for (i, part) in to.chunks_mut(STAGE).enumerate() {
            let job = self.copy(from, offset + i * STAGE, stage.buffer, 0, part.len())?;
            self.settle(Some(job))?;
            // SAFETY: a part is no longer than the stage, and the copy into it has ended.
            unsafe { std::ptr::copy_nonoverlapping(base.as_ptr(), part.as_mut_ptr(), part.len()) };
        }
        Ok(())
    }

    /// Sets a whole buffer to zero, and waits.
    pub fn clear(&self, buffer: vk::Buffer) -> Result<()> {
        let commands = self.record(|device, commands| {
            // SAFETY: the commands are being recorded; the buffer lives until they have ended.
            unsafe { device.cmd_fill_buffer(commands, buffer, 0, vk::WHOLE_SIZE, 0) }
        })?;
        self.settle(Some(commands))
    }

    fn unmapped(&self) -> crate::Error {
        crate::Error::NotHostVisible { what: format!("staging memory of {}", self.context().name()) }
    }

    fn copy(&self, from: vk::Buffer, start: usize, to: vk::Buffer, at: usize, len: usize) -> Result<Job> {
        let region = [vk::BufferCopy { src_offset: start as u64, dst_offset: at as u64, size: len as u64 }];
        self.record(|device, commands| {
            // SAFETY: as in `clear`; the ranges lie in their buffers.
            unsafe { device.cmd_copy_buffer(commands, from, to, &region) }
        })
    }

    fn record(&self, encode: impl FnOnce(&ash::Device, vk::CommandBuffer)) -> Result<Job> {
        let pool = self.pools.take()?;
        pool.begin()?;
        pool.barrier(&super::pools::EVERYTHING);
        encode(&self.context().device, pool.commands);
        pool.barrier(&super::pools::EVERYTHING);
        pool.end()?;
        let value = self.queue.submit_raw(pool.commands, &[])?;
        Ok(Job { pool: Some(pool), value, queue: self.queue.clone() })
    }

    fn settle(&self, job: Option<Job>) -> Result<()> {
        let Some(mut job) = job else { return Ok(()) };
        self.queue.wait(job.value, "a copy")?;
        if let Some(pool) = job.pool.take() {
            self.pools.give(pool);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("staging ring")
    }
}

/// A copy on its way.
struct Job {
    /// Present until it was settled.
    pool: Option<super::pools::CommandPool>,
    value: u64,
    queue: Arc<Queue>,
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.pool.is_some() {
            // Something else failed. The commands must not go while they run.
            let _ = self.queue.wait(self.value, "a copy");
        }
    }
}
