//! GGUF files in several parts, `NAME-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` writes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dacapo::MappedFile;

use super::gguf::Gguf;
use crate::error::{Error, Result};

/// The most parts.
const MOST: u64 = 99_999;

/// The path of part `index`, from 0, if this is the path of one of `count` parts.
fn part(path: &Path, index: u64, count: u64) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
    let (rest, of) = name.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    (digits(of) && digits(number) && of.parse() == Ok(count))
        .then(|| path.with_file_name(format!("{prefix}-{:05}-of-{count:05}.gguf", index + 1)))
}

/// Number of this part, from 0, and of all parts; `None` if the file is whole.
fn numbers(gguf: &Gguf) -> Result<Option<(u64, u64)>> {
    let Some(count) = gguf.unsigned("split.count")?.filter(|&count| count > 1) else { return Ok(None) };
    if count > MOST {
        return Err(Error::config(gguf.path(), "split.count", format!("at most {MOST}"), count.to_string()));
    }
    let index = gguf.unsigned("split.no")?.unwrap_or(0);
    if index >= count {
        return Err(Error::config(gguf.path(), "split.no", format!("less than {count}"), index.to_string()));
    }
    Ok(Some((index, count)))
}

/// All parts in order, given any of them; just this one if it is whole.
///
/// # Errors
/// [`Error::Config`] if names and numbers of the parts do not fit each other; [`Error::MissingFile`].
pub(super) fn parts(given: Gguf) -> Result<Vec<Gguf>> {
    let Some((index, count)) = numbers(&given)? else { return Ok(vec![given]) };
    let path = given.path().to_path_buf();
    if part(&path, index, count).as_deref() != Some(&path) {
        let expected = format!("a name that ends in -{:05}-of-{count:05}.gguf", index + 1);
        return Err(Error::config(&path, "split.no", expected, format!("part {index} of {count}")));
    }
    let mut all = Vec::new();
    for other in (0..count).filter_map(|other| part(&path, other, count)) {
        if other == path {
            all.push(given.clone());
            continue;
        }
        if !other.is_file() {
            return Err(Error::MissingFile { path: other, needed_by: path.display().to_string() });
        }
        let file: Arc<MappedFile> = MappedFile::open(&other)?;
        let gguf = Gguf::parse(&file)?;
        let expected = (all.len() as u64, count);
        if numbers(&gguf)? != Some(expected) {
            let found = numbers(&gguf)?.map_or("a whole file".into(), |(i, n)| format!("part {i} of {n}"));
            return Err(Error::config(&other, "split.no", format!("part {} of {count}", expected.0), found));
        }
        all.push(gguf);
    }
    let tensors: usize = all.iter().map(|part| part.tensors().len()).sum();
    match all.first().map(|first| first.unsigned("split.tensors.count")).transpose()?.flatten() {
        Some(expected) if expected != tensors as u64 => {
            let expected = format!("{tensors}, as the parts have");
            Err(Error::config(&path, "split.tensors.count", expected, "another number".to_string()))
        }
        _ => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let path = Path::new("/m/a-b-00002-of-00003.gguf");
        assert_eq!(part(path, 0, 3), Some(PathBuf::from("/m/a-b-00001-of-00003.gguf")));
        assert_eq!(part(path, 1, 3).as_deref(), Some(path));
        for (name, count) in [("a.gguf", 3), ("a-00001-of-00003.gguf", 2), ("a-1-of-3.gguf", 3)] {
            assert_eq!(part(Path::new(name), 0, count), None, "{name}");
        }
    }
}
