//! A bounds-checked reader of little-endian values.

use std::ops::Range;

use super::gguf::Fault;

/// Reads forward through bytes; never past their end.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The range of the next `len` bytes; `part` names what is being read.
    pub(super) fn skip(&mut self, len: usize, part: &str) -> Result<Range<usize>, Fault> {
        if len > self.remaining() {
            return Err(self.truncated(len as u64, part));
        }
        let range = self.at..self.at + len;
        self.at = range.end;
        Ok(range)
    }

    pub(super) fn take<const N: usize>(&mut self, part: &str) -> Result<[u8; N], Fault> {
        let range = self.skip(N, part)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[range]);
        Ok(out)
    }

    pub(super) fn u32(&mut self, part: &str) -> Result<u32, Fault> {
        self.take(part).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, part: &str) -> Result<u64, Fault> {
        self.take(part).map(u64::from_le_bytes)
    }

    /// The range of a string's bytes: a 64-bit length, then the bytes.
    pub(super) fn string(&mut self, part: &str) -> Result<Range<usize>, Fault> {
        let len = self.u64(part)?;
        match usize::try_from(len) {
            Ok(len) => self.skip(len, part),
            Err(_) => Err(self.truncated(len, part)),
        }
    }

    fn truncated(&self, wanted: u64, part: &str) -> Fault {
        let found = format!("{} before the file ends", self.remaining());
        (part.to_string(), format!("{wanted} bytes at byte {}", self.at), found)
    }
}
