//! The program `dacapo`: runs quantized language models on the machine at hand.

mod args;
mod commands;
mod conversation;
mod error;
mod hub;
mod interrupt;
mod open;
mod output;
mod progress;
mod stream;
mod table;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(args::Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(line) = error.line() {
                output::message(&line);
            }
            ExitCode::from(error.exit_code())
        }
    }
}
