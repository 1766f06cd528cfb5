//! Memory: buffers that processor and GPU share, and files that are read where they lie.

use std::any::Any;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use objc2::rc::autoreleasepool;
use objc2_foundation::NSString;
use objc2_metal::{MTLBuffer, MTLDevice, MTLResource, MTLResourceOptions};

use super::context::Context;
use super::objects::Shared;
use crate::hal::Memory;
use crate::hal::file::MappedFile;
use crate::hal::meter::MeterEntry;
use crate::{DType, Error, Result};

/// Bytes behind every buffer, so that a binding may be rounded up, and empty views at its end have a place.
const PADDING: usize = 256;

/// Boundary on which a part of a file must lie in the file to be read in place: then all views of it are as aligned as kernels
/// want them.
const ALIGN: usize = 16;

/// Memory of the Metal backend.
pub(super) struct MetalMemory {
    pub buffer: Shared<dyn MTLBuffer>,
    /// First byte in the buffer: parts of files begin within a page.
    pub base: usize,
    address: NonNull<u8>,
    len: usize,
    read_only: bool,
    context: Arc<Context>,
    /// Keeps the mapping that the buffer wraps.
    file: Option<(Arc<MappedFile>, usize)>,
    _entry: MeterEntry,
}

// SAFETY: the address is followed only under the rules of buffers; the rest may be used by any thread.
unsafe impl Send for MetalMemory {}
// SAFETY: as above.
unsafe impl Sync for MetalMemory {}

impl std::fmt::Debug for MetalMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.file.is_some() { "of a file" } else { "shared with the host" };
        write!(f, "{} bytes {place}", self.len)
    }
}

/// Both sides reach the memory; the engine orders all accesses itself.
fn options() -> MTLResourceOptions {
    MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeUntracked
}

impl MetalMemory {
    /// `len` zeroed bytes.
    pub fn new(context: &Arc<Context>, len: usize) -> Result<MetalMemory> {
        context.check()?;
        let size = len.checked_next_multiple_of(PADDING).and_then(|size| size.checked_add(PADDING));
        let size = size.filter(|&size| size <= context.physical.features.buffer_bytes);
        let size = size.ok_or_else(|| context.out_of_memory(len))?;
        autoreleasepool(|_| {
            let buffer = context
                .physical
                .raw
                .newBufferWithLength_options(size, options())
                .ok_or_else(|| context.out_of_memory(len))?;
            buffer.setLabel(Some(&NSString::from_str("dacapo memory")));
            let memory = MetalMemory {
                address: buffer.contents().cast(),
                buffer: Shared(buffer),
                base: 0,
                len,
                read_only: false,
                context: context.clone(),
                file: None,
                _entry: context.meter.block(len),
            };
            memory.clear()?;
            Ok(memory)
        })
    }

    /// A part of a file: in place where it is mapped and aligned, else a copy.
    pub fn of_file(
        context: &Arc<Context>,
        file: &Arc<MappedFile>,
        offset: usize,
        len: usize,
    ) -> Result<MetalMemory> {
        let limit = file.bytes().len();
        if offset.checked_add(len).is_none_or(|end| end > limit) {
            return Err(Error::OutOfBounds { start: offset, len, limit, dtype: DType::U8 });
        }
        context.check()?;
        if let Some(memory) = MetalMemory::wrap(context, file, offset, len) {
            return Ok(memory);
        }
        let mut memory = MetalMemory::new(context, len)?;
        memory.write(0, &file.bytes()[offset..offset + len])?;
        memory.read_only = true;
        Ok(memory)
    }

    /// The pages of a file around a part of it, as a buffer.
    fn wrap(
        context: &Arc<Context>,
        file: &Arc<MappedFile>,
        offset: usize,
        len: usize,
    ) -> Option<MetalMemory> {
        let page = page_size();
        let (start, last) = (offset / page * page, offset.checked_add(len)?);
        // Kernels see words, and an empty view needs a place: the pages must reach past the part's end.
        let size = last.checked_add(4)?.checked_next_multiple_of(page)? - start;
        let mapped = file.mapped()?;
        // The system maps whole pages.
        let fits = start + size <= mapped.len().next_multiple_of(page)
            && size <= context.physical.features.buffer_bytes;
        if !offset.is_multiple_of(ALIGN) || !fits {
            return None;
        }
        // SAFETY: `start` lies within the mapping.
        let pages = unsafe { NonNull::from(mapped).cast::<u8>().add(start) };
        let buffer = autoreleasepool(|_| {
            let raw = &context.physical.raw;
            // SAFETY: whole pages of a mapping that `file` keeps as long as the buffer lives; kernels only read them, since the
            // memory is read-only. Nothing is freed by Metal.
            let buffer = unsafe {
                raw.newBufferWithBytesNoCopy_length_options_deallocator(
                    pages.cast::<c_void>(),
                    size,
                    options(),
                    None,
                )
            }?;
            buffer.setLabel(Some(&NSString::from_str(&file.path().display().to_string())));
            Some(buffer)
        })?;
        // SAFETY: within the mapping, as was checked.
        let address = unsafe { pages.add(offset - start) };
        Some(MetalMemory {
            buffer: Shared(buffer),
            base: offset - start,
            address,
            len,
            read_only: true,
            context: context.clone(),
            file: Some((file.clone(), offset)),
            _entry: context.meter.mapping(),
        })
    }

    fn check(&self, start: usize, len: usize) -> Result<()> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::OutOfBounds { start, len, limit: self.len, dtype: DType::U8 });
        }
        Ok(())
    }
}

impl Drop for MetalMemory {
    fn drop(&mut self) {
        // The set would keep the memory. Whoever drops it has waited for the work that uses it.
        if let Some(residency) = &self.context.residency {
            autoreleasepool(|_| {
                if residency.remove(&self.buffer) {
                    residency.flush();
                }
            });
        }
    }
}

impl Memory for MetalMemory {
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
        Some(self.address)
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        self.check(offset, to.len())?;
        // SAFETY: in bounds, valid as long as the buffer lives, and nobody writes it meanwhile.
        unsafe {
            let from = self.address.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len());
        }
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<()> {
        self.check(offset, from.len())?;
        // SAFETY: in bounds, valid as long as the buffer lives, not a mapped file, and nobody uses it meanwhile.
        unsafe {
            let to = self.address.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
        }
        Ok(())
    }

    fn clear(&self) -> Result<()> {
        // SAFETY: so many bytes belong to the buffer; nobody uses them meanwhile.
        unsafe { std::ptr::write_bytes(self.address.as_ptr(), 0, self.len) };
        Ok(())
    }

    fn populate(&self) {
        if let Some((file, offset)) = &self.file {
            file.populate(*offset..offset + self.len);
        }
    }
}

/// Bytes of a page of memory: 16 KiB on Apple silicon.
fn page_size() -> usize {
    unsafe extern "C" {
        safe fn getpagesize() -> i32;
    }
    usize::try_from(getpagesize()).ok().filter(|&page| page.is_power_of_two()).unwrap_or(16 << 10)
}
