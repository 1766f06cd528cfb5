//! Memory that is used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use crate::buffer::{Buffer, Role, element_count, lock};
use crate::device::Device;
use crate::hal::{Importance, Memory};
use crate::submission::Fate;
use crate::{DType, Error, Result};

/// Smallest block, in bytes.
const MIN_BLOCK: usize = 256;

/// Hands out buffers in blocks of power-of-two sizes, and uses a block again once its last view is gone and the
/// last submission that used it has ended. Every buffer handed out is zeroed.
#[derive(Debug)]
pub struct BufferPool {
    device: Device,
    free: Arc<Mutex<Free>>,
}

/// What a pool holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Blocks taken from the device.
    pub allocated: u64,
    /// Requests served by a block used before.
    pub reused: u64,
    /// Bytes in blocks that nobody holds.
    pub free_bytes: usize,
}

#[derive(Debug, Default)]
struct Free {
    buckets: HashMap<usize, Vec<Block>>,
    stats: PoolStats,
}

#[derive(Debug)]
struct Block {
    memory: Arc<dyn Memory>,
    last_use: Option<Arc<Fate>>,
}

impl BufferPool {
    /// An empty pool on this device.
    pub fn new(device: &Device) -> Self {
        BufferPool { device: device.clone(), free: Arc::default() }
    }

    /// A buffer of zeros.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn alloc(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let bytes = element_count(shape)? * dtype.size();
        let size = bytes.max(MIN_BLOCK).checked_next_power_of_two();
        let size = size.ok_or_else(|| Error::ShapeOverflow(shape.to_vec()))?;
        let memory = match self.take(size) {
            Some(block) => {
                block.memory.clear()?;
                block.memory
            }
            None => {
                let memory = self.device.allocate(size, Importance::Scratch)?;
                lock(&self.free).stats.allocated += 1;
                memory
            }
        };
        let home = Arc::downgrade(&self.free);
        let reclaim = Box::new(move |memory, last_use| give_back(&home, size, Block { memory, last_use }));
        Buffer::new(self.device.allocation(memory, Role::Shared, Some(reclaim)), 0, dtype, shape)
    }

    /// What the pool holds and has done.
    pub fn stats(&self) -> PoolStats {
        lock(&self.free).stats
    }

    /// Gives all blocks that nobody holds back to the device.
    pub fn trim(&self) {
        let mut free = lock(&self.free);
        free.buckets.clear();
        free.stats.free_bytes = 0;
    }

    /// A free block of this size whose last submission has ended.
    fn take(&self, size: usize) -> Option<Block> {
        let mut free = lock(&self.free);
        let bucket = free.buckets.get_mut(&size)?;
        let ready =
            bucket.iter().rposition(|block| block.last_use.as_ref().is_none_or(|fate| fate.is_done()))?;
        let block = bucket.swap_remove(ready);
        free.stats.reused += 1;
        free.stats.free_bytes -= size;
        Some(block)
    }
}

fn give_back(home: &Weak<Mutex<Free>>, size: usize, block: Block) {
    if let Some(free) = home.upgrade() {
        let mut free = lock(&free);
        free.stats.free_bytes += size;
        free.buckets.entry(size).or_default().push(block);
    }
}
