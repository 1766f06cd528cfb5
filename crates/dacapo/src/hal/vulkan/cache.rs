//! The driver's compiled pipelines, kept on disk between runs.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use ash::vk;

use super::context::Context;
use crate::Result;

/// What a file begins with.
const MAGIC: &[u8; 8] = b"dacapo\0\x01";

/// A pipeline cache, read from a file and written back.
pub(super) struct PipelineCache {
    raw: vk::PipelineCache,
    context: Arc<Context>,
    file: Option<PathBuf>,
    /// Bytes that came from the file.
    known: usize,
}

impl std::fmt::Debug for PipelineCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pipeline cache in {:?}", self.file)
    }
}

impl PipelineCache {
    /// A cache with what the folder's file for this device and driver holds. A file that cannot be read, is damaged or
    /// comes from another driver counts as empty.
    pub fn open(context: &Arc<Context>, folder: Option<&PathBuf>) -> Result<Arc<PipelineCache>> {
        let id: String = context.physical.cache_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = folder.map(|folder| folder.join(format!("vulkan-{id}.cache")));
        let data = file.as_ref().and_then(|file| std::fs::read(file).ok()).and_then(|bytes| unwrap(&bytes));
        let data = data.unwrap_or_default();
        let create = vk::PipelineCacheCreateInfo::default().initial_data(&data);
        // SAFETY: the structure lives; the driver checks the data's header, and the file's sum was checked above.
        let raw = unsafe { context.device.create_pipeline_cache(&create, None) }
            .map_err(|code| context.error("vkCreatePipelineCache", code))?;
        Ok(Arc::new(PipelineCache { raw, context: context.clone(), file, known: data.len() }))
    }

    /// The driver's object.
    pub fn raw(&self) -> vk::PipelineCache {
        self.raw
    }

    /// Writes the file anew if there is more to keep: first under another name, so that no reader finds half a file.
    fn save(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // SAFETY: the cache lives.
        let data = unsafe { self.context.device.get_pipeline_cache_data(self.raw) };
        let data = data.map_err(|code| std::io::Error::other(code.to_string()))?;
        if data.len() <= self.known {
            return Ok(());
        }
        let folder = file.parent().unwrap_or(file);
        std::fs::create_dir_all(folder)?;
        let temporary = file.with_extension(format!("{}.part", std::process::id()));
        let written = std::fs::File::create(&temporary).and_then(|mut out| {
            out.write_all(MAGIC)?;
            out.write_all(&sum(&data).to_le_bytes())?;
            out.write_all(&data)?;
            out.sync_all()
        });
        let done = written.and_then(|()| std::fs::rename(&temporary, file));
        if done.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        done
    }
}

impl Drop for PipelineCache {
    fn drop(&mut self) {
        // A cache that cannot be written costs the next run some time, and this one nothing.
        let _ = self.save();
        // SAFETY: no pipeline is being made any more; pipelines do not need their cache.
        unsafe { self.context.device.destroy_pipeline_cache(self.raw, None) }
    }
}

/// A file's content without its head, if it is whole.
fn unwrap(bytes: &[u8]) -> Option<Vec<u8>> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (head, data) = rest.split_at_checked(8)?;
    (head == sum(data).to_le_bytes()).then(|| data.to_vec())
}

/// FNV-1a (Fowler, Noll and Vo), 64 bits.
fn sum(data: &[u8]) -> u64 {
    data.iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_files_count() {
        let data = b"compiled".to_vec();
        let file = [&MAGIC[..], &sum(&data).to_le_bytes(), &data].concat();
        assert_eq!(unwrap(&file), Some(data));
        for len in 0..file.len() {
            assert_eq!(unwrap(&file[..len]), None, "cut at {len}");
        }
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert_eq!(unwrap(&damaged), None, "byte {at} changed");
        }
    }
}
