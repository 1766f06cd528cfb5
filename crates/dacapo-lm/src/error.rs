//! The errors of this crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What went wrong, and in which file, tensor or key.
///
/// Every message is one line and says what was expected and what was found.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine refused: a file that cannot be mapped, memory that is not there, a wrong argument.
    #[error(transparent)]
    Engine(#[from] dacapo::Error),
    /// A folder or file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// A path that holds no checkpoint.
    #[error("{}: not a checkpoint: expected a .gguf file, a .safetensors file or a folder with config.json, found {found}", path.display())]
    NotACheckpoint {
        /// The path given.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A file that another file of the checkpoint needs.
    #[error("{}: missing file, needed by {needed_by}", path.display())]
    MissingFile {
        /// The file that is not there.
        path: PathBuf,
        /// Who needs it.
        needed_by: String,
    },
    /// A safetensors file that breaks its format.
    #[error("{}: invalid safetensors: {part}: expected {expected}, found {found}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// Header, or the tensor at fault.
        part: String,
        /// What the format asks for.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A GGUF file that breaks its format.
    #[error("{}: invalid GGUF: {part}: expected {expected}, found {found}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Header, or the key or tensor at fault.
        part: String,
        /// What the format asks for.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A configuration value that is missing or makes no sense.
    #[error("{}: {key}: expected {expected}, found {found}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key at fault.
        key: String,
        /// What the model needs.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A model of a kind that this crate does not run.
    #[error("{}: unknown architecture {name:?}: expected one of {known}; docs/architectures.md says how to add one", path.display())]
    UnknownArchitecture {
        /// The file that names it.
        path: PathBuf,
        /// Its name.
        name: String,
        /// The architectures that can be run, separated by commas.
        known: String,
    },
    /// A quantized tensor in a format that this crate does not run.
    #[error("{}: tensor {tensor:?}: unsupported quantization: expected {expected}, found {found}", path.display())]
    UnsupportedQuantization {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The formats that can be run.
        expected: String,
        /// The tensor's format.
        found: String,
    },
    /// A tensor that the model needs and the checkpoint lacks.
    #[error("{}: missing tensor {tensor:?}", path.display())]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor whose shape is not the one that the configuration asks for.
    #[error("{}: tensor {tensor:?}: expected shape {expected:?}, found {found:?}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor of a type that cannot be used where it stands.
    #[error("{}: tensor {tensor:?}: expected type {expected}, found {found}", path.display())]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The types that can be used.
        expected: String,
        /// The type in the file.
        found: String,
    },
    /// A tokenizer that is missing, broken or of an unknown kind.
    #[error("{}: tokenizer: {part}: expected {expected}, found {found}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The key or token at fault.
        part: String,
        /// What a tokenizer needs.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// Text that the tokenizer could not encode, or tokens that it could not decode.
    #[error("tokenizer: {0}")]
    Tokenization(String),
    /// A chat template that does not compile or that failed on these messages.
    #[error("{}: chat template: {reason}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// The reason, with the template's line where it is known.
        reason: String,
    },
    /// Something that is to be written where there is something already.
    #[error("{}: exists already{}", path.display(), if *replaceable { "" } else { ", and is no checkpoint" })]
    Exists {
        /// The path.
        path: PathBuf,
        /// Whether it may be overwritten, if that is wished.
        replaceable: bool,
    },
    /// A checkpoint that cannot be written as asked.
    #[error("{}: cannot be converted: expected {expected}, found {found}", path.display())]
    Unconvertible {
        /// The checkpoint or file at fault.
        path: PathBuf,
        /// What can be converted.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A tensor whose content cannot be computed with, such as a scale that is not a number.
    #[error("{}: tensor {tensor:?}: {reason}", path.display())]
    BadWeight {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Memory that is not there.
    #[error("{what}: {source}; {help} needs less")]
    NoRoom {
        /// What it was for.
        what: String,
        /// What would need less.
        help: &'static str,
        /// How much was asked for, and how much there is.
        #[source]
        source: dacapo::Error,
    },
    /// A context whose keys and values a kernel of the device cannot be given.
    #[error(
        "{tensor} at {positions} positions: {bytes} bytes, and the device binds {limit} at once: at most {most} positions fit"
    )]
    CacheTooLarge {
        /// Which, and of what.
        tensor: &'static str,
        /// Positions asked for.
        positions: usize,
        /// Bytes that they take.
        bytes: u64,
        /// Bytes that the device binds at once.
        limit: u64,
        /// Positions that fit.
        most: usize,
    },
    /// A token that the model does not have.
    #[error("token {token}: expected an id below {vocabulary}")]
    TokenOutOfRange {
        /// The token.
        token: u32,
        /// Rows of the model's embedding.
        vocabulary: usize,
    },
    /// An encoder was asked for a next token.
    #[error(
        "{architecture}: expected a model that goes on with a text, found an encoder, which only embeds texts"
    )]
    NotADecoder {
        /// Its name.
        architecture: String,
    },
    /// A generation option that makes no sense.
    #[error("{option}: expected {expected}, found {found}")]
    Option {
        /// The option.
        option: &'static str,
        /// What it takes.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A prompt with more tokens than the context holds.
    #[error("prompt of {tokens} tokens does not fit the context of {context} tokens")]
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Tokens that fit.
        context: usize,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::NoRoom`], if that is what the engine's error says; others as they are.
    pub(crate) fn no_room(error: dacapo::Error, what: impl FnOnce() -> String, help: &'static str) -> Self {
        match error {
            source @ dacapo::Error::OutOfMemory { .. } => Error::NoRoom { what: what(), help, source },
            other => other.into(),
        }
    }

    pub(crate) fn unknown_architecture(path: &Path, name: &str) -> Self {
        Error::UnknownArchitecture {
            path: path.to_path_buf(),
            name: one_line(name),
            known: crate::checkpoint::ARCHITECTURES.join(", "),
        }
    }

    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_path_buf(), source: Arc::new(source) }
    }

    pub(crate) fn config(
        path: &Path,
        key: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Error::Config {
            path: path.to_path_buf(),
            key: key.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(crate) fn tokenizer(
        path: &Path,
        part: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Error::Tokenizer {
            path: path.to_path_buf(),
            part: part.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(crate) fn template(path: &Path, reason: impl std::fmt::Display) -> Self {
        Error::Template { path: path.to_path_buf(), reason: one_line(&reason.to_string()) }
    }
}

/// The text on one line and not longer than a terminal shows: foreign messages may hold line breaks or a
/// whole file.
pub(crate) fn one_line(text: &str) -> String {
    const LIMIT: usize = 300;
    let mut out = String::new();
    for (count, word) in text.split_whitespace().enumerate() {
        if count > 0 {
            out.push(' ');
        }
        out.extend(word.chars().take(LIMIT));
        if out.len() > LIMIT {
            let cut = (0..=LIMIT).rev().find(|&i| out.is_char_boundary(i)).unwrap_or(0);
            out.truncate(cut);
            out.push('…');
            break;
        }
    }
    out
}
