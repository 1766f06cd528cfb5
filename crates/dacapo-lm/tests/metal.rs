//! Whole models on a Metal device: against transformers' logits and greedy tokens, and against the CPU.
//!
//! On a Mac this is the Mac's GPU. Elsewhere, with `--cfg metal_sim`, it is the simulated one of crates/dacapo-metal-sim.

#![cfg(any(target_vendor = "apple", metal_sim))]

#[path = "../examples/common/mod.rs"]
mod common;
#[path = "support/gpu.rs"]
mod gpu;
mod support;

use dacapo::gpu::GpuCaps;
use dacapo::{DType, Device, DeviceOptions, DeviceSelect, MetalOptions, MetalReplay};
use dacapo_lm::{LoadOptions, Model, Sampling, Stage};
use gpu::{assert_real_widths_agree, assert_tokens_are_prepared_within_attention, demo, pass, story};
use support::fixtures::{Fixture, fixture, for_all};

/// The first device, with a way of replay.
fn device(replay: MetalReplay) -> Device {
    held_to(GpuCaps::default(), replay)
}

/// The same, as if it had less.
fn held_to(gpu_caps: GpuCaps, replay: MetalReplay) -> Device {
    let metal = MetalOptions { replay, ..MetalOptions::default() };
    let options = DeviceOptions { metal, gpu_caps, ..DeviceOptions::metal(DeviceSelect::Auto) };
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
fn states_follow_the_text_or_begin_anew() {
    let device = device(MetalReplay::Auto);
    let name = support::states::FIXTURES[0];
    support::states::check(&load(&device, &fixture(name), true), name);
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
    let profile = || {
        let mut session = demo(&device(MetalReplay::Auto), false).session().unwrap();
        session.profile(&[1, 2, 3], 2, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap()
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

/// A device that offers little runs the same models, to the same text.
#[test]
fn a_small_device_writes_what_the_cpu_writes() {
    let cpu = Device::open(DeviceOptions::default()).unwrap();
    // Long enough for tiles of tokens.
    let prompt = "Once upon a time there was a little dog who liked to run. ".repeat(2);
    let found = story(&held_to(GpuCaps::LEAST, MetalReplay::Auto), &prompt, Sampling::default());
    assert_eq!(found, story(&cpu, &prompt, Sampling::default()));
    assert_silent();
}

#[test]
fn a_step_prepares_its_token_within_attention() {
    assert_tokens_are_prepared_within_attention(&device(MetalReplay::Auto));
    assert_silent();
}

/// The texts that multiply in a pass of the demo model, of dispatches with int8 activations.
fn products(device: &Device, stage: Stage, tokens: usize) -> Vec<&'static str> {
    let limits = device.info().gpu.clone().expect("it is a GPU");
    let graph = pass(&demo(device, false), stage, tokens);
    let of = |kernel: &dacapo::Kernel| kernel.name.starts_with("matmul_int8");
    let dispatches = graph.nodes().iter().map(|node| node.dispatch()).filter(|it| of(it.kernel()));
    let texts = dispatches.map(|dispatch| {
        let plan = dispatch.gpu_call(&limits).unwrap().plan;
        dispatch.kernel().gpu.unwrap().variants[plan.variant].name
    });
    texts.collect()
}

/// Products of prompts run on `simdgroup_matrix`, of up to eight tokens and on devices with small threadgroups they do not.
#[test]
fn prompts_are_multiplied_by_matrices() {
    let device = device(MetalReplay::Auto);
    for tokens in [9, 40, 128] {
        let texts = products(&device, Stage::Prefill, tokens);
        // The logits are of the last token alone.
        let matrices = texts.iter().filter(|text| **text == "coop8").count();
        let others: Vec<_> = texts.iter().filter(|text| **text != "coop8").collect();
        assert!(matrices > 20 && others.len() <= 1, "{tokens} tokens: {matrices}, and {others:?}");
    }
    assert!(products(&device, Stage::Prefill, 8).iter().all(|text| *text != "coop8"));
    let small = held_to(GpuCaps { workgroup_size: 64, ..GpuCaps::default() }, MetalReplay::Auto);
    assert!(products(&small, Stage::Prefill, 40).iter().all(|text| *text != "coop8"));
    assert_silent();
}

#[test]
fn a_model_of_real_widths_agrees_with_the_cpu() {
    assert_real_widths_agree(&device(MetalReplay::Reencode), 40);
    assert_silent();
}

/// Where a fusion would need more threadgroup memory than there is, its parts run.
#[test]
fn what_does_not_fit_is_not_fused() {
    let names = |device: &Device, dim: usize| {
        let row = || device.transient(DType::F32, &[1, dim]).unwrap();
        let (x, y, sum, out) = (row(), row(), row(), row());
        let weight = device.transient(DType::F32, &[dim]).unwrap();
        let mut encoder = device.encoder("norm").unwrap();
        encoder.start_capture().unwrap();
        dacapo_ops::rms_norm_add(&mut encoder, &x, &y, &weight, &sum, &out, 1e-6).unwrap();
        let into = dacapo_ops::Int8Buffers::transient(device, dim).unwrap();
        dacapo_ops::Activation::quantize(&mut encoder, &out, &into).unwrap();
        let (graph, report) = encoder.take_capture().unwrap().fuse(device, dacapo_ops::FUSIONS);
        let names: Vec<&str> = graph.nodes().iter().map(|node| node.kernel().name).collect();
        (names, report.refused.iter().map(|refused| refused.why.to_string()).collect::<String>())
    };
    let small = GpuCaps { shared_memory: 3 << 10, workgroup_size: 128, ..GpuCaps::default() };
    let (found, why) = names(&held_to(small, MetalReplay::Auto), 4096);
    assert_eq!(found, ["rms_norm_add", "quantize_q8"], "{why}");
    assert!(why.contains("bytes of workgroup memory; the device has 3072"), "{why}");
    assert_eq!(names(&device(MetalReplay::Auto), 4096).0, ["rms_norm_add_q8"]);
    assert_silent();
}
