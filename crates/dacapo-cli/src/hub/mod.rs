//! Models in the local cache of Hugging Face's tools, by their names.
//!
//! The layout is that of `huggingface_hub`: `models--ORG--NAME` holds `refs/REVISION`, a file with a commit, and
//! `snapshots/COMMIT`, a folder of links to the files' content, which lies in `blobs`. With the feature `download`, what
//! is not there is fetched.

#[cfg(feature = "download")]
pub mod download;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A model's name, and what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id<'a> {
    organization: &'a str,
    name: &'a str,
    /// Which of several GGUF files: how its name ends, in letters of either case.
    quantization: Option<&'a str>,
    revision: Option<&'a str>,
}

impl<'a> Id<'a> {
    /// `ORG/NAME`, `ORG/NAME:QUANT` and the same with `@REVISION`; `None` for what cannot be a name.
    pub fn parse(text: &'a str) -> Option<Self> {
        let split = |text: &'a str, at: char| match text.split_once(at) {
            Some((start, end)) => (start, Some(end)),
            None => (text, None),
        };
        let (rest, revision) = split(text, '@');
        let (repository, quantization) = split(rest, ':');
        let (organization, name) = repository.split_once('/')?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let plain = |part: &str| {
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.') && !part.contains("--")
        };
        // References may lie in folders, as in `refs/pr/1`, but not outside.
        let fine =
            revision.is_none_or(|revision| revision.split('/').all(plain)) && quantization.is_none_or(plain);
        (plain(organization) && plain(name) && fine).then_some(Id {
            organization,
            name,
            quantization,
            revision,
        })
    }

    /// What is asked for: a branch, a tag or a commit.
    fn revision(&self) -> &'a str {
        self.revision.unwrap_or("main")
    }

    /// The name of its folder in the cache.
    fn folder(&self) -> String {
        format!("models--{}--{}", self.organization, self.name)
    }

    /// Whether this is a GGUF file that the name asks for; of one in parts, any part.
    fn takes(&self, file: &str) -> bool {
        let Some(stem) = file.strip_suffix(".gguf") else { return false };
        let Some(wanted) = self.quantization else { return true };
        let whole = part_of(stem).map_or(stem, |(whole, _)| whole).to_ascii_lowercase();
        let start = whole.strip_suffix(&wanted.to_ascii_lowercase());
        start.is_some_and(|start| start.is_empty() || start.ends_with(['-', '.', '_', '/']))
    }
}

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.organization, self.name)?;
        self.quantization.map_or(Ok(()), |quantization| write!(f, ":{quantization}"))?;
        self.revision.map_or(Ok(()), |revision| write!(f, "@{revision}"))
    }
}

/// What is before `-00001-of-00003` in the name of a part, and the part's number.
fn part_of(stem: &str) -> Option<(&str, usize)> {
    let (start, of) = stem.rsplit_once("-of-")?;
    let (whole, number) = start.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(of) && digits(number)).then(|| number.parse().ok().map(|number| (whole, number)))?
}

/// Where the model is: the path itself if there is something, else what the cache has under that name.
///
/// With the feature `download`, a model that is not there is fetched.
///
/// # Errors
/// [`Error::Input`] if the name is one that a cached model could have, and it is not there or not whole; what fetching it
/// makes of it.
pub fn find(given: &Path) -> Result<PathBuf> {
    let cache = cache();
    let found = find_in(given, cache.as_deref());
    #[cfg(feature = "download")]
    if found.is_err()
        && let (Some(id), Some(cache)) = (id_of(given), cache.as_deref())
        && download::allowed()
    {
        download::fetch(&id, cache)?;
        return find_in(given, Some(cache));
    }
    found
}

/// The name that this is, unless there is a file or a folder there.
fn id_of(given: &Path) -> Option<Id<'_>> {
    given.to_str().filter(|_| !given.exists()).and_then(Id::parse)
}

/// A path that the environment names.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The folder of Hugging Face's tools, as they find it.
fn home() -> Option<PathBuf> {
    let user = || variable("HOME").or_else(|| variable("USERPROFILE")).map(|home| home.join(".cache"));
    let base = || variable("XDG_CACHE_HOME").or_else(user);
    variable("HF_HOME").or_else(|| base().map(|base| base.join("huggingface")))
}

/// The cache's folder, as `huggingface_hub` finds it.
fn cache() -> Option<PathBuf> {
    let named = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE"));
    named.or_else(|| home().map(|home| home.join("hub")))
}

fn find_in(given: &Path, cache: Option<&Path>) -> Result<PathBuf> {
    let (Some(id), Some(cache)) = (id_of(given), cache) else { return Ok(given.to_path_buf()) };
    let fail = |expected: &str, found: String| Err(Error::input(given.display(), expected, found));
    let repository = cache.join(id.folder());
    if !repository.is_dir() {
        return fail(
            "a file, a folder, or a model in the Hugging Face cache",
            format!("none in {}", cache.display()),
        );
    }
    let revision = id.revision();
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
    checkpoint_in(&id, snapshot)
}

/// The folder itself if it is one of a checkpoint, or its GGUF file: of one in parts the first.
fn checkpoint_in(id: &Id<'_>, snapshot: PathBuf) -> Result<PathBuf> {
    let mut files = names(&snapshot)?;
    let has = |end: &str| files.iter().any(|name| name.ends_with(end) && !name.contains('/'));
    if id.quantization.is_none() && has("config.json") && has(".safetensors") {
        return Ok(snapshot);
    }
    files.retain(|name| {
        let later = part_of(name.trim_end_matches(".gguf")).is_some_and(|(_, number)| number > 1);
        id.takes(name) && !later
    });
    match files.as_slice() {
        [file] => Ok(snapshot.join(file)),
        [] => Err(Error::input(id, WANTED, format!("neither in {}", snapshot.display()))),
        several => Err(Error::input(id, one_of(several), several.join(", "))),
    }
}

/// What a repository should hold.
const WANTED: &str = "safetensors with config.json or a GGUF file";

/// What to say where there are several GGUF files.
fn one_of(files: &[String]) -> String {
    format!("one GGUF file, or :QUANT behind the name to choose from {}", files.len())
}

/// The names of the folder's files and of those one folder further down, as `folder/file`, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = vec![];
    for name in entries(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            names.extend(entries(&path)?.into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The folder's names.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let fail = |error| Error::file(folder, error);
    let mut names = vec![];
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        names.extend(entry.map_err(fail)?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        let id = |organization, name, quantization, revision| {
            Some(Id { organization, name, quantization, revision })
        };
        assert_eq!(Id::parse("Qwen/Qwen3-0.6B"), id("Qwen", "Qwen3-0.6B", None, None));
        assert_eq!(Id::parse("a/b@refs/pr/1"), id("a", "b", None, Some("refs/pr/1")));
        assert_eq!(Id::parse("a/b:Q4_K_M@v1"), id("a", "b", Some("Q4_K_M"), Some("v1")));
        assert_eq!(Id::parse("a/b:Q4_K_M@v1").unwrap().to_string(), "a/b:Q4_K_M@v1");
        for other in [
            "model.gguf",
            "a/b/c",
            "/a/b",
            "../b",
            "a/..",
            "a/b@../c",
            "a/b@",
            "a/b:",
            "a/b:../c",
            "~/a",
            "a--b/c",
            "a b/c",
        ] {
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
            ("two", &["x-Q4_K_M.gguf", "x-IQ4_0.gguf", "x.q4_0.gguf"]),
            ("below", &["config.json", "q8_0/x-q8_0-00001-of-00002.gguf", "q8_0/x-q8_0-00002-of-00002.gguf"]),
            ("empty", &["config.json"]),
        ] {
            let folder = repository.join("snapshots").join(commit);
            for file in files.iter().map(|name| folder.join(name)) {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "").unwrap();
            }
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
            ("org/name:q4_k_m@two", "two/x-Q4_K_M.gguf"),
            ("org/name:Q4_0@two", "two/x.q4_0.gguf"),
            ("org/name@below", "below/q8_0/x-q8_0-00001-of-00002.gguf"),
            ("org/name:Q8_0@below", "below/q8_0/x-q8_0-00001-of-00002.gguf"),
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
        assert!(refusal("org/name@two").ends_with("found x-IQ4_0.gguf, x-Q4_K_M.gguf, x.q4_0.gguf"));
        assert!(refusal("org/name:Q4_K@two").contains("neither in"));
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
