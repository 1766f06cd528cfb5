//! The table of fusions on whole passes: what it does to them, and that nobody can tell.

mod support;

use std::collections::BTreeMap;

use dacapo::{Buffer, ComputeGraph, DType, Device, DeviceOptions, GraphOptions};
use dacapo_lm::{LoadOptions, Model, Stage, graph_options};
use support::fixtures::fixture;
use support::load;

fn model(threads: usize) -> Model {
    let device = Device::open(DeviceOptions { threads: Some(threads), ..DeviceOptions::default() }).unwrap();
    Model::from_checkpoint(&device, &dacapo_lm::demo().unwrap(), &LoadOptions::default(), &mut |_| {})
        .unwrap()
}

/// The buffers outside the graph that it writes: caches, logits, position, drawn token.
fn written(graph: &ComputeGraph) -> Vec<Buffer> {
    let buffers = graph.nodes().iter().flat_map(|node| {
        let buffers = node.dispatch().buffers().unwrap();
        let writes: Vec<bool> = node.ranges().iter().map(|range| range.access.writes()).collect();
        buffers.into_iter().zip(writes).filter(|(buffer, writes)| *writes && !buffer.is_transient())
    });
    let bytes = |(buffer, _): (Buffer, bool)| buffer.reinterpret(0, DType::U8, &[buffer.byte_len()]).unwrap();
    let mut buffers: Vec<Buffer> = buffers.map(bytes).collect();
    buffers.dedup_by(|a, b| a.is_same_view(b));
    buffers
}

fn contents(buffers: &[Buffer]) -> Vec<Vec<u8>> {
    buffers.iter().map(|buffer| buffer.to_vec().unwrap()).collect()
}

#[test]
fn fused_passes_give_the_bytes_of_unfused_ones() {
    for threads in [1, 3] {
        check_passes(&model(threads));
    }
}

/// What families put between the dispatches that the table looks for: norms behind blocks, factors, caps, layers without a
/// rotation, rotations of a part of a head, windows.
#[test]
fn no_family_can_tell() {
    for name in [
        "gguf-gemma2-q8_0",
        "gguf-gemma3-q8_0",
        "gguf-phi4-mini-q4_0",
        "gguf-olmo2-q8_0",
        "gguf-smollm3-q4_0",
        "gguf-granite-q5_0",
        "mlx-mistral-mixed-sharded",
        "mlx-qwen3_5-images-q4-g32-bf16",
        "gguf-qwen3_5-q8_0",
    ] {
        check_passes(&load(&fixture(name).path(), 2, false));
    }
}

fn check_passes(model: &Model) {
    for (stage, length) in [(Stage::Decode, 40), (Stage::Prefill, 1), (Stage::Prefill, 37)] {
        let graph = model.graph(stage, length).unwrap();
        let buffers = written(&graph);
        assert!(buffers.len() > 2 * model.config().layers);
        let before = contents(&buffers);
        let mut results = Vec::new();
        for options in [GraphOptions::recorded(), GraphOptions::default(), graph_options()] {
            buffers.iter().zip(&before).for_each(|(buffer, old)| buffer.copy_from(old).unwrap());
            let compiled = graph.compile(model.device(), "pass", &options).unwrap();
            // The second goes on where the first ends.
            compiled.replay().unwrap();
            compiled.replay().unwrap().wait().unwrap();
            results.push(contents(&buffers));
        }
        assert!(results[0] != before);
        let same = results[1] == results[0] && results[2] == results[0];
        assert!(same, "{model:?}: {stage:?} of {length}");
    }
}

/// Every place of a decode step that the table has something for is fused, and nothing is refused.
#[test]
fn a_decode_step_is_fused_everywhere() {
    let model = model(1);
    let graph = model.graph(Stage::Decode, 40).unwrap();
    let (_, reports) = graph.optimize(model.device(), &graph_options()).unwrap();
    let report = reports.fuse.unwrap();
    let mut kernels = BTreeMap::new();
    report.fused.iter().for_each(|fused| *kernels.entry(fused.kernel).or_insert(0) += 1);
    let layers = model.config().layers;
    let expected = [("gated_q8", layers), ("rms_norm_rope", layers), ("rms_norm_rope_kv_write", layers)];
    assert_eq!(kernels, BTreeMap::from(expected));
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    assert_eq!((report.dispatches_before, report.dispatches), (graph.len(), graph.len() - 4 * layers));
    assert!(report.fused.iter().all(|fused| fused.gain.is_some_and(|gain| !gain.figure.is_empty())));
}
