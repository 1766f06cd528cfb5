//! What makes a run of the program fail, and its exit code.

use std::io;
use std::path::Path;

/// Exit code of a run that failed.
pub const FAILED: u8 = 1;
/// Exit code of a run that Ctrl-C ended: 128 plus the number of SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] dacapo::Error),
    /// The model, its files or its tokenizer refused.
    #[error(transparent)]
    Model(#[from] dacapo_lm::Error),
    /// A file or stream that could not be read or written.
    #[error("{name}: {source}")]
    Io {
        /// The file, or what the stream is called.
        name: String,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// Something given to the program that it cannot use.
    #[error("{subject}: expected {expected}, found {found}")]
    Input {
        /// The file, stream or option.
        subject: String,
        /// What can be used.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A family of devices that is not part of this build.
    #[error("device {asked}: not built in; expected one of: {available}")]
    NoBackend {
        /// The family asked for.
        asked: &'static str,
        /// Those that there are.
        available: String,
    },
    /// The reader of standard output has gone away, as `head` does. Not a failure.
    #[error("standard output was closed")]
    ClosedPipe,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// The program's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] about a file.
    pub fn file(path: &Path, source: io::Error) -> Self {
        Error::Io { name: path.display().to_string(), source }
    }

    /// An [`Error::Input`].
    pub fn input(
        subject: impl std::fmt::Display,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        Error::Input {
            subject: subject.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// The line for standard error; `None` where there is nothing to say.
    pub fn line(&self) -> Option<String> {
        match self {
            Error::ClosedPipe | Error::Interrupted => None,
            // Paths and foreign messages may hold line breaks; the report is one line all the same.
            other => {
                let message = other.to_string();
                Some(format!("dacapo: {}", message.lines().map(str::trim).collect::<Vec<_>>().join(" ")))
            }
        }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::ClosedPipe => 0,
            Error::Interrupted => INTERRUPTED,
            _ => FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        let error = Error::input("a\n  file", "text", "nothing");
        assert_eq!(error.line().unwrap(), "dacapo: a file: expected text, found nothing");
        assert_eq!(error.exit_code(), 1);
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_no_failure() {
        assert_eq!(Error::ClosedPipe.line(), None);
        assert_eq!(Error::ClosedPipe.exit_code(), 0);
    }
}
