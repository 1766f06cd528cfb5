//! What only a simulated Metal can show of whole models. A program of its own: it looks at all devices that there are.
//!
//! Needs `--cfg metal_sim`: `crates/dacapo-metal-sim/cargo test -p dacapo-lm --test metal_sim`.

#![cfg(metal_sim)]

use std::ops::ControlFlow;

use dacapo::{Device, DeviceOptions, DeviceSelect};
use dacapo_lm::{GenerateOptions, LoadOptions, Model};
use dacapo_metal_sim::{classes, complaints, gpu, objc};

/// A model's weights are wired while it is there, whatever sessions do, and nothing else is.
#[test]
fn a_models_weights_are_resident_and_nothing_else() {
    let device = Device::open(DeviceOptions::metal(DeviceSelect::Auto)).unwrap();
    let checkpoint = dacapo_lm::demo().unwrap();
    let model = Model::from_checkpoint(&device, &checkpoint, &LoadOptions::default(), &mut |_| {}).unwrap();
    let generate = || {
        let options = GenerateOptions { max_tokens: Some(5), ignore_eos: true, ..GenerateOptions::default() };
        let mut session = model.session().unwrap();
        session.generate(&[1, 2, 3], &options, &mut |_| ControlFlow::Continue(())).unwrap();
        classes::resident()
    };
    let resident = generate();
    // Vectors of norms are not worth a member; a buffer takes up to 511 bytes more than what is in it.
    let (bytes, weights) = (resident.iter().sum::<usize>() as u64, model.footprint().weight_bytes);
    let most = weights + 512 * resident.len() as u64;
    assert!(bytes > weights * 95 / 100 && bytes < most, "{bytes} of {weights} bytes in {}", resident.len());
    assert_eq!(generate(), resident, "another session changes nothing");
    drop(model);
    device.encoder("nothing").unwrap().commit_and_wait().unwrap();
    assert!(classes::resident().is_empty());
    drop(device);
    gpu::settle();
    assert_eq!(objc::count().get("SimulatedBuffer").copied().unwrap_or(0), 0);
    assert_eq!(complaints(), Vec::<String>::new());
}
