//! What a repository of the hub holds, and what of it a model needs.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::http::StatusCode;

use super::Hub;
use crate::error::{Error, Result};
use crate::hub::{Id, WANTED, one_of, part_of};

/// Largest listing: a repository with ten thousand files needs some megabytes.
const LARGEST: u64 = 64 << 20;

/// What is encoded in a part of a path (RFC 3986), and in a path.
const IN_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
pub(super) const IN_PATH: &AsciiSet = &IN_PART.remove(b'/');

/// The files of a model in one commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// What to fetch.
    pub files: Vec<Remote>,
}

/// A file of the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    /// Path in the repository.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What its content is called: its SHA-256, or what Git calls it if it is small.
    pub blob: String,
}

/// What the hub answers.
#[derive(Debug, Deserialize)]
struct Answer {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Debug, Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Hub {
    /// The files that the name asks for.
    pub(super) fn list(&self, id: &Id<'_>) -> Result<Listing> {
        let revision = utf8_percent_encode(id.revision(), IN_PART);
        let url = format!(
            "{}/api/models/{}/{}/revision/{revision}?blobs=true",
            self.endpoint, id.organization, id.name
        );
        let mut response = self.get(&url).call().map_err(|error| unreachable_hub(&url, error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refusal(id, status, &url));
        }
        let body = response.body_mut().with_config().limit(LARGEST).read_to_string();
        let body = body.map_err(|error| unreachable_hub(&url, error))?;
        let answer: Answer = serde_json::from_str(&body)
            .map_err(|error| Error::input(&url, "a listing of a model's files", error))?;
        if !is_hex(&answer.sha, &[40]) {
            return Err(Error::input(&url, "a commit of 40 hexadecimal digits", format!("{:?}", answer.sha)));
        }
        let files = answer.siblings.into_iter().filter_map(|file| remote(&url, file).transpose());
        let files = choose(id, files.collect::<Result<_>>()?)?;
        Ok(Listing { commit: answer.sha, files })
    }

    /// A request with the user's token.
    pub(super) fn get(&self, url: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        let request = self.agent.get(url);
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Why the hub does not give what was asked for.
    pub(super) fn refusal(&self, id: &Id<'_>, status: StatusCode, url: &str) -> Error {
        let expected = match (status, &self.token) {
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
                "a model of the hub that is open to all, or a token in HF_TOKEN"
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(_)) => {
                "a model of the hub that your token opens"
            }
            (StatusCode::NOT_FOUND, _) => "a model of the hub and a revision of it",
            _ => "an answer of the hub",
        };
        Error::input(id, expected, format!("{status} from {url}"))
    }
}

/// A connection that failed.
pub(super) fn unreachable_hub(url: &str, error: ureq::Error) -> Error {
    Error::Io { name: url.to_string(), source: error.into_io() }
}

/// The file, if its name is one that can be in a cache.
///
/// # Errors
/// [`Error::Input`] if a file that is for us is not described as it should be.
fn remote(url: &str, file: Sibling) -> Result<Option<Remote>> {
    let name = file.rfilename;
    let plain =
        |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    if !name.split('/').all(plain) {
        return Ok(None);
    }
    let (blob, bytes) = match file.lfs {
        Some(large) => (Some(large.sha256), Some(large.size)),
        None => (file.blob_id, file.size),
    };
    match (blob, bytes) {
        (Some(blob), Some(bytes)) if is_hex(&blob, &[40, 64]) => Ok(Some(Remote { name, bytes, blob })),
        found => Err(Error::input(url, format!("size and digest of {name}"), format!("{found:?}"))),
    }
}

fn is_hex(text: &str, lengths: &[usize]) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A folder of safetensors with what belongs to it, or else one GGUF file, in all its parts.
///
/// # Errors
/// [`Error::Input`] if there is neither, or more than one GGUF file.
fn choose(id: &Id<'_>, mut files: Vec<Remote>) -> Result<Vec<Remote>> {
    let at_top = |file: &Remote, end: &str| file.name.ends_with(end) && !file.name.contains('/');
    let has = |end: &str| files.iter().any(|file| at_top(file, end));
    if id.quantization.is_none() && has("config.json") && has(".safetensors") {
        // `consolidated` are the same weights a second time, in another layout.
        files.retain(|file| {
            let weights = at_top(file, ".safetensors") && !file.name.starts_with("consolidated");
            let beside = [".json", ".jinja", ".txt", ".model"].iter().any(|end| at_top(file, end));
            weights || beside || file.name == "1_Pooling/config.json"
        });
        return Ok(files);
    }
    files.retain(|file| id.takes(&file.name));
    let mut whole: Vec<String> = files.iter().map(|file| whole_name(&file.name).to_string()).collect();
    whole.sort();
    whole.dedup();
    match whole.as_slice() {
        [] => Err(Error::input(id, WANTED, "neither on the hub")),
        [_] => Ok(files),
        several => Err(Error::input(id, one_of(several), several.join(", "))),
    }
}

/// The name without the number of the part.
fn whole_name(name: &str) -> &str {
    let stem = name.strip_suffix(".gguf").unwrap_or(name);
    part_of(stem).map_or(stem, |(whole, _)| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(id: &str, names: &[&str]) -> Result<Vec<String>> {
        let file = |name: &&str| Remote { name: name.to_string(), bytes: 1, blob: "0".repeat(40) };
        let files = choose(&Id::parse(id).unwrap(), names.iter().map(file).collect())?;
        Ok(files.into_iter().map(|file| file.name).collect())
    }

    #[test]
    fn a_folder_is_fetched_without_what_no_model_needs() {
        let needed =
            ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json", "vocab.txt"];
        let rest =
            ["README.md", "consolidated.safetensors", "onnx/model.onnx", "pytorch_model.bin", "x-f16.gguf"];
        assert_eq!(chosen("a/b", &[&needed[..], &rest].concat()).unwrap(), needed);
    }

    #[test]
    fn one_of_several_gguf_files_is_chosen_by_the_end_of_its_name() {
        let names = [
            "README.md",
            "m-Q4_K_M.gguf",
            "Q8_0/m-Q8_0-00001-of-00002.gguf",
            "Q8_0/m-Q8_0-00002-of-00002.gguf",
        ];
        assert_eq!(chosen("a/b:q4_k_m", &names).unwrap(), &names[1..2]);
        assert_eq!(chosen("a/b:Q8_0", &names).unwrap(), &names[2..]);
        let refused = chosen("a/b", &names).unwrap_err().to_string();
        assert!(refused.contains("choose from 2, found Q8_0/m-Q8_0, m-Q4_K_M"), "{refused}");
        assert!(chosen("a/b:Q2_K", &names).unwrap_err().to_string().contains("neither on the hub"));
    }

    #[test]
    fn names_and_digests_that_leave_the_cache_are_not_taken() {
        let file = |name: &str, blob: &str| Sibling {
            rfilename: name.into(),
            size: Some(1),
            blob_id: Some(blob.into()),
            lfs: None,
        };
        let digest = "0123456789abcdef0123456789abcdef01234567";
        assert!(remote("url", file("a/b.json", digest)).unwrap().is_some());
        for name in ["../a", "/a", "a//b", "a/../b", "a\\b", "C:a", ""] {
            assert_eq!(remote("url", file(name, digest)).unwrap(), None, "{name}");
        }
        for blob in ["", "../../0123456789abcdef0123456789abcdef0123", &digest[1..]] {
            assert!(remote("url", file("a", blob)).is_err(), "{blob}");
        }
    }

    #[test]
    fn paths_are_encoded() {
        assert_eq!(utf8_percent_encode("refs/pr/1", IN_PART).to_string(), "refs%2Fpr%2F1");
        assert_eq!(utf8_percent_encode("a b/c%_.gguf", IN_PATH).to_string(), "a%20b/c%25_.gguf");
    }
}
