//! Mistakes that are planted into the texts of real kernels, and have to be found.

use dacapo::gpu::GpuCaps;
use dacapo::{CommandEncoder, ComputeGraph, Device};
use dacapo_ops::quant::{Float, Format};
use dacapo_ops::{Activation, AttentionOptions, Int8Buffers, SampleParams};
use half::f16;

use super::weights::random_weight;
use super::{Bench, Rng, device};

type Recorded = dacapo::Result<()>;

/// A graph of what is recorded. The last dispatch is the one that is meant.
fn graph(device: &Device, record: impl FnOnce(&mut CommandEncoder) -> Recorded) -> ComputeGraph {
    let mut encoder = device.encoder("test").expect("an encoder");
    encoder.start_capture().expect("captures");
    record(&mut encoder).expect("the arguments fit");
    encoder.take_capture().expect("captured")
}

fn normals(device: &Device, shape: &[usize]) -> dacapo::Buffer {
    device.upload(&Rng(shape.len() as u64).normals(shape.iter().product()), shape).expect("memory")
}

fn norm(device: &Device) -> ComputeGraph {
    let (x, weight) = (normals(device, &[1, 3000]), normals(device, &[3000]));
    graph(device, |enc| dacapo_ops::rms_norm_in_place(enc, &x, Some(&weight), 1e-6))
}

fn softmax(device: &Device) -> ComputeGraph {
    let [x, out] = [(); 2].map(|()| normals(device, &[1, 3000]));
    graph(device, |enc| dacapo_ops::softmax(enc, &x, &out, 1.0))
}

fn argmax(device: &Device) -> ComputeGraph {
    let (x, out) = (normals(device, &[1, 3000]), device.upload(&[0u32], &[1]).expect("memory"));
    graph(device, |enc| dacapo_ops::argmax(enc, &x, &out))
}

fn top_k(device: &Device) -> ComputeGraph {
    let x = normals(device, &[1, 3000]);
    let (values, indices) =
        (normals(device, &[1, 1500]), device.upload(&[0u32; 1500], &[1, 1500]).expect("memory"));
    graph(device, |enc| dacapo_ops::top_k(enc, &x, &values, &indices))
}

fn sample(device: &Device) -> ComputeGraph {
    let logits = normals(device, &[3000]);
    let params = SampleParams {
        temperature: 0.8,
        top_k: 50,
        top_p: 0.9,
        repetition_penalty: 1.2,
        ..SampleParams::GREEDY
    }
    .with_seed(3);
    let params = device.upload(&params.words(), &[SampleParams::WORDS]).expect("memory");
    let u32s = |len: usize| device.upload(&vec![0u32; len], &[len]).expect("memory");
    let (step, counts, token) = (u32s(1), u32s(3000), u32s(1));
    graph(device, |enc| dacapo_ops::sample(enc, &logits, &params, &step, None, &counts, &token, 1))
}

/// Attention of some tokens over a cache of 300 slots, in rows or in tiles. There are so many heads that it is not split.
fn attention(device: &Device, tokens: usize, dim: usize) -> ComputeGraph {
    let half = |shape: &[usize]| {
        let values = Rng(9).normals(shape.iter().product()).into_iter().map(f16::from_f32);
        device.upload(&values.collect::<Vec<_>>(), shape).expect("memory")
    };
    let (heads, kv_heads) = (32, 16);
    let q = normals(device, &[tokens, heads, dim]);
    let [k, v] = [(); 2].map(|()| half(&[kv_heads, 300, dim]));
    let step = device.upload(&[300 - tokens as u32], &[1]).expect("memory");
    let out = normals(device, &[tokens, heads, dim]);
    let options = AttentionOptions::causal(0.1);
    graph(device, |enc| dacapo_ops::attention(enc, &q, &k, &v, &step, None, &out, options))
}

/// A product with a weight of 48 rows.
fn matmul(device: &Device, int8: bool, k: usize, tokens: usize) -> ComputeGraph {
    let format = Format::Affine { bits: 4, group: 64, float: Float::F16 };
    let weight = random_weight(&Bench::new(device, true, 0), format, 48, k, 5);
    let (x, out) = (normals(device, &[tokens, k]), normals(device, &[tokens, 48]));
    let into = Int8Buffers::new(device, x.len()).expect("memory");
    graph(device, |enc| {
        let activation = if int8 { Activation::quantize(enc, &x, &into)? } else { Activation::exact(&x) };
        dacapo_ops::matmul(enc, &activation, &weight, None, &out)
    })
}

const BARRIERS: [&str; 2] = ["threadgroup_barrier(", "simdgroup_barrier("];
/// Orders of threads that are tried. Races are found in any; that atomics are out of step only shows in results.
const SEEDS: u64 = 4;

/// Leaves out each barrier of the last kernel in turn. That has to be found, or give another result, but for the `spare`
/// barriers that nobody misses with these arguments.
fn leave_out_barriers(name: &str, variant: &str, spare: usize, record: impl Fn(&Device) -> ComputeGraph) {
    leave_out_barriers_on(GpuCaps::default(), name, variant, spare, record);
}

/// The same on a device that is held to less.
fn leave_out_barriers_on(
    caps: GpuCaps,
    name: &str,
    variant: &str,
    spare: usize,
    record: impl Fn(&Device) -> ComputeGraph,
) {
    let Some(device) = device::open(caps) else { return };
    let text = device::last_text(&device, &record(&device), name, variant);
    let run = |change: &device::Change<'_>, seed| {
        // Anew, since some kernels change what they read.
        let graph = record(&device);
        device::run_graph(&device, &graph, change, seed).map(|()| written(&graph))
    };
    let right = run(&str::to_owned, 0).expect("is right as it is");
    let mut lines: Vec<_> = (0..)
        .zip(text.lines())
        .filter(|(_, line)| BARRIERS.iter().any(|barrier| line.contains(barrier)))
        .collect();
    let all = lines.len();
    assert!(all > 0, "{name} has no barriers");
    let unmissed = |at, seed| match run(&|other: &str| without_line(other, &text, at), seed) {
        Ok(result) => result == right,
        // What is read too early can make an index, or decide who reaches the next barrier.
        Err(error) if ["race", "divergent", "out of bounds"].iter().any(|s| error.contains(s)) => false,
        Err(error) => panic!("{name}, without line {at}: {error}"),
    };
    lines.retain(|&(at, _)| (0..SEEDS).all(|seed| unmissed(at, seed)));
    assert_eq!(lines.len(), spare, "{name}: of {all} barriers nobody misses {lines:?}");
}

/// The bytes that the last dispatch wrote.
fn written(graph: &ComputeGraph) -> Vec<Vec<u8>> {
    let nodes = graph.nodes();
    let dispatch = nodes.last().expect("something is recorded").dispatch();
    let buffers = dispatch.buffers().expect("they are there");
    let ranges = dispatch.ranges().expect("they are there");
    let outputs = buffers.iter().zip(&ranges).filter(|(_, range)| range.access.writes());
    outputs
        .map(|(buffer, _)| device::bytes(buffer).and_then(|b| b.to_vec().map_err(|e| e.to_string())))
        .collect::<Result<_, _>>()
        .expect("they can be read")
}

/// A text without a line, if it is the one that is meant.
fn without_line(text: &str, meant: &str, at: usize) -> String {
    let kept = |&(i, _): &(usize, &str)| text != meant || i != at;
    text.lines().enumerate().filter(kept).flat_map(|(_, line)| [line, "\n"]).collect()
}

#[test]
fn barriers_of_reductions_are_missed() {
    // The barrier behind a reduction is for the next one, if there is any.
    leave_out_barriers("rms_norm_in_place", "in_place", 1, norm);
    leave_out_barriers("softmax", "softmax", 1, softmax);
    leave_out_barriers("argmax", "argmax", 0, argmax);
}

#[test]
fn barriers_of_selections_are_missed() {
    // Three stand before others that order the same.
    leave_out_barriers("top_k", "top_k", 3, top_k);
    // One too.
    leave_out_barriers("sample", "plain", 1, sample);
}

#[test]
fn barriers_of_attention_are_missed() {
    leave_out_barriers("attention", "wide_2", 0, |device| attention(device, 1, 40));
    leave_out_barriers("attention", "tile", 0, |device| attention(device, 70, 64));
}

#[test]
fn barriers_of_products_are_missed() {
    leave_out_barriers("matmul_int8", "matvec_small", 0, |device| matmul(device, true, 1024, 1));
    let small = GpuCaps { workgroup_size: 64, ..GpuCaps::default() };
    leave_out_barriers_on(small, "matmul_int8", "tile", 0, |device| matmul(device, true, 128, 20));
    leave_out_barriers("matmul_int8", "coop8", 0, |device| matmul(device, true, 128, 20));
    leave_out_barriers("matmul", "matvec_vec", 0, |device| matmul(device, false, 1024, 2));
    leave_out_barriers("matmul", "tile", 0, |device| matmul(device, false, 128, 20));
}

#[test]
fn other_mistakes_are_found() {
    let Some(device) = device::open(GpuCaps::default()) else { return };
    for (from, to, words) in [
        (".v[", ".v[1u + ", "out of bounds"),
        ("mem_flags::mem_threadgroup", "mem_flags::mem_device", "race"),
        ("    threadgroup ", "    device ", "error:"),
        (
            "    metal::threadgroup_barrier(",
            "    if (sim::self()->thread_index != 3u) metal::threadgroup_barrier(metal::mem_flags::mem_none);\n    metal::threadgroup_barrier(",
            "divergent",
        ),
    ] {
        let graph = softmax(&device);
        assert!(device::last_text(&device, &graph, "softmax", "softmax").contains(from), "{from}");
        let error =
            device::run_graph(&device, &graph, &|text: &str| text.replace(from, to), 1).expect_err(to);
        assert!(error.contains(words), "{to}: {error}");
    }
}
