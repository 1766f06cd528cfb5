//! Lets a device generate for long, at growing contexts, and checks that nothing changes with time.
//!
//! ```sh
//! cargo run --release -p dacapo-lm --example soak -- MODEL --device vulkan [--steps 20000] [--context 32768] [--each 256] [--seed 1]
//! ```
//!
//! Without a model, the demo model. Contexts are 64, 512, 4096 and so on up to `--context`, or what the model has. Every
//! generation must give the tokens that it gave in the first round, leave no memory behind, and draw no message from the
//! driver. Several may run at once on a device; each prints its process's number.

#[path = "../common/mod.rs"]
mod common;
mod run;

use common::{Arguments, Failure};
use run::Soak;

fn main() -> Result<(), Failure> {
    let arguments = Arguments::read(&["device", "steps", "context", "each", "seed"])?;
    let device = common::open(arguments.text("device", "vulkan"))?;
    let checkpoint = arguments.checkpoint()?;
    let most = arguments.number("context", 32_768)?.min(checkpoint.model_config()?.context_length).max(2);
    let model = common::load(&device, &checkpoint, false, Some(most))?;
    let shorter =
        std::iter::successors(Some(64), |length| Some(length * 8)).take_while(|&length| length < most);
    let soak = Soak {
        contexts: shorter.chain([most]).collect(),
        each: arguments.number("each", 256)?.max(1),
        steps: arguments.number("steps", 20_000)?,
        seed: arguments.number("seed", 1)? as u64,
    };
    let process = std::process::id();
    println!(
        "{process}: {} on {}, contexts {:?}",
        arguments.model.as_deref().unwrap_or("demo"),
        device.info().name,
        soak.contexts
    );
    let done = soak.run(&model, &mut |line| println!("{process}: {line}"))?;
    println!(
        "{process}: {} tokens in {} rounds, the same in each; {} bytes held before and after",
        done.steps, done.rounds, done.bytes
    );
    Ok(())
}
