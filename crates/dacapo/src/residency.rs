//! Residency: which memory is kept near the device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::buffer::{Allocation, Buffer, lock};
use crate::device::Device;
use crate::hal::Backend;
use crate::{Error, Result};

/// Memory that is to stay near the device, such as weights. A handle; clones are the same set.
///
/// Adds and removes are *staged*: they take effect together, when the next submission of the device flushes the set.
/// If nothing changed, nothing is flushed. A removal is deferred, flush by flush, until no submission uses the memory
/// any more, neither one in flight nor the one that flushes. Membership is by allocation: a view stands for all of
/// it. Members stay alive.
///
/// On the CPU an add brings the memory into RAM before its first use, where the system can be told to; a removal only
/// ends the membership.
#[derive(Debug, Clone)]
pub struct ResidencySet {
    device: u64,
    members: Arc<Mutex<Members>>,
}

/// What a residency set holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResidencyStats {
    /// Allocations that flushes have added.
    pub adds: u64,
    /// Allocations that flushes have removed.
    pub removes: u64,
    /// Flushes that changed something.
    pub flushes: u64,
    /// Allocations in the set, as the device has it.
    pub resident: usize,
    /// Bytes in them.
    pub resident_bytes: usize,
    /// Staged adds.
    pub pending_adds: usize,
    /// Staged removals, those deferred among them.
    pub pending_removes: usize,
    /// Times that a flush had to defer a removal.
    pub deferred: u64,
}

/// The set itself.
#[derive(Debug, Default)]
pub(crate) struct Members {
    resident: HashMap<u64, Arc<Allocation>>,
    adds: HashMap<u64, Arc<Allocation>>,
    removes: Vec<u64>,
    stats: ResidencyStats,
}

impl ResidencySet {
    /// An empty set on this device. Every submission of the device flushes it.
    pub fn new(device: &Device) -> Self {
        let members = Arc::default();
        device.attach(Arc::downgrade(&members));
        ResidencySet { device: device.id(), members }
    }

    /// Stages an add. Returns whether the memory was not in the set; a staged removal is taken back.
    ///
    /// # Errors
    /// If the buffer belongs to another device, or is transient.
    pub fn add(&self, buffer: &Buffer) -> Result<bool> {
        let allocation = self.own(buffer)?;
        let mut members = lock(&self.members);
        if members.resident.contains_key(&allocation.id) {
            let before = members.removes.len();
            members.removes.retain(|&id| id != allocation.id);
            return Ok(members.removes.len() < before);
        }
        Ok(members.adds.insert(allocation.id, allocation.clone()).is_none())
    }

    /// Stages a removal. Returns whether the memory was in the set; a staged add is taken back.
    ///
    /// # Errors
    /// If the buffer belongs to another device, or is transient.
    pub fn remove(&self, buffer: &Buffer) -> Result<bool> {
        let id = self.own(buffer)?.id;
        let mut members = lock(&self.members);
        if members.adds.remove(&id).is_some() {
            return Ok(true);
        }
        if !members.resident.contains_key(&id) || members.removes.contains(&id) {
            return Ok(false);
        }
        members.removes.push(id);
        Ok(true)
    }

    /// Whether the memory is in the set, staged changes included.
    pub fn contains(&self, buffer: &Buffer) -> bool {
        let id = buffer.allocation().id;
        let members = lock(&self.members);
        members.adds.contains_key(&id) || members.resident.contains_key(&id) && !members.removes.contains(&id)
    }

    /// What the set holds and has done.
    pub fn stats(&self) -> ResidencyStats {
        let members = lock(&self.members);
        ResidencyStats {
            resident: members.resident.len(),
            pending_adds: members.adds.len(),
            pending_removes: members.removes.len(),
            ..members.stats
        }
    }

    fn own<'a>(&self, buffer: &'a Buffer) -> Result<&'a Arc<Allocation>> {
        let allocation = buffer.allocation();
        if allocation.device != self.device {
            return Err(Error::WrongDevice { what: "a buffer of a residency set".into() });
        }
        if buffer.is_transient() {
            return Err(Error::Transient { what: "a buffer of a residency set".into() });
        }
        Ok(allocation)
    }
}

impl Members {
    /// Carries out what is staged. `about_to_use` says what the submission that flushes will use.
    pub fn flush(&mut self, backend: &dyn Backend, about_to_use: impl Fn(u64) -> bool) -> Result<()> {
        let mut changed = false;
        while let Some(id) = self.adds.keys().next().copied() {
            // What cannot be added stays staged, and the submission fails.
            backend.make_resident(self.adds[&id].memory())?;
            if let Some(allocation) = self.adds.remove(&id) {
                self.stats.resident_bytes += allocation.memory().len();
                self.resident.insert(id, allocation);
            }
            self.stats.adds += 1;
            changed = true;
        }
        for id in std::mem::take(&mut self.removes) {
            if about_to_use(id) || self.resident.get(&id).is_some_and(|allocation| !allocation.is_idle()) {
                self.removes.push(id);
                self.stats.deferred += 1;
            } else if let Some(allocation) = self.resident.remove(&id) {
                backend.evict(allocation.memory());
                self.stats.resident_bytes -= allocation.memory().len();
                self.stats.removes += 1;
                changed = true;
            }
        }
        self.stats.flushes += u64::from(changed);
        Ok(())
    }
}
