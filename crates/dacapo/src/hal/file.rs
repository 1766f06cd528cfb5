//! Files mapped into memory, read-only.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result};

/// A file mapped read-only.
///
/// The bytes are the file's own: nothing is read before it is touched, and nothing is copied. As with every
/// mapped file, the file must not be truncated while it is mapped.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Mapped(memmap2::Mmap),
    /// Bytes that are part of the program; also an empty file, which cannot be mapped.
    Static(&'static [u8]),
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened, is not a regular file, or cannot be mapped.
    pub fn open(path: impl AsRef<Path>) -> Result<Arc<Self>> {
        let path = path.as_ref().to_path_buf();
        let fail = |source: std::io::Error| Error::Io { path: path.clone(), source: Arc::new(source) };
        let file = std::fs::File::open(&path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if !meta.is_file() {
            return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let content = if meta.len() == 0 {
            Content::Static(&[])
        } else {
            // SAFETY: the mapping is private and read-only. That the file is not truncated meanwhile is the
            // documented condition of this type; nothing in safe Rust can rule it out.
            Content::Mapped(unsafe { memmap2::Mmap::map(&file) }.map_err(fail)?)
        };
        Ok(Arc::new(MappedFile { path, content }))
    }

    /// A file that is part of the program itself, under a name for messages.
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Arc<Self> {
        Arc::new(MappedFile { path: PathBuf::from(name), content: Content::Static(bytes) })
    }

    /// The file's path, as given to [`open`](Self::open).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Mapped(map) => map,
            Content::Static(bytes) => bytes,
        }
    }

    /// The bytes, if they are a mapping: it begins on a page's boundary, and its last page is whole.
    #[cfg(all(feature = "metal", any(target_vendor = "apple", metal_sim)))]
    pub(crate) fn mapped(&self) -> Option<&[u8]> {
        match &self.content {
            Content::Mapped(map) => Some(map),
            Content::Static(_) => None,
        }
    }

    /// Brings `range` into memory now, where the system can be told to. A hint.
    pub(crate) fn populate(&self, range: std::ops::Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Content::Mapped(map) = &self.content
            && range.start < range.end.min(map.len())
        {
            let len = range.end.min(map.len()) - range.start;
            // Older systems know only the weaker hint.
            if map.advise_range(memmap2::Advice::PopulateRead, range.start, len).is_err() {
                let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, len);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// Tells the system that `range` will not be needed again soon, so that its pages stop counting as this
    /// process's resident memory. The bytes stay readable.
    pub fn release(&self, range: std::ops::Range<usize>) {
        #[cfg(unix)]
        if let Content::Mapped(map) = &self.content {
            let end = range.end.min(map.len());
            if range.start < end {
                // SAFETY: `DontNeed` on a private mapping of a file that nobody has written to only drops
                // clean pages; the next read brings the same bytes back from the file.
                let _ = unsafe {
                    map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        range.start,
                        end - range.start,
                    )
                };
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
