//! Memory: buffers of the device, reached by the host directly where that is possible and through staging elsewhere.

use std::any::Any;
use std::ptr::NonNull;
use std::sync::Arc;

use ash::vk;
use gpu_allocator::MemoryLocation;
use gpu_allocator::vulkan::{Allocation, AllocationCreateDesc, AllocationScheme};

use super::context::Context;
use super::transfer::Transfer;
use crate::hal::meter::MeterEntry;
use crate::hal::{Importance, Memory};
use crate::{DType, Error, Result};

/// Up to this size, memory is taken where the host can reach it too, if the device has such memory of its own: what the
/// host reads and writes for every token is small, and a copy costs more than a slow access.
const SHARED: usize = 64 << 10;

/// Bytes behind every buffer, so that a binding may be rounded up, and empty views at its end have a place.
const PADDING: usize = 256;

/// A buffer with its memory.
pub(super) struct RawBuffer {
    pub buffer: vk::Buffer,
    /// Present until dropped.
    allocation: Option<Allocation>,
    importance: Importance,
    context: Arc<Context>,
}

impl RawBuffer {
    /// `len` bytes and some more. Their contents are arbitrary.
    pub fn new(
        context: &Arc<Context>,
        len: usize,
        location: MemoryLocation,
        importance: Importance,
        label: &str,
    ) -> Result<RawBuffer> {
        context.check()?;
        let size = (len.next_multiple_of(PADDING) + PADDING) as u64;
        let usage = vk::BufferUsageFlags::STORAGE_BUFFER
            | vk::BufferUsageFlags::TRANSFER_SRC
            | vk::BufferUsageFlags::TRANSFER_DST;
        let create = vk::BufferCreateInfo::default().size(size).usage(usage);
        // SAFETY: the structure lives.
        let buffer = unsafe { context.device.create_buffer(&create, None) }.map_err(|code| match code {
            vk::Result::ERROR_OUT_OF_DEVICE_MEMORY | vk::Result::ERROR_OUT_OF_HOST_MEMORY => {
                out_of_memory(context, len)
            }
            _ => context.error("vkCreateBuffer", code),
        })?;
        let mut made = RawBuffer { buffer, allocation: None, importance, context: context.clone() };
        // SAFETY: the buffer belongs to the device.
        let requirements = unsafe { context.device.get_buffer_memory_requirements(buffer) };
        let describe = AllocationCreateDesc {
            name: label,
            requirements,
            location,
            linear: true,
            allocation_scheme: AllocationScheme::GpuAllocatorManaged,
        };
        let allocation =
            context.heaps.allocate(importance, &describe).ok_or_else(|| out_of_memory(context, len))?;
        // SAFETY: memory of the device, of a type and size that fit, bound once.
        let bound =
            unsafe { context.device.bind_buffer_memory(buffer, allocation.memory(), allocation.offset()) };
        made.allocation = Some(allocation);
        bound.map_err(|code| context.error("vkBindBufferMemory", code))?;
        Ok(made)
    }

    /// Where the host reaches it.
    pub fn mapped(&self) -> Option<NonNull<u8>> {
        self.allocation.as_ref().and_then(|allocation| allocation.mapped_ptr()).map(NonNull::cast)
    }
}

impl Drop for RawBuffer {
    fn drop(&mut self) {
        // SAFETY: whoever submits work that uses the buffer keeps it until the work has ended.
        unsafe { self.context.device.destroy_buffer(self.buffer, None) };
        if let Some(allocation) = self.allocation.take() {
            self.context.heaps.free(self.importance, allocation);
        }
    }
}

/// Says how much there is, so that the caller knows what would fit.
fn out_of_memory(context: &Context, requested: usize) -> Error {
    let used = context.meter.in_use().bytes;
    let name = context.name();
    let device = match free_bytes(context) {
        Some(free) => format!("{name}: {free} bytes are free, this program holds {used}"),
        None => format!("{name}: this program holds {used} bytes"),
    };
    Error::OutOfMemory { requested, device }
}

/// Bytes of device memory that the driver would still give, where it tells.
fn free_bytes(context: &Context) -> Option<u64> {
    if !context.physical.features.memory_budget {
        return None;
    }
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut all = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: the device has the extension; the structures live.
    unsafe {
        context.instance.raw.get_physical_device_memory_properties2(context.physical.raw, &mut all);
    }
    let heaps = all.memory_properties;
    let local =
        |&(_, heap): &(usize, &vk::MemoryHeap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let free = |(i, _): (usize, _)| budget.heap_budget[i].saturating_sub(budget.heap_usage[i]);
    heaps.memory_heaps_as_slice().iter().enumerate().filter(local).map(free).max()
}

/// Memory of the Vulkan backend.
pub(super) struct VulkanMemory {
    pub raw: RawBuffer,
    len: usize,
    read_only: bool,
    transfer: Arc<Transfer>,
    _entry: MeterEntry,
}

impl std::fmt::Debug for VulkanMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.raw.mapped().is_some() { "shared with the host" } else { "of the device" };
        write!(f, "{} bytes {place}", self.len)
    }
}

// SAFETY: the address is followed only under the rules of buffers; Vulkan objects may be used by any thread.
unsafe impl Send for VulkanMemory {}
// SAFETY: as above.
unsafe impl Sync for VulkanMemory {}

impl VulkanMemory {
    /// `len` zeroed bytes.
    pub fn new(
        context: &Arc<Context>,
        transfer: &Arc<Transfer>,
        len: usize,
        importance: Importance,
    ) -> Result<VulkanMemory> {
        let location = if len <= SHARED { MemoryLocation::CpuToGpu } else { MemoryLocation::GpuOnly };
        let raw = RawBuffer::new(context, len, location, importance, "buffer")?;
        let entry = context.meter.block(len);
        let memory = VulkanMemory { raw, len, read_only: false, transfer: transfer.clone(), _entry: entry };
        memory.clear()?;
        Ok(memory)
    }

    /// The same memory, that nobody writes any more.
    pub fn into_read_only(self) -> VulkanMemory {
        VulkanMemory { read_only: true, ..self }
    }

    fn check(&self, start: usize, len: usize) -> Result<()> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::OutOfBounds { start, len, limit: self.len, dtype: DType::U8 });
        }
        Ok(())
    }
}

impl Memory for VulkanMemory {
    fn len(&self) -> usize {
        self.len
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn host_ptr(&self) -> Option<NonNull<u8>> {
        self.raw.mapped()
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        self.check(offset, to.len())?;
        match self.raw.mapped() {
            // SAFETY: in bounds, mapped as long as the buffer lives, and nobody writes it meanwhile.
            Some(base) => unsafe {
                std::ptr::copy_nonoverlapping(base.as_ptr().add(offset), to.as_mut_ptr(), to.len());
            },
            None => self.transfer.read(self.raw.buffer, offset, to)?,
        }
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<()> {
        self.check(offset, from.len())?;
        match self.raw.mapped() {
            // SAFETY: in bounds, mapped as long as the buffer lives, and nobody uses it meanwhile.
            Some(base) => unsafe {
                std::ptr::copy_nonoverlapping(from.as_ptr(), base.as_ptr().add(offset), from.len());
            },
            None => self.transfer.write(self.raw.buffer, offset, from)?,
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        match self.raw.mapped() {
            // SAFETY: the padding belongs to the buffer as well; nobody uses it meanwhile.
            Some(base) => unsafe { std::ptr::write_bytes(base.as_ptr(), 0, self.len) },
            None => self.transfer.clear(self.raw.buffer)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hal::info::DeviceSelect;
    use crate::hal::vulkan::instance::Instance;
    use crate::hal::vulkan::physical;

    /// The device's block that a new buffer lies in.
    fn block(context: &Arc<Context>, importance: Importance) -> (RawBuffer, vk::DeviceMemory) {
        let raw =
            RawBuffer::new(context, 1 << 20, MemoryLocation::GpuOnly, importance, "test").expect("memory");
        // SAFETY: the handle is compared and used for nothing.
        let memory = raw.allocation.as_ref().map(|allocation| unsafe { allocation.memory() });
        (raw, memory.expect("present until dropped"))
    }

    #[test]
    fn what_lasts_lies_apart_from_scratch() {
        let opened = Instance::new().and_then(|instance| {
            let instance = Arc::new(instance);
            let physical = physical::select(&instance, &DeviceSelect::Name("llvmpipe".into()))?;
            Context::new(instance, physical, true)
        });
        let Ok(context) = opened else {
            assert!(std::env::var_os("DACAPO_REQUIRE_VULKAN").is_none(), "a software device has to be there");
            eprintln!("skipped: no software device");
            return;
        };
        let lasting = [block(&context, Importance::Lasting), block(&context, Importance::Lasting)];
        let scratch = [block(&context, Importance::Scratch), block(&context, Importance::Scratch)];
        assert_eq!(lasting[0].1, lasting[1].1, "blocks are shared");
        assert_eq!(scratch[0].1, scratch[1].1, "blocks are shared");
        assert_ne!(lasting[0].1, scratch[0].1, "a block has one priority");
        let messages = context.listener.as_ref().map(|listener| listener.messages());
        assert_eq!(messages.unwrap_or_default(), Vec::<String>::new());
    }
}
