//! What holds for whole models on any GPU.

use std::ops::ControlFlow;

use dacapo::{ComputeGraph, Device, DeviceOptions};
use dacapo_lm::{GenerateOptions, LoadOptions, Model, Sampling, Stage, graph_options};

use crate::common;
use crate::support::measure::{Reading, logits};
use crate::support::{Differences, F32, INT8, random};

/// The demo model.
pub fn demo(device: &Device, exact: bool) -> Model {
    let checkpoint = dacapo_lm::demo().unwrap();
    let options = LoadOptions { exact, ..LoadOptions::default() };
    Model::from_checkpoint(device, &checkpoint, &options, &mut |_| {}).unwrap()
}

/// What the demo model writes.
pub fn story(device: &Device, prompt: &str, sampling: Sampling) -> String {
    // Exact: int8 codes of activations may differ where a sum's last bit does.
    let model = demo(device, true);
    let prompt = model.tokenizer().unwrap().encode(prompt, true).unwrap();
    let options = GenerateOptions { max_tokens: Some(60), sampling, ..GenerateOptions::default() };
    let mut session = model.session().unwrap();
    session.generate(&prompt, &options, &mut |_| ControlFlow::Continue(())).unwrap().text
}

/// A pass as sessions run it.
pub fn pass(model: &Model, stage: Stage, tokens: usize) -> ComputeGraph {
    model.graph(stage, tokens).unwrap().optimize(model.device(), &graph_options()).unwrap().0
}

/// Fails unless norms and rotations of heads and the write into the caches are part of attention in every layer of a step.
pub fn assert_tokens_are_prepared_within_attention(device: &Device) {
    let model = demo(device, false);
    let graph = pass(&model, Stage::Decode, 40);
    let count = |is: fn(&str) -> bool| graph.nodes().iter().filter(|node| is(node.kernel().name)).count();
    let fused = count(|name| name.starts_with("rms_norm_rope_attention"));
    assert_eq!(fused, model.config().layers);
    assert_eq!(count(|name| name.ends_with("kv_write") || name.ends_with("rope")), 0);
}

/// Fails unless a model of the widths of a real one agrees with the CPU: the texts and divisions that its products and heads
/// get are others than those of the tiny checkpoints. The prompt has `tokens` tokens.
pub fn assert_real_widths_agree(device: &Device, tokens: usize) {
    let folder = tempfile::tempdir().unwrap();
    random::write(folder.path());
    let checkpoint = dacapo_lm::Checkpoint::open(folder.path()).unwrap();
    let cpu = Device::open(DeviceOptions::default()).unwrap();
    let all = common::tokens(5, tokens, random::VOCABULARY);
    for (exact, profile) in [(true, F32), (false, INT8)] {
        let [found, reference] =
            [device, &cpu].map(|device| common::load(device, &checkpoint, exact, None).unwrap());
        // As generation reads them there are fewer, since each is a pass.
        for (reading, count) in [(Reading::Prompt, tokens), (Reading::Decode, 4)] {
            let tokens = &all[..count];
            let [found, reference] =
                [&found, &reference].map(|model| logits(model, tokens, reading).unwrap());
            let differences = Differences::measure(&found, &reference, random::VOCABULARY);
            let wrong = differences.outside(&profile);
            assert!(wrong.is_empty(), "exact {exact}, {reading:?}: {wrong:?}");
            eprintln!("exact {exact}, {reading:?}: {differences:?}");
        }
    }
}
