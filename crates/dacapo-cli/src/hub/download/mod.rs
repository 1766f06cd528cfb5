//! Models from the Hugging Face hub into the cache of its tools.
//!
//! Content comes first, under the names that the hub gives it by its digest; the links of the snapshot after all of it,
//! the revision's reference last. So what was broken off is never taken for a model, and goes on where it stopped.

mod listing;
mod transfer;

use std::fs;
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::config::RedirectAuthHeaders;

use super::Id;
use crate::error::{Error, Result};
use crate::interrupt::Watch;
use crate::output;
use crate::progress::{Progress, Unit};
use crate::units;
use listing::{Listing, Remote};

/// Where models are, unless `HF_ENDPOINT` says otherwise.
const HUB: &str = "https://huggingface.co";

/// Whether `HF_HUB_OFFLINE` leaves the network alone.
pub fn allowed() -> bool {
    let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    !matches!(offline.to_ascii_lowercase().as_str(), "1" | "on" | "yes" | "true")
}

/// Brings what the name asks for into the cache, and makes its revision the cached one.
///
/// # Errors
/// [`Error::Input`] if the hub does not have it, does not give it, or gives something else than it promised;
/// [`Error::Io`] if it cannot be reached or the cache not be written; [`Error::Interrupted`] by Ctrl-C, after which the next
/// call goes on from there.
pub fn fetch(id: &Id<'_>, cache: &Path) -> Result<()> {
    let endpoint = std::env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty());
    let hub = Hub::new(endpoint.as_deref().unwrap_or(HUB), token());
    let watch = Watch::start();
    let mut progress = Progress::new("downloading", Unit::Bytes);
    hub.fetch(id, cache, &mut |step| match step {
        _ if watch.raised() => Err(Error::Interrupted),
        Step::Start { files, bytes } => {
            output::message(&format!("downloading {id}: {files} files, {}", units::bytes(bytes)));
            Ok(())
        }
        Step::Bytes { done, total } => {
            progress.update(done, total);
            Ok(())
        }
    })
}

/// What a download tells as it goes. It stops at an error of who listens.
enum Step {
    /// What is still missing.
    Start { files: usize, bytes: u64 },
    /// How many bytes of it are there.
    Bytes { done: u64, total: u64 },
}

type Listener<'a> = dyn FnMut(Step) -> Result<()> + 'a;

/// The user's token, as Hugging Face's tools find it.
fn token() -> Option<String> {
    let variable = |name| std::env::var(name).ok();
    let file = || {
        let path =
            super::variable("HF_TOKEN_PATH").or_else(|| super::home().map(|home| home.join("token")))?;
        fs::read_to_string(path).ok()
    };
    let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN")).or_else(file)?;
    Some(token.trim().to_string()).filter(|token| !token.is_empty())
}

/// A hub, and who asks.
struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    /// How long to wait after the first broken connection; twice as long after each further one.
    pause: Duration,
}

impl Hub {
    fn new(endpoint: &str, token: Option<String>) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("dacapo/", env!("CARGO_PKG_VERSION")))
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)));
        Hub {
            agent: config.build().into(),
            endpoint: endpoint.trim_end_matches('/').to_string(),
            token,
            pause: Duration::from_secs(1),
        }
    }

    fn fetch(&self, id: &Id<'_>, cache: &Path, listener: &mut Listener<'_>) -> Result<()> {
        let Listing { commit, files } = self.list(id)?;
        let repository = cache.join(id.folder());
        let blobs = repository.join("blobs");
        fs::create_dir_all(&blobs).map_err(|error| Error::file(&blobs, error))?;
        let missing: Vec<&Remote> = files.iter().filter(|file| !blobs.join(&file.blob).exists()).collect();
        let total = missing.iter().map(|file| file.bytes).sum();
        if !missing.is_empty() {
            listener(Step::Start { files: missing.len(), bytes: total })?;
        }
        let mut before = 0;
        for file in missing {
            let locks = cache.join(".locks").join(id.folder());
            self.blob(id, &commit, file, &blobs, &locks, &mut |here| {
                listener(Step::Bytes { done: before + here, total })
            })?;
            before += file.bytes;
        }
        link_snapshot(&repository, &commit, &files)?;
        if id.revision() == commit {
            return Ok(());
        }
        write_whole(&repository.join("refs").join(id.revision()), &commit)
    }
}

/// Gives the files of the commit their names.
fn link_snapshot(repository: &Path, commit: &str, files: &[Remote]) -> Result<()> {
    let snapshot = repository.join("snapshots").join(commit);
    for file in files {
        let path = snapshot.join(&file.name);
        if path.exists() {
            continue;
        }
        let fail = |error| Error::file(&path, error);
        fs::create_dir_all(path.parent().unwrap_or(&snapshot)).map_err(fail)?;
        // A link whose content is gone is in the way of a new one.
        let _ = fs::remove_file(&path);
        link(repository, &file.name, &file.blob, &path).map_err(fail)?;
    }
    Ok(())
}

/// A link relative to where it lies, so that the cache can be moved.
#[cfg(unix)]
fn link(_: &Path, name: &str, blob: &str, path: &Path) -> std::io::Result<()> {
    let up = "../".repeat(2 + name.matches('/').count());
    std::os::unix::fs::symlink(format!("{up}blobs/{blob}"), path)
}

/// Symbolic links are a privilege elsewhere.
#[cfg(not(unix))]
fn link(repository: &Path, _: &str, blob: &str, path: &Path) -> std::io::Result<()> {
    let content = repository.join("blobs").join(blob);
    fs::hard_link(&content, path).or_else(|_| fs::copy(&content, path).map(drop))
}

/// A small file, there whole or as it was.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let fail = |error| Error::file(path, error);
    let beside = path.with_extension("incomplete");
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(fail)?;
    fs::write(&beside, text).map_err(fail)?;
    fs::rename(&beside, path).map_err(fail)
}

#[cfg(test)]
mod tests;
