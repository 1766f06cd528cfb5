//! Memory of the CPU backend: the heap for small blocks, mappings for larger ones, files.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;

use super::slab::{Block, Slabs};
use crate::hal::Memory;
use crate::hal::file::MappedFile;
use crate::hal::meter::{MemoryMeter, MeterEntry};
use crate::{Error, Result};

/// Alignment of small blocks: a cache line, and the widest vector.
const ALIGN: usize = 64;

/// From this size on, a block lies in a mapping, in huge pages where the system gives them.
const LARGE: usize = 64 << 10;

/// Zeroed, writable memory.
#[derive(Debug)]
pub(super) enum HostMemory {
    Small { ptr: NonNull<u8>, layout: Layout, len: usize, _entry: MeterEntry },
    Large { block: Block, len: usize, _entry: MeterEntry },
}

// SAFETY: the address is owned by the object and followed only under the rules of buffers and tiles.
unsafe impl Send for HostMemory {}
// SAFETY: as above.
unsafe impl Sync for HostMemory {}

impl HostMemory {
    /// `len` zeroed bytes.
    pub fn new(len: usize, slabs: &Slabs, device: &str, meter: &MemoryMeter) -> Result<Self> {
        let fail = || Error::OutOfMemory { requested: len, device: device.to_owned() };
        if len >= LARGE {
            let block = slabs.allocate(len).ok_or_else(fail)?;
            return Ok(HostMemory::Large { block, len, _entry: meter.block(len) });
        }
        let layout =
            Layout::from_size_align(len.max(1).next_multiple_of(ALIGN), ALIGN).map_err(|_| fail())?;
        // SAFETY: the layout's size is not zero.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(fail)?;
        Ok(HostMemory::Small { ptr, layout, len, _entry: meter.block(len) })
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        if let HostMemory::Small { ptr, layout, .. } = self {
            // SAFETY: allocated in `new` with this very layout, and freed once.
            unsafe { dealloc(ptr.as_ptr(), *layout) }
        }
    }
}

impl Memory for HostMemory {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn len(&self) -> usize {
        match self {
            HostMemory::Small { len, .. } | HostMemory::Large { len, .. } => *len,
        }
    }

    fn read_only(&self) -> bool {
        false
    }

    fn host_ptr(&self) -> Option<NonNull<u8>> {
        match self {
            HostMemory::Small { ptr, .. } => Some(*ptr),
            HostMemory::Large { block, .. } => Some(block.ptr()),
        }
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        check(self, offset, to.len())?;
        let base = self.host_ptr().expect("host memory has an address").as_ptr();
        // SAFETY: in bounds; initialized since allocation; nobody writes it meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(base.add(offset), to.as_mut_ptr(), to.len()) }
        Ok(())
    }

    fn write(&self, offset: usize, from: &[u8]) -> Result<()> {
        check(self, offset, from.len())?;
        let base = self.host_ptr().expect("host memory has an address").as_ptr();
        // SAFETY: in bounds; nobody uses it meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), base.add(offset), from.len()) }
        Ok(())
    }

    fn populate(&self) {
        if let HostMemory::Large { block, .. } = self {
            block.populate();
        }
    }

    fn clear(&self) -> Result<()> {
        let base = self.host_ptr().expect("host memory has an address").as_ptr();
        // SAFETY: the whole block, which nobody uses meanwhile.
        unsafe { std::ptr::write_bytes(base, 0, self.len()) }
        Ok(())
    }
}

fn check(memory: &dyn Memory, offset: usize, len: usize) -> Result<()> {
    let limit = memory.len();
    if offset.checked_add(len).is_none_or(|end| end > limit) {
        return Err(Error::OutOfBounds { start: offset, len, limit, dtype: crate::DType::U8 });
    }
    Ok(())
}

/// A part of a mapped file.
#[derive(Debug)]
pub(super) struct FileMemory {
    file: Arc<MappedFile>,
    offset: usize,
    len: usize,
    _entry: MeterEntry,
}

impl FileMemory {
    /// Bytes `offset .. offset + len` of the file.
    pub fn new(file: Arc<MappedFile>, offset: usize, len: usize, meter: &MemoryMeter) -> Result<Self> {
        let limit = file.bytes().len();
        if offset.checked_add(len).is_none_or(|end| end > limit) {
            return Err(Error::OutOfBounds { start: offset, len, limit, dtype: crate::DType::U8 });
        }
        Ok(FileMemory { file, offset, len, _entry: meter.mapping() })
    }
}

impl Memory for FileMemory {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn len(&self) -> usize {
        self.len
    }

    fn read_only(&self) -> bool {
        true
    }

    fn host_ptr(&self) -> Option<NonNull<u8>> {
        NonNull::new(self.file.bytes()[self.offset..].as_ptr().cast_mut())
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result<()> {
        check(self, offset, to.len())?;
        let start = self.offset + offset;
        to.copy_from_slice(&self.file.bytes()[start..start + to.len()]);
        Ok(())
    }

    fn write(&self, _offset: usize, _from: &[u8]) -> Result<()> {
        Err(Error::ReadOnly { what: self.file.path().display().to_string() })
    }

    fn clear(&self) -> Result<()> {
        self.write(0, &[])
    }

    fn populate(&self) {
        self.file.populate(self.offset..self.offset + self.len);
    }
}
