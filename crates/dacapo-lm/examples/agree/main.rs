//! How far a device's logits are from those of the processor, for a model of yours.
//!
//! ```sh
//! cargo run --release -p dacapo-lm --example agree -- MODEL --device vulkan [--positions 128] [--seed 1]
//! ```
//!
//! Without a model, the demo model. Reads the same random tokens on both, as a prompt and one after the other, with
//! quantized activations as they are by default and exactly. Fails where the differences are larger than those between
//! right implementations: see `docs/testing.md`.

#[path = "../common/mod.rs"]
mod common;
mod measure;

use common::{Arguments, Failure};
use measure::{Agreement, Reading, logits};

fn main() -> Result<(), Failure> {
    let arguments = Arguments::read(&["device", "positions", "seed"])?;
    let device = common::open(arguments.text("device", "vulkan"))?;
    let processor = common::open("cpu")?;
    let positions = arguments.number("positions", 128)?.max(1);
    let checkpoint = arguments.checkpoint()?;
    let config = checkpoint.model_config()?;
    let tokens = common::tokens(arguments.number("seed", 1)? as u64, positions, config.vocab_size);
    println!("{} against {}, {positions} positions", device.info().name, processor.info().name);
    let mut failures = Vec::new();
    // Relative error of the logits: the limits of docs/testing.md.
    for (exact, limit) in [(true, 2e-5), (false, 8e-2)] {
        let model = common::load(&device, &checkpoint, exact, Some(positions))?;
        let reference = common::load(&processor, &checkpoint, exact, Some(positions))?;
        for (reading, label) in [(Reading::Prompt, "prompt"), (Reading::Decode, "decode")] {
            let found = logits(&model, &tokens, reading)?;
            let agreement = Agreement::of(&found, &logits(&reference, &tokens, reading)?, config.vocab_size);
            let label = format!("{} {label}", if exact { "exact  " } else { "default" });
            println!("{label}: {agreement}");
            // A comparison that no NaN passes.
            if !matches!(agreement.relative.partial_cmp(&limit), Some(order) if order.is_le()) {
                failures
                    .push(format!("{label}: relative error {:.2e}, allowed {limit:.0e}", agreement.relative));
            }
        }
    }
    failures.extend(device.messages());
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("; ").into()),
    }
}
