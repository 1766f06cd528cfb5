//! Running the real program.
#![allow(dead_code, reason = "every test file uses a part of this")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program with these arguments, its standard input empty.
pub fn dacapo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dacapo"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run(args: &[&str]) -> Output {
    dacapo(args).output().unwrap()
}

/// Runs the program with this on its standard input.
pub fn run_with_input(args: &[&str], input: &str) -> Output {
    let mut child =
        dacapo(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Standard output of a run that must succeed and say nothing on standard error.
#[track_caller]
pub fn stdout_of(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*errors), (Some(0), ""));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard output of a run that must succeed.
#[track_caller]
pub fn text(args: &[&str]) -> String {
    stdout_of(&run(args))
}

/// The JSON that a run prints.
#[track_caller]
pub fn json(args: &[&str]) -> Value {
    serde_json::from_str(&text(args)).unwrap()
}

/// The one line on standard error of a run that must fail with code 1 and print nothing else.
#[track_caller]
pub fn failure(output: &Output) -> String {
    let errors = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(errors.starts_with("dacapo: ") && errors.ends_with('\n'), "{errors:?}");
    assert_eq!(errors.lines().count(), 1, "{errors:?}");
    errors.trim_end().to_string()
}

/// A path in the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The same as text.
pub fn repository_path(path: &str) -> String {
    repository(path).to_str().unwrap().to_string()
}
