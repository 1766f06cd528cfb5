//! Whole models through every pass of the graph engine and every way to run a graph: the same bytes.

mod support;

use std::ops::ControlFlow;
use std::path::Path;

use dacapo::{
    Buffer, ChunkOptions, ComputeGraph, DType, Device, GraphOptions, OpKind, ScheduleOptions, Strategy,
};
use dacapo_lm::{GenerateOptions, LoadOptions, Model, Sampling, SessionOptions, Stage};
use support::{device, logits};

/// Tokens of a prompt; every vocabulary here has them.
const PROMPT: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];
/// Decode steps that are compared.
const STEPS: usize = 3;
const THREADS: [usize; 4] = [1, 2, 3, 5];

/// Random checkpoints of several architectures and formats.
const FIXTURES: [&str; 5] = [
    "mlx-llama-q4-g64-bf16",
    "mlx-qwen2-q8-g32-f16",
    "gguf-qwen3-q4_0/model.gguf",
    "hf-mistral-bf16",
    "gguf-qwen3_5-q8_0/model.gguf",
];

fn fixture(device: &Device, name: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name);
    Model::load(device, &path, &LoadOptions::default(), &mut |_| {}).unwrap()
}

fn demo(device: &Device) -> Model {
    let checkpoint = dacapo_lm::demo().unwrap();
    Model::from_checkpoint(device, &checkpoint, &LoadOptions::default(), &mut |_| {}).unwrap()
}

/// Every way to arrange, place and cut a graph.
fn ways() -> Vec<(&'static str, GraphOptions)> {
    let recorded = GraphOptions::recorded();
    let order = |strategy| GraphOptions { reorder: Some(ScheduleOptions::from(strategy)), ..recorded };
    let parts = Some(ChunkOptions { first: 20_000, budget: 100_000, ..ChunkOptions::default() });
    vec![
        ("recorded", recorded),
        ("recorded in groups", order(Strategy::Recorded)),
        ("look-ahead", order(Strategy::LookAhead(64))),
        ("levels", GraphOptions::default()),
        ("recorded, in chunks", GraphOptions { chunk: parts, ..recorded }),
        ("levels, in chunks", GraphOptions { chunk: parts, ..GraphOptions::default() }),
        ("levels, timed", GraphOptions { timing: true, ..GraphOptions::default() }),
    ]
}

/// Every byte that a graph leaves behind: KV cache, logits, step, drawn token and the rest, in the order of recording.
fn outputs(graph: &ComputeGraph) -> Vec<Buffer> {
    let mut found: Vec<Buffer> = Vec::new();
    for node in graph.nodes() {
        let buffers = node.dispatch().buffers().unwrap();
        for (buffer, binding) in buffers.iter().zip(node.kernel().bindings) {
            let known = found.iter().any(|other| other.is_same_view(buffer));
            if binding.access.writes() && !buffer.is_transient() && !known {
                found.push(buffer.clone());
            }
        }
    }
    found
}

fn bytes(buffers: &[Buffer]) -> Vec<Vec<u8>> {
    let all = |buffer: &Buffer| buffer.reinterpret(0, DType::U8, &[buffer.byte_len()]).unwrap();
    buffers.iter().map(|buffer| all(buffer).to_vec::<u8>().unwrap()).collect()
}

/// Records a stage on memory of its own, puts the prompt where it reads its tokens, runs it, and gives all that it wrote.
/// A decode step is run several times, at positions one after another.
fn run(model: &Model, stage: Stage, run: &dyn Fn(&ComputeGraph, usize)) -> Vec<Vec<u8>> {
    let runs = if stage == Stage::Decode { STEPS } else { 1 };
    let graph = model.graph(stage, PROMPT.len()).unwrap();
    let embed = graph.nodes().iter().find(|node| node.kind() == OpKind::Embed).unwrap();
    let tokens = embed.dispatch().buffers().unwrap()[0].clone();
    tokens.copy_from(&PROMPT[..tokens.len()]).unwrap();
    let outputs = outputs(&graph);
    assert!(outputs.len() > 2 * model.config().layers, "keys, values and logits at least");
    run(&graph, runs);
    bytes(&outputs)
}

/// Encoded anew for each run, in the recorded order, with the barriers that the ranges ask for.
fn live(model: &Model, stage: Stage) -> Vec<Vec<u8>> {
    let device = model.device();
    run(model, stage, &|graph, runs| {
        let placed = graph.optimize(device, &GraphOptions::recorded()).unwrap().0;
        for _ in 0..runs {
            let mut encoder = device.encoder("live").unwrap();
            placed.encode_sequential(&mut encoder).unwrap();
            encoder.commit_and_wait().unwrap();
        }
    })
}

fn compiled(model: &Model, stage: Stage, options: &GraphOptions) -> Vec<Vec<u8>> {
    run(model, stage, &|graph, runs| {
        let compiled = graph.compile(model.device(), "compiled", options).unwrap();
        assert!(options.chunk.is_none() || compiled.submissions() > 1, "the chunks are small enough to cut");
        let replays: Vec<_> = (0..runs).map(|_| compiled.replay().unwrap()).collect();
        replays.iter().for_each(|replay| replay.wait().unwrap());
    })
}

/// The least memory that the activations of a stage fit into, a limit under which groups must be split.
fn least(model: &Model, stage: Stage) -> usize {
    let graph = model.graph(stage, PROMPT.len()).unwrap();
    let options = GraphOptions { memory_limit: Some(0), ..GraphOptions::default() };
    match graph.optimize(model.device(), &options) {
        Err(dacapo::Error::MemoryLimit { least, .. }) => least,
        other => panic!("{:?}", other.map(|(_, reports)| reports)),
    }
}

fn check(name: &str, load: &dyn Fn(&Device) -> Model) {
    for stage in [Stage::Prefill, Stage::Decode] {
        let mut expected = None;
        for threads in THREADS {
            let model = load(&device(threads));
            let found = live(&model, stage);
            let expected = expected.get_or_insert_with(|| found.clone());
            assert!(expected.iter().any(|buffer| buffer.iter().any(|&byte| byte != 0)));
            assert!(&found == expected, "{name}, {stage:?}, live on {threads} threads");
            let limit = GraphOptions { memory_limit: Some(least(&model, stage)), ..GraphOptions::default() };
            for (way, options) in ways().into_iter().chain([("least memory", limit)]) {
                let found = compiled(&model, stage, &options);
                assert!(&found == expected, "{name}, {stage:?}, {way} on {threads} threads");
            }
        }
    }
}

#[test]
fn the_demo_model_gives_the_same_bytes_every_way() {
    check("demo", &demo);
}

#[test]
fn random_checkpoints_give_the_same_bytes_every_way() {
    for name in FIXTURES {
        check(name, &|device| fixture(device, name));
    }
}

fn greedy(count: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(count), ignore_eos: true, ..GenerateOptions::default() }
}

/// Through sessions, that is with chains of steps submitted ahead: the same logits to the bit, the same tokens.
#[test]
fn sessions_give_the_same_every_way() {
    let wild =
        Sampling { temperature: 1.3, top_p: 0.9, repetition_penalty: 1.2, seed: 3, ..Sampling::default() };
    let mut expected = None;
    for threads in THREADS {
        let model = demo(&device(threads));
        for (way, graph) in ways() {
            let mut session = model.session_with(SessionOptions { graph }).unwrap();
            let rows: Vec<u32> = logits(&mut session, &PROMPT).unwrap().iter().map(|x| x.to_bits()).collect();
            session.truncate(0);
            let options = GenerateOptions { sampling: wild.clone(), ..greedy(40) };
            let tokens =
                session.generate(&PROMPT, &options, &mut |_| ControlFlow::Continue(())).unwrap().tokens;
            let expected = expected.get_or_insert_with(|| (rows.clone(), tokens.clone()));
            assert!((&rows, &tokens) == (&expected.0, &expected.1), "{way} on {threads} threads");
        }
    }
}

/// A profile is of the same generation: the same tokens, the same context behind it.
#[test]
fn a_profiled_generation_is_the_same() {
    let device = device(2);
    let models = [demo(&device), fixture(&device, FIXTURES[2])];
    for model in models {
        let prompt: Vec<u32> = (0..300).map(|i| PROMPT[i % PROMPT.len()] + i as u32 / 40).collect();
        for (prompt, steps) in [(&prompt[..5], 12), (&prompt[..], 6), (&prompt[..1], 0)] {
            let mut plain = model.session().unwrap();
            let expected =
                plain.generate(prompt, &greedy(steps + 1), &mut |_| ControlFlow::Continue(())).unwrap();
            for (way, graph) in ways() {
                let mut session = model.session_with(SessionOptions { graph }).unwrap();
                let profile = session.profile(prompt, steps, &mut |_, _| ControlFlow::Continue(())).unwrap();
                assert_eq!(profile.tokens, expected.tokens, "{way}, {steps} steps");
                assert_eq!(session.tokens(), [prompt, &expected.tokens[..steps]].concat());
            }
        }
    }
}
