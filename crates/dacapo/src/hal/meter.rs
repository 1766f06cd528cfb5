//! Counting the memory that exists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts a device's memory where it is made and freed. A handle, which outlives the device.
#[derive(Debug, Clone, Default)]
pub struct MemoryMeter {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    blocks: AtomicU64,
    bytes: AtomicU64,
    peak: AtomicU64,
    mappings: AtomicU64,
}

/// Memory that exists at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Blocks of the device's own memory, in use, free in a pool, or kept by work that has not ended.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Most bytes there ever were at once.
    pub peak_bytes: u64,
    /// Parts of files.
    pub mappings: u64,
}

/// Stands for one block or mapping; dropped with it.
#[derive(Debug)]
pub(crate) struct MeterEntry {
    counts: Arc<Counts>,
    /// `None` for a part of a file.
    bytes: Option<u64>,
}

impl MemoryMeter {
    /// The counts now.
    pub fn in_use(&self) -> MemoryUse {
        // Relaxed: counts carry no order between them.
        let get = |from: &AtomicU64| from.load(Ordering::Relaxed);
        MemoryUse {
            blocks: get(&self.counts.blocks),
            bytes: get(&self.counts.bytes),
            peak_bytes: get(&self.counts.peak),
            mappings: get(&self.counts.mappings),
        }
    }

    /// Counts a block of so many bytes.
    pub(crate) fn block(&self, bytes: usize) -> MeterEntry {
        let bytes = bytes as u64;
        self.counts.blocks.fetch_add(1, Ordering::Relaxed);
        let now = self.counts.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.counts.peak.fetch_max(now, Ordering::Relaxed);
        MeterEntry { counts: self.counts.clone(), bytes: Some(bytes) }
    }

    /// Counts a part of a file.
    pub(crate) fn mapping(&self) -> MeterEntry {
        self.counts.mappings.fetch_add(1, Ordering::Relaxed);
        MeterEntry { counts: self.counts.clone(), bytes: None }
    }
}

impl Drop for MeterEntry {
    fn drop(&mut self) {
        match self.bytes {
            Some(bytes) => {
                self.counts.blocks.fetch_sub(1, Ordering::Relaxed);
                self.counts.bytes.fetch_sub(bytes, Ordering::Relaxed);
            }
            None => {
                self.counts.mappings.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
