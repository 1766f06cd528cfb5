//! One fault at each turn of a whole generation: an error, nothing worse, and everything in order afterwards.

use std::ops::ControlFlow;

use dacapo::{Device, DeviceOptions, FaultPlan, FaultPoint};
use dacapo_lm::{Error, GenerateOptions, LoadOptions, Model};

const PROMPT: [u32; 5] = [503, 502, 257, 377, 11];

/// From an open device to some tokens: loading, a prompt, steps submitted ahead.
fn generate(device: &Device) -> Result<Vec<u32>, Error> {
    let model = Model::from_checkpoint(device, &dacapo_lm::demo()?, &LoadOptions::default(), &mut |_| {})?;
    let options = GenerateOptions { max_tokens: Some(6), ignore_eos: true, ..GenerateOptions::default() };
    let mut session = model.session()?;
    Ok(session.generate(&PROMPT, &options, &mut |_| ControlFlow::Continue(()))?.tokens)
}

fn open(fault: Option<FaultPlan>) -> Device {
    Device::open(DeviceOptions { threads: Some(2), fault, ..DeviceOptions::default() }).unwrap()
}

/// Lets every `stride`th turn of `at` fail until a run meets no fault. Returns how many runs failed.
fn sweep(at: FaultPoint, stride: u64, usable_after: bool) -> usize {
    let expected = generate(&open(None)).unwrap();
    let mut failures = 0;
    for nth in (1..).step_by(stride as usize) {
        let device = open(Some(FaultPlan { at, nth }));
        let meter = device.memory_meter();
        match generate(&device) {
            Ok(tokens) => {
                assert_eq!(tokens, expected, "{at:?} {nth}");
                break;
            }
            Err(error) => {
                failures += 1;
                let message = error.to_string();
                assert!(!message.is_empty() && !message.contains('\n'), "{at:?} {nth}: {message:?}");
                if usable_after {
                    // A failure that nobody was told of may surface once more; the fault itself is over.
                    let _ = device.wait_idle();
                    assert_eq!(generate(&device).unwrap(), expected, "{at:?} {nth}: the device afterwards");
                } else {
                    assert!(generate(&device).is_err(), "{at:?} {nth}: a lost device works");
                }
            }
        }
        drop(device);
        assert_eq!(meter.in_use().bytes, 0, "{at:?} {nth}: memory left behind");
    }
    failures
}

#[test]
fn memory_that_is_not_there() {
    assert!(sweep(FaultPoint::Allocate, 1, true) > 20);
}

#[test]
fn a_file_that_cannot_be_mapped() {
    assert!(sweep(FaultPoint::MapFile, 1, true) > 20);
}

#[test]
fn a_kernel_that_cannot_be_made_ready() {
    assert!(sweep(FaultPoint::Pipeline, 1, true) > 8);
}

#[test]
fn a_dispatch_that_cannot_be_encoded() {
    assert!(sweep(FaultPoint::Encode, 1, true) > 20);
}

#[test]
fn a_submission_that_is_refused() {
    assert!(sweep(FaultPoint::Submit, 1, true) > 20);
}

#[test]
fn a_submission_that_fails() {
    assert!(sweep(FaultPoint::Complete, 1, true) > 20);
}

#[test]
fn a_device_that_is_lost() {
    assert!(sweep(FaultPoint::DeviceLost, 3, false) > 20);
    assert!(generate(&open(None)).is_ok(), "a device opened afterwards");
}
