//! Standard output, files that appear whole or not at all, and lines for a person at a terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// Writes to standard output at once.
///
/// # Errors
/// [`Error::ClosedPipe`] if nobody reads any more, [`Error::Io`] for every other reason, such as a full disk.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| match source.kind() {
        io::ErrorKind::BrokenPipe => Error::ClosedPipe,
        _ => Error::Io { name: "standard output".into(), source },
    })
}

/// Writes a value as one JSON object, indented, with a final line break.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::Io { name: "standard output".into(), source: error.into() })?;
    print(&(text + "\n"))
}

/// Ends text that was streamed: a terminal's next prompt starts on a line of its own, while a file or pipe
/// gets exactly the text.
///
/// # Errors
/// As [`print()`].
pub fn end_text(text: &str) -> Result<()> {
    if io::stdout().is_terminal() && !text.ends_with('\n') { print("\n") } else { Ok(()) }
}

/// A line for a person: goes to standard error, and only if that is a terminal.
pub fn remark(line: &str) {
    if io::stderr().is_terminal() {
        message(line);
    }
}

/// A line for standard error, terminal or not. That nobody can read it is no reason to fail.
pub fn message(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A file being written: it has its final name only once [`finish`](Self::finish) has succeeded.
///
/// It is written beside its place and renamed. What is there already and is no regular file, such as a device
/// or a named pipe, is written to directly.
#[derive(Debug)]
pub struct OutputFile {
    /// As given, for messages.
    path: PathBuf,
    /// Where the bytes go until the end, and where they belong then.
    partial: Option<(PathBuf, PathBuf)>,
    file: BufWriter<File>,
}

impl OutputFile {
    /// Starts a file.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file if it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let fail = |error| Error::file(path, error);
        // A symbolic link is followed: the file it points to is replaced, not the link.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let (file, partial) = match target.metadata() {
            Ok(meta) if meta.is_dir() => return Err(fail(io::ErrorKind::IsADirectory.into())),
            Ok(meta) if !meta.is_file() => {
                (OpenOptions::new().write(true).open(&target).map_err(fail)?, None)
            }
            _ => {
                let Some(name) = target.file_name() else {
                    return Err(fail(io::ErrorKind::InvalidFilename.into()));
                };
                let mut name = name.to_os_string();
                name.push(format!(".{}.partial", std::process::id()));
                let partial = target.with_file_name(name);
                (File::create(&partial).map_err(fail)?, Some((partial, target)))
            }
        };
        Ok(OutputFile { path: path.to_path_buf(), partial, file: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::file(&self.path, error))
    }

    /// Brings everything to the disk and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; nothing is left under its name then.
    pub fn finish(mut self) -> Result<()> {
        let fail = |error| Error::file(&self.path, error);
        self.file.flush().map_err(fail)?;
        if let Some((partial, target)) = &self.partial {
            self.file.get_ref().sync_all().map_err(fail)?;
            std::fs::rename(partial, target).map_err(fail)?;
        }
        self.partial = None;
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some((partial, _)) = &self.partial {
            // The run has failed already; a file that cannot even be removed adds nothing to say.
            let _ = std::fs::remove_file(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_only_when_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut file = OutputFile::create(&path).unwrap();
        file.write(b"content").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_and_spoils_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, b"old").unwrap();
        let mut file = OutputFile::create(&path).unwrap();
        file.write(b"new").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
