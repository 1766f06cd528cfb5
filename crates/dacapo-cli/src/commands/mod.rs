//! The verbs.

mod bench;
mod chat;
mod completions;
mod devices;
mod embed;
mod generate;
mod graph;
mod inspect;
mod logits;
mod perplexity;
mod profile;
mod quantize;
mod tokenize;

use clap::Subcommand;

use crate::error::Result;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Generate(generate::Args),
    Chat(chat::Args),
    Logits(logits::Args),
    Perplexity(perplexity::Args),
    Embed(embed::Args),
    Tokenize(tokenize::Args),
    Bench(bench::Args),
    Profile(profile::Args),
    Inspect(inspect::Args),
    Quantize(quantize::Args),
    Graph(graph::Args),
    Devices(devices::Args),
    Completions(completions::Args),
}

/// Does it.
///
/// # Errors
/// What made the run fail.
pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Logits(args) => logits::run(&args),
        Command::Perplexity(args) => perplexity::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Tokenize(args) => tokenize::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Graph(args) => graph::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
