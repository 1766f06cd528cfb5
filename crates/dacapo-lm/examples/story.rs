//! Loads the demo model and lets it tell a story.
//!
//! ```sh
//! cargo run --release -p dacapo-lm --example story
//! ```

use std::io::Write;
use std::ops::ControlFlow;

use dacapo::{Device, DeviceOptions};
use dacapo_lm::{Event, GenerateOptions, LoadOptions, Model};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::open(DeviceOptions::default())?;
    let model = Model::from_checkpoint(&device, &dacapo_lm::demo()?, &LoadOptions::default(), &mut |_| {})?;
    let mut session = model.session()?;
    let prompt = model.tokenizer()?.encode("Once upon a time", true)?;
    let generation = session.generate(&prompt, &GenerateOptions::default(), &mut |event| {
        if let Event::Text { text, .. } = event {
            print!("{text}");
            // Streaming is best effort here; the program `dacapo` shows how to end quietly on a closed pipe.
            let _ = std::io::stdout().flush();
        }
        ControlFlow::Continue(())
    })?;
    println!("\n\n{} tokens, {}", generation.tokens.len(), generation.finish.name());
    println!("{:?} {:?}", generation.prefill, generation.decode);
    Ok(())
}
