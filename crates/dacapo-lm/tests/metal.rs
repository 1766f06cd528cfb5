//! Whole models on a Metal device: against transformers' logits and greedy tokens, and against the CPU.
//!
//! On a Mac this is the Mac's GPU. Elsewhere, with `--cfg metal_sim`, it is the simulated one of crates/dacapo-metal-sim.

#![cfg(any(target_vendor = "apple", metal_sim))]

mod support;

use std::ops::ControlFlow;

use dacapo::{Device, DeviceOptions, DeviceSelect, MetalOptions, MetalReplay};
use dacapo_lm::{GenerateOptions, LoadOptions, Model, Sampling};
use support::fixtures::{Fixture, for_all};

/// The first device, with a way of replay.
fn device(replay: MetalReplay) -> Device {
    let metal = MetalOptions { replay, ..MetalOptions::default() };
    let options = DeviceOptions { metal, ..DeviceOptions::metal(DeviceSelect::Auto) };
    Device::open(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Fails if the simulation had something to say. On a Mac, Metal's validation ends the program by itself.
fn assert_silent() {
    #[cfg(metal_sim)]
    {
        let complaints = dacapo_metal_sim::complaints();
        assert!(complaints.is_empty(), "{} complaints, first:\n{}", complaints.len(), complaints[0]);
    }
}

fn load(device: &Device, fixture: &Fixture, exact: bool) -> Model {
    let options = LoadOptions { exact, ..LoadOptions::default() };
    Model::load(device, &fixture.path(), &options, &mut |_| {})
        .unwrap_or_else(|error| panic!("{}: {error}", fixture.name))
}

#[test]
fn exact_logits_and_tokens_are_the_references() {
    let device = device(MetalReplay::Auto);
    for_all(|fixture| {
        let model = load(&device, fixture, true);
        let mut wrong = fixture.wrong_logits(&model);
        wrong.extend(fixture.wrong_greedy_tokens(&model));
        wrong
    });
    assert_silent();
}

#[test]
fn default_logits_are_near_the_references() {
    let device = device(MetalReplay::Reencode);
    for_all(|fixture| fixture.wrong_logits(&load(&device, fixture, false)));
    assert_silent();
}

/// A profile has times of groups, or those of whole command buffers where the device cannot time groups.
#[test]
#[cfg(metal_sim)]
fn a_profile_needs_no_times_of_groups() {
    let checkpoint = dacapo_lm::demo().unwrap();
    let profile = || {
        let device = device(MetalReplay::Auto);
        let options = LoadOptions::default();
        let model = Model::from_checkpoint(&device, &checkpoint, &options, &mut |_| {}).unwrap();
        let mut session = model.session().unwrap();
        session.profile(&[1, 2, 3], 2, &mut |_, _| ControlFlow::Continue(())).unwrap()
    };
    let fine = profile();
    // Other tests do not ask for times.
    dacapo_metal_sim::classes::set_stage_times(false);
    let coarse = profile();
    dacapo_metal_sim::classes::set_stage_times(true);
    assert_eq!(fine.tokens, coarse.tokens);
    let entries = |profile: &dacapo_lm::Profile| -> Vec<usize> {
        profile.runs.iter().map(|run| run.times.groups.len()).collect()
    };
    assert!([0, 2, 3].iter().all(|&run| entries(&fine)[run] > 1), "{:?}", entries(&fine));
    assert_eq!(entries(&coarse), [1; 4], "prompt, draw, two steps");
    for run in &coarse.runs {
        assert_eq!(run.times.groups[0].nodes, 0..coarse.graphs[run.graph].nodes.len());
    }
    assert_silent();
}

#[test]
fn vectors_of_texts_are_the_references() {
    let device = device(MetalReplay::Auto);
    let load = |path: std::path::PathBuf| {
        Model::load(&device, &path, &LoadOptions { exact: true, ..LoadOptions::default() }, &mut |_| {})
            .unwrap()
    };
    let all = support::embeddings::fixtures();
    let wrong: Vec<_> = all.iter().flat_map(|fixture| fixture.wrong_vectors(&load(fixture.path()))).collect();
    assert_eq!(wrong, Vec::<String>::new());
    assert_silent();
}

/// What the demo model writes.
fn story(device: &Device, prompt: &str, sampling: Sampling) -> String {
    let checkpoint = dacapo_lm::demo().unwrap();
    // Exact: int8 codes of activations may differ where a sum's last bit does.
    let options = LoadOptions { exact: true, ..LoadOptions::default() };
    let model = Model::from_checkpoint(device, &checkpoint, &options, &mut |_| {}).unwrap();
    let prompt = model.tokenizer().unwrap().encode(prompt, true).unwrap();
    let options = GenerateOptions { max_tokens: Some(60), sampling, ..GenerateOptions::default() };
    let mut session = model.session().unwrap();
    session.generate(&prompt, &options, &mut |_| ControlFlow::Continue(())).unwrap().text
}

#[test]
fn the_demo_model_writes_what_it_writes_on_the_cpu() {
    let cpu = Device::open(DeviceOptions::default()).unwrap();
    let drawn = Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, seed: 11, ..Sampling::default() };
    let prompt = "Once upon a time";
    for sampling in [Sampling::default(), drawn] {
        let expected = story(&cpu, prompt, sampling.clone());
        for replay in [MetalReplay::Auto, MetalReplay::Reencode] {
            assert_eq!(story(&device(replay), prompt, sampling.clone()), expected, "{replay:?}");
        }
    }
    assert_silent();
}
