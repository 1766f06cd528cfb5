//! Models in the local cache of Hugging Face's tools, by their names.
//!
//! The layout is that of `huggingface_hub`: `models--ORG--NAME` holds `refs/REVISION`, a file with a commit, and
//! `snapshots/COMMIT`, a folder of links to the files' content. Nothing is downloaded.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A model's name, and which revision of it.
#[derive(Debug, PartialEq, Eq)]
struct Id<'a> {
    organization: &'a str,
    name: &'a str,
    revision: Option<&'a str>,
}

impl<'a> Id<'a> {
    /// `ORG/NAME` or `ORG/NAME@REVISION`; `None` for what cannot be a name.
    fn parse(text: &'a str) -> Option<Self> {
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (text, None),
        };
        let (organization, name) = repository.split_once('/')?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.') && !part.contains("--")
        };
        // References may lie in folders, as in `refs/pr/1`, but not outside.
        let fine = revision.is_none_or(|revision| revision.split('/').all(plain));
        (plain(organization) && plain(name) && fine).then_some(Id { organization, name, revision })
    }
}

/// Where the model is: the path itself if there is something, else what the cache has under that name.
///
/// # Errors
/// [`Error::Input`] if the name is one that a cached model could have, and it is not there or not whole.
pub fn find(given: &Path) -> Result<PathBuf> {
    find_in(given, cache().as_deref())
}

/// The cache's folder, as `huggingface_hub` finds it.
fn cache() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || {
        let base = folder("XDG_CACHE_HOME")
            .or_else(|| folder("HOME").or_else(|| folder("USERPROFILE")).map(|home| home.join(".cache")));
        folder("HF_HOME").or_else(|| base.map(|base| base.join("huggingface")))
    };
    let named = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
    named.or_else(|| home().map(|home| home.join("hub")))
}

fn find_in(given: &Path, cache: Option<&Path>) -> Result<PathBuf> {
    let id = given.to_str().filter(|_| !given.exists()).and_then(Id::parse);
    let (Some(id), Some(cache)) = (id, cache) else { return Ok(given.to_path_buf()) };
    let fail = |expected: &str, found: String| Err(Error::input(given.display(), expected, found));
    let repository = cache.join(format!("models--{}--{}", id.organization, id.name));
    if !repository.is_dir() {
        return fail(
            "a file, a folder, or a model in the Hugging Face cache",
            format!("none in {}", cache.display()),
        );
    }
    let revision = id.revision.unwrap_or("main");
    let mut snapshot = repository.join("snapshots").join(revision);
    if !snapshot.is_dir() {
        let reference = repository.join("refs").join(revision);
        let Ok(commit) = std::fs::read_to_string(&reference) else {
            return fail(
                "a revision that is in the cache",
                format!("no {revision:?} in {}", repository.display()),
            );
        };
        snapshot = repository.join("snapshots").join(commit.trim());
        if !snapshot.is_dir() {
            return fail("the files of the revision", format!("no {}", snapshot.display()));
        }
    }
    checkpoint_in(given, snapshot)
}

/// The folder itself if it is one of a checkpoint, or its GGUF file: of one in parts the first.
fn checkpoint_in(given: &Path, snapshot: PathBuf) -> Result<PathBuf> {
    if snapshot.join("config.json").exists() {
        let weights = |name: &str| name.ends_with(".safetensors");
        if names(&snapshot)?.iter().any(|name| weights(name)) {
            return Ok(snapshot);
        }
    }
    let mut files: Vec<String> = names(&snapshot)?;
    files.retain(|name| {
        let later = name.rsplit_once("-of-").is_some_and(|(start, _)| !start.ends_with("-00001"));
        name.ends_with(".gguf") && !later
    });
    match files.as_slice() {
        [file] => Ok(snapshot.join(file)),
        [] => Err(Error::input(
            given.display(),
            "safetensors with config.json or a GGUF file in the cache",
            format!("neither in {}", snapshot.display()),
        )),
        several => Err(Error::input(
            given.display(),
            format!("the path of one of the GGUF files in {}", snapshot.display()),
            several.join(", "),
        )),
    }
}

/// The folder's names, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let fail = |error| Error::file(folder, error);
    let mut names = vec![];
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        names.extend(entry.map_err(fail)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        let id = |organization, name, revision| Some(Id { organization, name, revision });
        assert_eq!(Id::parse("Qwen/Qwen3-0.6B"), id("Qwen", "Qwen3-0.6B", None));
        assert_eq!(Id::parse("a/b@refs/pr/1"), id("a", "b", Some("refs/pr/1")));
        for other in
            ["model.gguf", "a/b/c", "/a/b", "../b", "a/..", "a/b@../c", "a/b@", "~/a", "a--b/c", "a b/c"]
        {
            assert_eq!(Id::parse(other), None, "{other}");
        }
    }

    /// A cache with one model of two revisions.
    fn cache() -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--org--name");
        std::fs::create_dir_all(repository.join("refs/pr")).unwrap();
        std::fs::write(repository.join("refs/main"), "abc\n").unwrap();
        std::fs::write(repository.join("refs/pr/1"), "def").unwrap();
        std::fs::write(repository.join("refs/gone"), "none").unwrap();
        for (commit, files) in [
            ("abc", &["config.json", "model.safetensors"][..]),
            ("def", &["x-00001-of-00002.gguf", "x-00002-of-00002.gguf", "README.md"]),
            ("two", &["a.gguf", "b.gguf"]),
            ("empty", &["config.json"]),
        ] {
            let folder = repository.join("snapshots").join(commit);
            std::fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|name| std::fs::write(folder.join(name), "").unwrap());
        }
        cache
    }

    #[test]
    fn snapshots_are_found_by_name_and_revision() {
        let cache = cache();
        let snapshots = cache.path().join("models--org--name/snapshots");
        for (given, expected) in [
            ("org/name", "abc"),
            ("org/name@main", "abc"),
            ("org/name@abc", "abc"),
            ("org/name@pr/1", "def/x-00001-of-00002.gguf"),
        ] {
            let found = find_in(Path::new(given), Some(cache.path())).unwrap();
            assert_eq!(found, snapshots.join(expected), "{given}");
        }
    }

    #[test]
    fn what_is_not_in_the_cache_is_told() {
        let cache = cache();
        let refusal = |given: &str| find_in(Path::new(given), Some(cache.path())).unwrap_err().to_string();
        assert!(refusal("org/other").contains("or a model in the Hugging Face cache, found none in"));
        assert!(refusal("org/name@v2").contains("no \"v2\" in"));
        assert!(refusal("org/name@gone").contains("the files of the revision"));
        assert!(refusal("org/name@two").ends_with("found a.gguf, b.gguf"));
        assert!(refusal("org/name@empty").contains("neither in"));
    }

    #[test]
    fn paths_stay_as_they_are() {
        let cache = cache();
        for given in ["model.gguf", "/no/such/file", "./org/name"] {
            assert_eq!(find_in(Path::new(given), Some(cache.path())).unwrap(), Path::new(given));
        }
        let there = cache.path().join("models--org--name");
        assert_eq!(find_in(&there, Some(cache.path())).unwrap(), there);
        assert_eq!(find_in(Path::new("org/name"), None).unwrap(), Path::new("org/name"));
    }
}
