//! Whole models on a Vulkan device, by default a software one: against transformers' logits and greedy tokens, and
//! against the CPU. Where there is no device the tests are skipped and say so, unless `DACAPO_REQUIRE_VULKAN` is set.

#[path = "../examples/common/mod.rs"]
mod common;
#[path = "support/gpu.rs"]
mod gpu;
#[path = "../examples/soak/run.rs"]
mod soak;
mod support;

use std::ops::ControlFlow;

use dacapo::gpu::GpuCaps;
use dacapo::{Device, DeviceOptions};
use dacapo_lm::{Error, GenerateOptions, LoadOptions, LoadProgress, Model, Sampling};
use dacapo_testkit::{assert_silent, vulkan as device, vulkan_options};
use gpu::{assert_real_widths_agree, assert_tokens_are_prepared_within_attention, story};
use support::fixtures::{Fixture, fixture, for_all};

fn load(device: &Device, fixture: &Fixture, exact: bool) -> Model {
    let options = LoadOptions { exact, ..LoadOptions::default() };
    Model::load(device, &fixture.path(), &options, &mut |_| {})
        .unwrap_or_else(|error| panic!("{}: {error}", fixture.name))
}

#[test]
fn exact_logits_and_tokens_are_the_references() {
    let Some(device) = device() else { return };
    for_all(|fixture| {
        let model = load(&device, fixture, true);
        let mut wrong = fixture.wrong_logits(&model);
        wrong.extend(fixture.wrong_greedy_tokens(&model));
        wrong
    });
    assert_silent(&device);
}

#[test]
fn states_follow_the_text_or_begin_anew() {
    let Some(device) = device() else { return };
    for name in support::states::FIXTURES {
        support::states::check(&load(&device, &fixture(name), true), name);
    }
    assert_silent(&device);
}

#[test]
fn default_logits_are_near_the_references() {
    let Some(device) = device() else { return };
    for_all(|fixture| fixture.wrong_logits(&load(&device, fixture, false)));
    assert_silent(&device);
}

#[test]
fn vectors_of_texts_are_the_references() {
    let Some(device) = device() else { return };
    let wrong = |exact| {
        let load = |path: std::path::PathBuf| {
            Model::load(&device, &path, &LoadOptions { exact, ..LoadOptions::default() }, &mut |_| {})
                .unwrap()
        };
        let all = support::embeddings::fixtures();
        all.iter().flat_map(|fixture| fixture.wrong_vectors(&load(fixture.path()))).collect::<Vec<_>>()
    };
    for exact in [true, false] {
        assert_eq!(wrong(exact), Vec::<String>::new(), "exact {exact}");
    }
    assert_silent(&device);
}

/// Norms and rotations of heads and the write into the caches are part of attention in every layer of a step.
#[test]
fn a_step_prepares_its_token_within_attention() {
    let Some(device) = device() else { return };
    assert_tokens_are_prepared_within_attention(&device);
    assert_silent(&device);
}

#[test]
fn the_demo_model_writes_what_it_writes_on_the_cpu() {
    let Some(device) = device() else { return };
    let cpu = Device::open(DeviceOptions::default()).unwrap();
    let drawn = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, seed: 11, ..Sampling::default() };
    for sampling in [Sampling::default(), drawn] {
        let prompt = "Once upon a time";
        assert_eq!(story(&device, prompt, sampling.clone()), story(&cpu, prompt, sampling));
    }
    assert_silent(&device);
}

/// A device that offers no more than Vulkan promises runs the same models, to the same text.
#[test]
fn the_least_device_writes_what_the_cpu_writes() {
    let options = DeviceOptions { gpu_caps: GpuCaps::LEAST, ..vulkan_options() };
    let Some(device) = dacapo_testkit::open(options) else { return };
    let cpu = Device::open(DeviceOptions::default()).unwrap();
    // Long enough that positions are split between workgroups, and for tiles of tokens.
    let prompt = "Once upon a time there was a little dog who liked to run. ".repeat(3);
    let greedy = Sampling::default();
    assert_eq!(story(&device, &prompt, greedy.clone()), story(&cpu, &prompt, greedy));
    assert_silent(&device);
}

/// Other texts and divisions than those of the tiny checkpoints.
#[test]
fn a_model_of_real_widths_agrees_with_the_cpu() {
    let Some(device) = device() else { return };
    assert_real_widths_agree(&device, 64);
    assert_silent(&device);
}

/// What `examples/soak` does for hours, for a moment.
#[test]
fn generation_stays_the_same_and_leaves_nothing_behind() {
    let Some(device) = device() else { return };
    let checkpoint = dacapo_lm::demo().unwrap();
    let model = common::load(&device, &checkpoint, false, None).unwrap();
    let soak = soak::Soak { contexts: vec![24, 300], each: 12, steps: 40, seed: 3 };
    let mut lines = vec![];
    let done = soak.run(&model, &mut |line| lines.push(line)).unwrap();
    assert_eq!((done.rounds, done.steps, lines.len()), (2, 48, 4), "{lines:?}");
    assert_silent(&device);
}

/// Loading onto a GPU is not over before everything is there.
#[test]
fn progress_covers_the_upload() {
    let Some(device) = device() else { return };
    let checkpoint = dacapo_lm::demo().unwrap();
    let held = || device.memory_in_use().bytes;
    let mut steps: Vec<(LoadProgress, u64)> = vec![];
    let progress = &mut |step| steps.push((step, held()));
    let model = Model::from_checkpoint(&device, &checkpoint, &LoadOptions::default(), progress).unwrap();
    assert!(steps.is_sorted_by_key(|(step, _)| step.done_bytes), "{steps:?}");
    let (last, _) = steps[steps.len() - 1];
    assert_eq!(last.done_bytes, last.total_bytes);
    let there = model.footprint().weight_bytes;
    for (step, held) in steps {
        // Panels take about as much as the file's blocks; what is reported lies on the device already.
        let reported = step.done_bytes as f64 / step.total_bytes as f64;
        assert!(held as f64 >= 0.8 * reported * there as f64, "{step:?}: {held} of {there} bytes");
    }
}

/// 512 keys of the demo model are 128 KiB in a layer.
#[test]
fn a_cache_that_cannot_be_bound_is_named() {
    let gpu_caps = GpuCaps { binding_bytes: 300 * 256, ..GpuCaps::default() };
    let Some(device) = dacapo_testkit::open(DeviceOptions { gpu_caps, ..vulkan_options() }) else { return };
    let checkpoint = dacapo_lm::demo().unwrap();
    let model = common::load(&device, &checkpoint, false, None).unwrap();
    let tokens = common::tokens(1, 400, model.config().vocab_size);
    let mut session = model.session().unwrap();
    // More than the first cache has, and all that can be bound: it works.
    // Few tokens at a time, whose activations can be bound.
    for part in tokens[..290].chunks(16) {
        session.prefill(part, &mut |_, _| ControlFlow::Continue(())).unwrap();
    }
    let error = session.prefill(&tokens[290..], &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert!(
        matches!(error, Error::CacheTooLarge { positions: 400, limit: 76_800, most: 300, .. }),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.starts_with("keys (or values) of a layer at 400 positions: 102400 bytes"), "{text}");
    // A generation comes as far as there is room.
    let options = GenerateOptions { max_tokens: Some(40), ignore_eos: true, ..GenerateOptions::default() };
    let mut count = 0;
    let result = session.generate(&tokens[..290], &options, &mut |_| {
        count += 1;
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(Error::CacheTooLarge { positions: 301, .. })), "{result:?}");
    assert!(count > 8, "{count} tokens before");
    assert_silent(&device);
}
