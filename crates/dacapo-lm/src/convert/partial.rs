//! Files and folders that appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Where something is to appear.
#[derive(Debug)]
pub(super) struct Place {
    target: PathBuf,
    partial: PathBuf,
    finished: bool,
}

impl Place {
    /// Nothing is written yet.
    ///
    /// # Errors
    /// [`Error::Exists`] if something is there and must stay, or is neither a file nor a folder of a checkpoint.
    pub(super) fn new(target: &Path, overwrite: bool) -> Result<Self> {
        // A link is followed, so that it goes on to point at what is written.
        let target = target.canonicalize().unwrap_or_else(|_| target.to_path_buf());
        if let Ok(meta) = target.metadata() {
            let replaceable = meta.is_file() || target.join("config.json").is_file();
            if !overwrite || !replaceable {
                return Err(Error::Exists { path: target, replaceable });
            }
        }
        let name = target
            .file_name()
            .ok_or_else(|| Error::io(&target, std::io::Error::from(std::io::ErrorKind::InvalidFilename)))?;
        let mut name = name.to_os_string();
        name.push(format!(".{}.partial", std::process::id()));
        Ok(Place { partial: target.with_file_name(name), target, finished: false })
    }

    /// What is written until the end.
    pub(super) fn partial(&self) -> &Path {
        &self.partial
    }

    /// Starts a folder in the place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn create_folder(&self) -> Result<()> {
        std::fs::create_dir(&self.partial).map_err(|e| Error::io(&self.target, e))
    }

    /// Gives what was written its name.
    ///
    /// # Errors
    /// [`Error::Io`]; then what was there before is there still.
    pub(super) fn finish(mut self) -> Result<()> {
        let fail = |e| Error::io(&self.target, e);
        if self.partial.is_dir() {
            sync_folder(&self.partial)?;
        }
        // A folder cannot be renamed over another one, nor over a file: the old one steps aside first.
        let step_aside = self.target.is_dir() || (self.target.exists() && self.partial.is_dir());
        let aside = self.partial.with_extension("old");
        if step_aside {
            std::fs::rename(&self.target, &aside).map_err(fail)?;
        }
        if let Err(error) = std::fs::rename(&self.partial, &self.target) {
            if step_aside {
                // If even this fails, the old one is beside its place under another name.
                let _ = std::fs::rename(&aside, &self.target);
            }
            return Err(fail(error));
        }
        self.finished = true;
        if step_aside {
            remove(&aside);
        }
        sync_folder(self.target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.finished {
            remove(&self.partial);
        }
    }
}

/// Removes a file or a folder; that one cannot be removed adds nothing to say.
fn remove(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Brings a folder's names to the disk, where the system can.
fn sync_folder(path: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(|e| Error::io(path, e))?;
    }
    Ok(())
}

/// A file being written, and how much.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
}

impl Output {
    /// Starts a file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io(path, e))?;
        Ok(Output { path: path.to_path_buf(), file: BufWriter::with_capacity(1 << 20, file), written: 0 })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }

    /// Appends zeros up to a multiple of `alignment`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn align(&mut self, alignment: u64) -> Result<()> {
        let zeros = self.written.next_multiple_of(alignment) - self.written;
        self.write(&vec![0; zeros as usize])
    }

    /// Bytes written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Brings all to the disk; gives the bytes written.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn finish(mut self) -> Result<u64> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(|e| Error::io(&self.path, e))?;
        Ok(self.written)
    }
}

/// Writes a small file whole; gives its length.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<u64> {
    let mut file = Output::create(path)?;
    file.write(bytes)?;
    file.finish()
}
