//! `dacapo completions`: scripts for shells.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::error::Result;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  dacapo completions bash > ~/.local/share/bash-completion/completions/dacapo
  dacapo completions zsh > ~/.zfunc/_dacapo
  dacapo completions fish > ~/.config/fish/completions/dacapo.fish";

/// Print a script that completes this program's options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the verb.
///
/// # Errors
/// Those of standard output.
pub fn run(args: &Args) -> Result<()> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut Cli::command(), "dacapo", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
