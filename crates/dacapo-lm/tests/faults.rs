//! One fault at each turn of a whole generation: an error, nothing worse, and everything in order afterwards. On the
//! processor, and at some of the turns on a Vulkan device, by default a software one.

use std::ops::ControlFlow;

use dacapo::{Device, DeviceOptions, FaultPlan, FaultPoint};
use dacapo_lm::{Error, GenerateOptions, LoadOptions, Model};
use dacapo_testkit::{assert_silent, vulkan_options};

const PROMPT: [u32; 5] = [503, 502, 257, 377, 11];

/// From an open device to some tokens: loading, a prompt, steps submitted ahead.
fn generate(device: &Device) -> Result<Vec<u32>, Error> {
    let model = Model::from_checkpoint(device, &dacapo_lm::demo()?, &LoadOptions::default(), &mut |_| {})?;
    let options = GenerateOptions { max_tokens: Some(6), ignore_eos: true, ..GenerateOptions::default() };
    let mut session = model.session()?;
    Ok(session.generate(&PROMPT, &options, &mut |_| ControlFlow::Continue(()))?.tokens)
}

/// The processor, with something that fails.
fn processor(fault: Option<FaultPlan>) -> Device {
    Device::open(DeviceOptions { threads: Some(2), fault, ..DeviceOptions::default() }).unwrap()
}

/// The Vulkan device to test on, with something that fails.
fn vulkan(fault: Option<FaultPlan>) -> Device {
    Device::open(DeviceOptions { fault, ..vulkan_options() }).unwrap()
}

/// Lets one turn of `at` after the other fail, those that `turns` names, until a run meets no fault. Returns how many runs
/// failed.
fn sweep(
    open: fn(Option<FaultPlan>) -> Device,
    expected: &[u32],
    at: FaultPoint,
    turns: impl Iterator<Item = u64>,
    usable_after: bool,
) -> usize {
    let mut failures = 0;
    for nth in turns {
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
                assert!(message.contains(named(at)), "{at:?} {nth}: {message:?}");
                if usable_after {
                    // A failure that nobody was told of may surface once more; the fault itself is over.
                    let _ = device.wait_idle();
                    assert_eq!(generate(&device).unwrap(), expected, "{at:?} {nth}: the device afterwards");
                } else {
                    assert!(generate(&device).is_err(), "{at:?} {nth}: a lost device works");
                }
            }
        }
        assert_silent(&device);
        drop(device);
        assert_eq!(meter.in_use().bytes, 0, "{at:?} {nth}: memory left behind");
    }
    failures
}

/// What the message of a failure says.
fn named(at: FaultPoint) -> &'static str {
    match at {
        FaultPoint::Allocate => "out of memory: cannot allocate ",
        FaultPoint::MapFile => "mapping failed on request",
        FaultPoint::Pipeline => "the pipeline of kernel ",
        FaultPoint::Encode => "encoding of dispatch ",
        FaultPoint::DeviceLost => "device lost: ",
        _ => "failed",
    }
}

/// Every turn.
fn all() -> impl Iterator<Item = u64> {
    1..
}

#[test]
fn memory_that_is_not_there() {
    assert!(sweep(processor, &generate(&processor(None)).unwrap(), FaultPoint::Allocate, all(), true) > 20);
}

/// Each block of memory that a model asks for while it is loaded and its cache made is told by what it is for, and what
/// would need less.
#[test]
fn missing_memory_is_told_by_its_use() {
    let message = |nth| {
        let device = processor(Some(FaultPlan { at: FaultPoint::Allocate, nth }));
        generate(&device).err().map(|error| error.to_string())
    };
    let all: Vec<String> = (1..).map_while(message).collect();
    let weights =
        all.iter().filter(|text| text.ends_with("; a checkpoint with fewer bits for each weight needs less"));
    assert!(weights.clone().count() > 20);
    assert!(
        weights.clone().any(|text| text.starts_with("tensor \"blk.0.attn_q.weight\": out of memory: ")),
        "{all:?}"
    );
    // Two for each of six layers, and the first cache grows by none.
    let caches = all.iter().filter(|text| text.ends_with("; a smaller context needs less"));
    assert_eq!(caches.clone().count(), 12);
    let start = "keys and values of 256 positions, 786432 bytes in all layers: out of memory: cannot allocate 65536 bytes";
    assert!(caches.clone().all(|text| text.starts_with(start)), "{all:?}");
}

#[test]
fn a_file_that_cannot_be_mapped() {
    assert!(sweep(processor, &generate(&processor(None)).unwrap(), FaultPoint::MapFile, all(), true) > 20);
}

#[test]
fn a_kernel_that_cannot_be_made_ready() {
    assert!(sweep(processor, &generate(&processor(None)).unwrap(), FaultPoint::Pipeline, all(), true) > 8);
}

#[test]
fn a_dispatch_that_cannot_be_encoded() {
    assert!(sweep(processor, &generate(&processor(None)).unwrap(), FaultPoint::Encode, all(), true) > 20);
}

#[test]
fn a_submission_that_is_refused() {
    assert!(sweep(processor, &generate(&processor(None)).unwrap(), FaultPoint::Submit, all(), true) > 20);
}

#[test]
fn a_submission_that_fails() {
    assert!(sweep(processor, &generate(&processor(None)).unwrap(), FaultPoint::Complete, all(), true) > 20);
}

#[test]
fn a_device_that_is_lost() {
    assert!(
        sweep(
            processor,
            &generate(&processor(None)).unwrap(),
            FaultPoint::DeviceLost,
            all().step_by(3),
            false
        ) > 20
    );
    assert!(generate(&processor(None)).is_ok(), "a device opened afterwards");
}

/// Some turns of each point. A software device compiles all kernels anew for each, so that there are few; every one meets a
/// fault.
#[test]
fn whatever_fails_on_vulkan() {
    if dacapo_testkit::vulkan().is_none() {
        return;
    }
    let expected = generate(&vulkan(None)).unwrap();
    for (at, turns) in [
        (FaultPoint::Allocate, &[1, 40, 82][..]),
        (FaultPoint::Pipeline, &[1, 9]),
        (FaultPoint::Encode, &[1, 40, 82]),
        // A single submission does not fail on a GPU: it ends, or the device is lost.
        (FaultPoint::Submit, &[1, 2]),
        (FaultPoint::DeviceLost, &[5, 60, 150]),
    ] {
        let usable_after = at != FaultPoint::DeviceLost;
        let failures = sweep(vulkan, &expected, at, turns.iter().copied(), usable_after);
        assert_eq!(failures, turns.len(), "{at:?}");
    }
    assert_eq!(generate(&vulkan(None)).unwrap(), expected, "a device opened afterwards");
}
