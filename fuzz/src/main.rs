//! Damages files until the time is up: `cargo run --release -p dacapo-fuzz -- --seconds 60`.
//!
//! On a failure the panic's message names the target and the seed; `--target NAME --seed N --seconds 0` repeats it.
//! Run it under a limit on memory (`ulimit -v`) to catch allocations that a file's size does not justify.

use std::time::{Duration, Instant};

use clap::Parser;
use dacapo_fuzz::mutate::{Random, damage};
use dacapo_fuzz::targets::{TARGETS, Target};

/// Feeds damaged files to everything that reads files.
#[derive(Parser)]
struct Arguments {
    /// How long to go on; each target is tried at least once.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The first seed; seeds are counted up from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Only the target of this name.
    #[arg(long)]
    target: Option<String>,
}

/// Says on a panic which input it was.
struct Running(&'static str, u64);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: --target {} --seed {} --seconds 0", self.0, self.1);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let wanted = |t: &&Target| arguments.target.as_ref().is_none_or(|name| name == t.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    if targets.is_empty() {
        return Err(format!("no target is called {:?}", arguments.target).into());
    }
    let folder = tempfile::tempdir()?;
    let seeds: Vec<Vec<u8>> = targets.iter().map(|t| (t.seed)()).collect();
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let mut seed = arguments.seed;
    let mut slowest = (Duration::ZERO, "", 0);
    loop {
        for (target, valid) in targets.iter().zip(&seeds) {
            let running = Running(target.name, seed);
            let mut bytes = valid.clone();
            damage(&mut bytes, &mut Random::new(seed));
            let start = Instant::now();
            (target.run)(&bytes, folder.path());
            slowest = slowest.max((start.elapsed(), target.name, seed));
            drop(running);
        }
        seed += 1;
        if Instant::now() >= end {
            break;
        }
    }
    let (time, name, at) = slowest;
    println!(
        "seeds {} to {} for {} targets; slowest {name} at seed {at}: {time:?}",
        arguments.seed,
        seed - 1,
        targets.len()
    );
    Ok(())
}
