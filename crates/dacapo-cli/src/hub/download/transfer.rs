//! One file from the hub: resumed where it stopped, checked when it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use percent_encoding::utf8_percent_encode;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::{StatusCode, header};

use super::Hub;
use super::listing::{IN_PATH, Remote, unreachable_hub};
use crate::error::{Error, Result};
use crate::hub::Id;

/// How often a broken connection is made anew without a byte in between.
const TRIES: u32 = 5;
/// Bytes between two looks at whether to go on.
const STEP: usize = 1 << 18;
/// How long to wait before looking again whether another process is done.
const LOCKED: Duration = Duration::from_millis(200);

/// Called with the bytes that are there; an error ends the transfer.
type Listener<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// Why a transfer stopped.
enum Stopped {
    /// The connection: another one may do.
    Connection(Error),
    /// What no other connection will change.
    Finally(Error),
}

impl Hub {
    /// The content of a file, as `blobs/DIGEST`. What is there of it lies in `DIGEST.incomplete` until then. Of several
    /// processes one fetches, the others wait; the lock is that of `huggingface_hub`.
    pub(super) fn blob(
        &self,
        id: &Id<'_>,
        commit: &str,
        remote: &Remote,
        blobs: &Path,
        locks: &Path,
        listener: &mut Listener<'_>,
    ) -> Result<()> {
        let _lock = lock(locks, &remote.blob, listener)?;
        let (there, partial) = (blobs.join(&remote.blob), blobs.join(format!("{}.incomplete", remote.blob)));
        if there.exists() {
            return listener(remote.bytes);
        }
        let path = utf8_percent_encode(&remote.name, IN_PATH);
        let url = format!("{}/{}/{}/resolve/{commit}/{path}", self.endpoint, id.organization, id.name);
        let fail = |error| Error::file(&partial, error);
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&partial);
        let mut file = options.map_err(fail)?;
        let (mut tries, mut length) = (0, file.seek(SeekFrom::End(0)).map_err(fail)?);
        while length != remote.bytes {
            match self.transfer(id, &url, remote, &mut file, &partial, listener) {
                Ok(()) => {}
                Err(Stopped::Finally(error)) => return Err(error),
                Err(Stopped::Connection(error)) if tries == TRIES => return Err(error),
                Err(Stopped::Connection(_)) => {
                    std::thread::sleep(self.pause * 2u32.pow(tries));
                    tries += 1;
                }
            }
            let now = file.seek(SeekFrom::End(0)).map_err(fail)?;
            tries = if now > length { 0 } else { tries };
            length = now;
        }
        let found = digest(&mut file, &partial, remote, listener)?;
        if found != remote.blob {
            // Nothing of it can be trusted, so that the next call begins anew.
            fs::remove_file(&partial).map_err(fail)?;
            return Err(Error::input(&url, format!("content with digest {}", remote.blob), found));
        }
        file.sync_all().map_err(fail)?;
        fs::rename(&partial, &there).map_err(fail)
    }

    /// Asks for what is missing and appends it.
    fn transfer(
        &self,
        id: &Id<'_>,
        url: &str,
        remote: &Remote,
        file: &mut File,
        partial: &Path,
        listener: &mut Listener<'_>,
    ) -> Result<(), Stopped> {
        let local = |error| Stopped::Finally(Error::file(partial, error));
        let mut at = file.seek(SeekFrom::End(0)).map_err(local)?;
        if at > remote.bytes {
            file.set_len(0).map_err(local)?;
            at = 0;
        }
        let request = self.get(url).header(header::RANGE, format!("bytes={at}-"));
        let response = request.call().map_err(|error| Stopped::Connection(unreachable_hub(url, error)))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // The whole file, whatever was asked for.
            StatusCode::OK => at = 0,
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Stopped::Connection(self.refusal(id, status, url)));
            }
            status => return Err(Stopped::Finally(self.refusal(id, status, url))),
        }
        file.set_len(at).and_then(|()| file.seek(SeekFrom::Start(at))).map_err(local)?;
        let mut body = response.into_body().into_reader().take(remote.bytes - at);
        let mut buffer = vec![0; STEP];
        while at < remote.bytes {
            listener(at).map_err(Stopped::Finally)?;
            let read = match body.read(&mut buffer) {
                Ok(0) => return Err(Stopped::Connection(broken(url, io::ErrorKind::UnexpectedEof.into()))),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Stopped::Connection(broken(url, error))),
            };
            file.write_all(&buffer[..read]).map_err(local)?;
            at += read as u64;
        }
        listener(at).map_err(Stopped::Finally)
    }
}

fn broken(url: &str, source: io::Error) -> Error {
    Error::Io { name: url.to_string(), source }
}

/// The lock of a file's content; it ends with the value.
fn lock(folder: &Path, blob: &str, listener: &mut Listener<'_>) -> Result<File> {
    let path = folder.join(format!("{blob}.lock"));
    let fail = |error| Error::file(&path, error);
    fs::create_dir_all(folder).map_err(fail)?;
    let file = File::create(&path).map_err(fail)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCKED),
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        listener(0)?;
    }
}

/// What the content is called: by SHA-256, or as Git does it if that is what the hub has.
fn digest(file: &mut File, path: &Path, remote: &Remote, listener: &mut Listener<'_>) -> Result<String> {
    if remote.blob.len() == 64 {
        return hash(file, path, Sha256::new(), remote, listener);
    }
    let head = format!("blob {}\0", remote.bytes);
    hash(file, path, Sha1::new_with_prefix(head), remote, listener)
}

/// The digest of the file behind what the state has seen, in hexadecimal.
fn hash(
    file: &mut File,
    path: &Path,
    mut state: impl Digest,
    remote: &Remote,
    listener: &mut Listener<'_>,
) -> Result<String> {
    let fail = |error| Error::file(path, error);
    let mut buffer = vec![0; STEP];
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    loop {
        listener(remote.bytes)?;
        match file.read(&mut buffer).map_err(fail)? {
            0 => break,
            read => state.update(&buffer[..read]),
        }
    }
    Ok(state.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
