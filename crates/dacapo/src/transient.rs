//! What stands for memory before a graph gives it a place.

use std::ptr::NonNull;

use crate::hal::Memory;
use crate::{Error, Result};

/// A size without bytes: the memory of a transient buffer until a graph's memory pass has placed it.
#[derive(Debug)]
pub(crate) struct NoMemory {
    /// Bytes that the buffer will need.
    pub len: usize,
}

impl NoMemory {
    fn refuse(&self) -> Result<()> {
        Err(Error::Transient { what: format!("a buffer of {} bytes", self.len) })
    }
}

impl Memory for NoMemory {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn len(&self) -> usize {
        self.len
    }

    fn read_only(&self) -> bool {
        false
    }

    fn host_ptr(&self) -> Option<NonNull<u8>> {
        None
    }

    fn read(&self, _offset: usize, _to: &mut [u8]) -> Result<()> {
        self.refuse()
    }

    fn write(&self, _offset: usize, _from: &[u8]) -> Result<()> {
        self.refuse()
    }

    fn clear(&self) -> Result<()> {
        self.refuse()
    }
}
