//! The blocks of memory that buffers lie in: those of what lasts apart from those of scratch, so that the driver can be told
//! what to keep near the device when several programs want more than there is.

use std::sync::Mutex;

use gpu_allocator::AllocationSizes;
use gpu_allocator::vulkan::{Allocation, AllocationCreateDesc, Allocator, AllocatorCreateDesc};

use super::context::lock;
use super::instance::Instance;
use super::physical::Physical;
use crate::hal::Importance;

/// Bytes of a block of scratch: there is less of it than of weights. In the device's memory, and in the host's.
const SCRATCH_BLOCKS: [u64; 2] = [64 << 20, 32 << 20];

/// Allocators for what lasts and for scratch.
pub(super) struct Heaps {
    lasting: Mutex<Allocator>,
    scratch: Mutex<Allocator>,
    /// Where the device has priorities.
    priorities: Option<ash::ext::pageable_device_local_memory::Device>,
}

impl Heaps {
    /// Empty heaps. They are to be dropped before the device is destroyed.
    pub fn new(
        instance: &Instance,
        physical: &Physical,
        device: &ash::Device,
    ) -> Result<Heaps, gpu_allocator::AllocationError> {
        let allocator = |allocation_sizes| {
            let mut debug_settings = gpu_allocator::AllocatorDebugSettings::default();
            debug_settings.log_leaks_on_shutdown = false;
            Allocator::new(&AllocatorCreateDesc {
                instance: instance.raw.clone(),
                device: device.clone(),
                physical_device: physical.raw,
                debug_settings,
                buffer_device_address: false,
                allocation_sizes,
            })
        };
        let [near, host] = SCRATCH_BLOCKS;
        Ok(Heaps {
            lasting: Mutex::new(allocator(AllocationSizes::default())?),
            scratch: Mutex::new(allocator(AllocationSizes::new(near, host))?),
            priorities: (physical.features.memory_priority)
                .then(|| ash::ext::pageable_device_local_memory::Device::new(&instance.raw, device)),
        })
    }

    fn of(&self, importance: Importance) -> &Mutex<Allocator> {
        match importance {
            Importance::Lasting => &self.lasting,
            Importance::Scratch => &self.scratch,
        }
    }

    /// Memory, or nothing if there is not enough.
    pub fn allocate(&self, importance: Importance, wanted: &AllocationCreateDesc<'_>) -> Option<Allocation> {
        let mut allocator = lock(self.of(importance));
        let allocation = allocator.allocate(wanted).ok()?;
        if let Some(device) = &self.priorities {
            // SAFETY: memory of the device, which has the feature. All that lies in its block is as important; saying so
            // again changes nothing. The block lives: its allocator is locked.
            unsafe {
                let set = device.fp().set_device_memory_priority_ext;
                set(device.device(), allocation.memory(), priority(importance));
            }
        }
        Some(allocation)
    }

    /// Gives memory back that was [allocated](Self::allocate) as so important.
    pub fn free(&self, importance: Importance, allocation: Allocation) {
        // It can only fail for an allocation of another allocator.
        let _ = lock(self.of(importance)).free(allocation);
    }
}

/// From 0 to 1; what nothing is said about has 0.5.
fn priority(importance: Importance) -> f32 {
    match importance {
        Importance::Lasting => 1.0,
        Importance::Scratch => 0.25,
    }
}
