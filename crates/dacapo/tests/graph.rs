//! What the passes promise, one promise a test.

mod common;

use common::{MIX_MIX, PANIC, PATTERNS, SLOW, device, increment, mix, mixed};
use dacapo::{
    BackendKind, Buffer, ChunkOptions, CompiledGraph, ComputeGraph, DType, Device, DeviceOptions, Dispatch,
    Error, FaultPlan, FaultPoint, FinishOptions, FuseMatch, FusePattern, FuseReport, GraphCache,
    GraphExecutor, GraphOptions, Refusal, ScheduleOptions, Strategy,
};

const LEN: usize = 16;

fn record(device: &Device, dispatches: impl IntoIterator<Item = Dispatch>) -> ComputeGraph {
    let mut encoder = device.encoder("test").unwrap();
    encoder.start_capture().unwrap();
    dispatches.into_iter().for_each(|dispatch| encoder.dispatch(dispatch).unwrap());
    encoder.take_capture().unwrap()
}

fn shared(device: &Device, n: u32) -> Buffer {
    device.upload(&(0..LEN as u32).map(|i| n * 100 + i).collect::<Vec<_>>(), &[LEN]).unwrap()
}

fn transient(device: &Device) -> Buffer {
    device.transient(DType::U32, &[LEN]).unwrap()
}

/// Runs the graph as recorded and fused, on the same buffers with the same contents, and compares `outputs`.
fn fuse_and_compare(device: &Device, graph: &ComputeGraph, outputs: &[&Buffer]) -> FuseReport {
    let before: Vec<Vec<u32>> = outputs.iter().map(|x| x.to_vec().unwrap()).collect();
    let run = |fuse: &'static [FusePattern]| {
        outputs.iter().zip(&before).for_each(|(x, old)| x.copy_from(old).unwrap());
        let options = GraphOptions { fuse, ..GraphOptions::default() };
        let compiled = graph.compile(device, "compare", &options).unwrap();
        compiled.replay().unwrap().wait().unwrap();
        outputs.iter().map(|x| x.to_vec::<u32>().unwrap()).collect::<Vec<_>>()
    };
    let plain = run(&[]);
    assert_eq!(run(&PATTERNS), plain);
    let (fused, report) = graph.fuse(device, &PATTERNS);
    assert_eq!((report.dispatches_before, report.dispatches), (graph.len(), fused.len()));
    report
}

fn names(report: &FuseReport) -> Vec<&str> {
    report.fused.iter().map(|fused| fused.pattern).collect()
}

#[test]
fn a_chain_over_a_transient_value_becomes_one_dispatch() {
    let device = device(2);
    let (a, y, t) = (shared(&device, 1), shared(&device, 2), transient(&device));
    let graph = record(&device, [mixed(&a, &a, &t), mixed(&t, &a, &y), increment(&y, 5)]);
    let report = fuse_and_compare(&device, &graph, &[&a, &y]);
    // "mix, increment" comes first in the table and takes the last two; the rest is no chain of two mixes then.
    assert_eq!((names(&report), report.dispatches), (vec!["mix, increment"], 2));
    let graph = record(&device, [mixed(&a, &a, &t), mixed(&t, &a, &y)]);
    let report = fuse_and_compare(&device, &graph, &[&a, &y]);
    assert_eq!((names(&report), report.dispatches), (vec!["mix of mix"], 1));
    assert_eq!((report.fused[0].nodes.clone(), report.fused[0].kernel), (vec![0, 1], MIX_MIX.name));
}

#[test]
fn dispatches_that_share_their_inputs_become_one() {
    let device = device(2);
    let [a, b, y, z] = [1, 2, 3, 4].map(|n| shared(&device, n));
    let graph = record(&device, [mixed(&a, &b, &y), increment(&z, 1), mixed(&b, &a, &z)]);
    let report = fuse_and_compare(&device, &graph, &[&a, &b, &y, &z]);
    assert_eq!((names(&report), report.dispatches), (vec!["mix both"], 2));
}

/// Fuses and expects one refusal of the pattern "mix of mix".
fn refusal(device: &Device, graph: &ComputeGraph, outputs: &[&Buffer]) -> Refusal {
    let report = fuse_and_compare(device, graph, outputs);
    assert!(report.fused.is_empty(), "{:?}", report.fused);
    let mut refused = report.refused.into_iter().filter(|refused| refused.pattern == "mix of mix");
    let first = refused.next().expect("a refusal");
    assert!(refused.next().is_none());
    first.why
}

#[test]
fn a_fusion_that_somebody_could_notice_is_refused() {
    let device = device(2);
    let [a, b, y, z] = [1, 2, 3, 4].map(|n| shared(&device, n));
    let t = transient(&device);
    let outputs = [&a, &b, &y, &z];
    let visible = record(&device, [mixed(&a, &a, &z), mixed(&z, &b, &y)]);
    assert!(matches!(refusal(&device, &visible, &outputs), Refusal::Visible { writer: 0 }));
    let read = record(&device, [mixed(&a, &a, &t), mixed(&t, &b, &y), mixed(&t, &a, &z)]);
    let report = fuse_and_compare(&device, &read, &outputs);
    assert!(report.fused.is_empty());
    assert!(matches!(report.refused[0].why, Refusal::OtherReader { reader: 2 }));
    let (low, half) = (t.slice_view(0, &[LEN / 2]).unwrap(), y.slice_view(0, &[LEN / 2]).unwrap());
    let part = record(&device, [mixed(&a, &a, &t), mixed(&low, &b, &half)]);
    assert!(matches!(refusal(&device, &part, &outputs), Refusal::Mismatch { reader: 1 }));
    // The dispatch between reads `y` before the last writes it, and writes `a` after the first read it.
    let between = record(&device, [mixed(&a, &a, &t), mixed(&y, &y, &a), mixed(&t, &b, &y)]);
    assert!(matches!(refusal(&device, &between, &outputs), Refusal::Between { node: 1 }));
}

#[test]
fn a_fusion_moves_forward_or_back_if_that_is_harmless() {
    let device = device(2);
    let [a, b, y, z] = [1, 2, 3, 4].map(|n| shared(&device, n));
    let t = transient(&device);
    for between in [increment(&a, 1), mixed(&y, &y, &z)] {
        let graph = record(&device, [mixed(&a, &a, &t), between, mixed(&t, &b, &y)]);
        let report = fuse_and_compare(&device, &graph, &[&a, &b, &y, &z]);
        assert_eq!((names(&report), report.dispatches), (vec!["mix of mix"], 2));
    }
}

#[test]
fn a_barrier_keeps_a_chain_apart() {
    let device = device(1);
    let (a, y, t) = (shared(&device, 1), shared(&device, 2), transient(&device));
    let mut encoder = device.encoder("test").unwrap();
    encoder.start_capture().unwrap();
    encoder.dispatch(mixed(&a, &a, &t)).unwrap();
    encoder.memory_barrier();
    encoder.dispatch(mixed(&t, &a, &y)).unwrap();
    let graph = encoder.take_capture().unwrap();
    assert!(matches!(refusal(&device, &graph, &[&a, &y]), Refusal::Barrier));
}

#[test]
fn a_replacement_that_touches_other_memory_is_refused() {
    fn with(found: &FuseMatch<'_>, c: Buffer, y: Buffer) -> Option<Dispatch> {
        let (a, b) = (found.buffer(0, 0)?, found.buffer(0, 1)?);
        Some(Dispatch::new(&MIX_MIX).buffer(&a).buffer(&b).buffer(&c).buffer(&y))
    }
    static WRONG: [FusePattern; 3] = [
        // Forgets to read `c`.
        FusePattern { build: |found| with(found, found.buffer(0, 0)?, found.buffer(1, 2)?), ..PATTERNS[1] },
        // Writes only half of `y`: the rest would vanish, and it is not transient.
        FusePattern {
            build: |found| with(found, found.buffer(1, 1)?, found.buffer(1, 2)?.slice_view(0, &[8]).ok()?),
            ..PATTERNS[1]
        },
        // Reads `c` as another type.
        FusePattern {
            build: |found| {
                let c = found.buffer(1, 1)?.reinterpret(0, DType::F32, &[LEN]).ok()?;
                with(found, c, found.buffer(1, 2)?)
            },
            ..PATTERNS[1]
        },
    ];
    let device = device(1);
    let [a, b, c, y] = [1, 2, 3, 4].map(|n| shared(&device, n));
    let t = transient(&device);
    let graph = record(&device, [mixed(&a, &b, &t), mixed(&t, &c, &y)]);
    let (same, report) = graph.fuse(&device, &WRONG);
    assert_eq!((same.len(), report.fused.len()), (2, 0));
    let why: Vec<&Refusal> = report.refused.iter().map(|refused| &refused.why).collect();
    let expected = [&Refusal::OtherMemory, &Refusal::Visible { writer: 1 }, &Refusal::OtherMemory];
    assert_eq!(format!("{why:?}"), format!("{expected:?}"));
}

/// A device that lacks the first replacement's kernel: that fusion is not made, the others are, and the result is the same.
#[test]
fn a_fusion_that_the_device_lacks_the_kernel_for_is_refused() {
    let fault = FaultPlan { at: FaultPoint::Support, nth: 1 };
    let device = Device::open(DeviceOptions { fault: Some(fault), ..DeviceOptions::default() }).unwrap();
    let (a, y, t) = (shared(&device, 1), shared(&device, 2), transient(&device));
    let graph = record(&device, [mixed(&a, &a, &t), mixed(&t, &a, &y)]);
    let (same, report) = graph.fuse(&device, &PATTERNS);
    assert_eq!((same.len(), report.fused.len()), (2, 0));
    let why = &report.refused[0].why;
    assert!(matches!(why, Refusal::Unsupported { kernel } if *kernel == MIX_MIX.name), "{why}");
    assert_eq!(why.to_string(), format!("the device has no kernel {}", MIX_MIX.name));
    // Asked again, it has the kernel.
    assert_eq!(names(&fuse_and_compare(&device, &graph, &[&a, &y])), ["mix of mix"]);
    assert!(device.supports(&MIX_MIX));
}

/// Chains that were recorded in turns become one dispatch each.
#[test]
fn chains_that_interleave_are_all_fused() {
    let device = device(2);
    let inputs: Vec<Buffer> = (0..6).map(|n| shared(&device, n)).collect();
    let outputs: Vec<Buffer> = (0..6).map(|n| shared(&device, 10 + n)).collect();
    let between: Vec<Buffer> = (0..6).map(|_| transient(&device)).collect();
    let first = std::iter::zip(&inputs, &between).map(|(a, t)| mixed(a, a, t));
    let second = std::iter::zip(&between, &outputs).map(|(t, y)| mixed(t, &inputs[0], y));
    let graph = record(&device, first.chain(second));
    let watched: Vec<&Buffer> = inputs.iter().chain(&outputs).collect();
    let report = fuse_and_compare(&device, &graph, &watched);
    assert_eq!((names(&report), report.dispatches), (vec!["mix of mix"; 6], 6));
    assert_eq!(report.fused[0].gain, PATTERNS[1].gain(BackendKind::Cpu));
}

#[test]
fn transient_memory_exists_only_inside_graphs() {
    let device = device(1);
    let (a, t) = (shared(&device, 1), transient(&device));
    assert!(t.is_transient() && t.slice_view(3, &[2]).unwrap().is_transient() && !a.is_transient());
    assert!(matches!(t.read::<u32>(), Err(Error::Transient { .. })));
    assert!(matches!(t.write::<u32>(), Err(Error::Transient { .. })));
    assert!(matches!(t.to_vec::<u32>(), Err(Error::Transient { .. })));
    assert!(matches!(t.copy_from(&[0_u32; LEN]), Err(Error::Transient { .. })));
    let mut encoder = device.encoder("live").unwrap();
    let error = encoder.dispatch(mixed(&a, &a, &t)).unwrap_err();
    assert!(error.to_string().starts_with("argument y of test_mix is transient"), "{error}");
    let graph = record(&device, [mixed(&a, &a, &t)]);
    assert!(matches!(graph.encode_sequential(&mut encoder), Err(Error::Transient { .. })));
    // The arena of a compiled graph is no way in either.
    let compiled = graph.compile(&device, "arena", &GraphOptions::default()).unwrap();
    let arena = compiled.graph().nodes()[0].dispatch().buffers().unwrap()[2].clone();
    assert!(matches!(arena.to_vec::<u32>(), Err(Error::Transient { .. })));
}

#[test]
fn reading_what_was_not_written_names_the_argument() {
    let device = device(1);
    let (a, t) = (shared(&device, 1), transient(&device));
    let low = t.slice_view(0, &[LEN / 2]).unwrap();
    let half = a.slice_view(0, &[LEN / 2]).unwrap();
    let graph = record(&device, [mixed(&half, &half, &low), mixed(&a, &t, &shared(&device, 2))]);
    let error = graph.compile(&device, "unwritten", &GraphOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Uninitialized { node: 1, kernel: "test_mix", argument: "b" }), "{error}");
    let update = record(&device, [increment(&t, 1)]);
    assert!(matches!(update.plan_memory(), Err(Error::Uninitialized { node: 0, argument: "x", .. })));
}

#[test]
fn values_that_do_not_meet_share_memory() {
    let device = device(2);
    let (a, y) = (shared(&device, 1), shared(&device, 2));
    let values: Vec<Buffer> = (0..10).map(|_| transient(&device)).collect();
    let chain = values.windows(2).map(|pair| mixed(&pair[0], &pair[0], &pair[1]));
    let ends = (mixed(&a, &a, &values[0]), mixed(&values[9], &values[9], &y));
    let graph = record(&device, [ends.0].into_iter().chain(chain).chain([ends.1]));
    let report = graph.plan_memory().unwrap().report();
    assert_eq!((report.transients, report.sum_bytes), (10, 2560));
    assert_eq!((report.peak_bytes, report.lower_bound), (512, 512), "two live at a time");
    graph.compile(&device, "chain", &GraphOptions::default()).unwrap().replay().unwrap().wait().unwrap();
    let mut expected: Vec<u32> = (0..LEN as u32).map(|i| 100 + i).collect();
    for _ in 0..11 {
        expected = (0..LEN).map(|i| mix(expected[i], expected[LEN - 1 - i])).collect();
    }
    assert_eq!(y.to_vec::<u32>().unwrap(), expected);
}

/// Many independent increments and one chain: what levels can even out.
#[test]
fn free_dispatches_fill_the_groups_evenly() {
    let device = device(2);
    let chain = shared(&device, 1);
    let free: Vec<Buffer> = (0..9).map(|n| shared(&device, n)).collect();
    let links = (0..10).map(|_| increment(&chain, 1));
    let graph = record(&device, free.iter().map(|x| increment(x, 1)).chain(links));
    let (arranged, report) = graph.reorder(&ScheduleOptions::default());
    assert_eq!(
        (report.dispatches, report.groups, report.lower_bound, report.edges.critical),
        (19, 10, 10, 9)
    );
    let sizes: Vec<usize> = arranged.groups().unwrap().iter().map(|group| group.len()).collect();
    assert!(sizes.iter().all(|&size| size <= 2), "{sizes:?}");
    assert_eq!(report.largest_group_bytes, 2 * 2 * 4 * LEN as u64);
    // Without packing, all nine would stand in the first group with the first link.
    let recorded = graph.reorder(&ScheduleOptions { strategy: Strategy::Recorded }).1;
    assert_eq!((recorded.largest_group_bytes, recorded.moved), (10 * 2 * 4 * LEN as u64, 0));
    assert!(report.moved > 0);
}

#[test]
fn chunks_keep_their_budgets() {
    let device = device(1);
    let x = shared(&device, 0);
    let graph = record(&device, (0..20).map(|_| increment(&x, 1)));
    let options = ChunkOptions { first: 2, budget: 5, cost: |_| 1 };
    let (chunks, report) = graph.chunks(&options);
    assert_eq!(chunks, [0..2, 2..7, 7..12, 12..17, 17..20]);
    assert_eq!((report.costs, report.over_budget, report.inside_groups), (vec![2, 5, 5, 5, 3], 0, 0));
    let (chunks, report) =
        graph.chunks(&ChunkOptions { cost: |node| if node.recorded() == 3 { 9 } else { 1 }, ..options });
    assert_eq!(chunks[..3], [0..2, 2..3, 3..4], "alone, because nothing else can be done");
    assert_eq!(report.over_budget, 1);
    let wide: Vec<Buffer> = (0..8).map(|n| shared(&device, n)).collect();
    let wide = record(&device, wide.iter().map(|x| increment(x, 1))).reorder(&ScheduleOptions::default()).0;
    let (chunks, report) = wide.chunks(&options);
    assert_eq!((chunks, report.inside_groups), (vec![0..2, 2..7, 7..8], 2));
    assert_eq!(ComputeGraph::new().chunks(&options).0, []);
}

const EACH: ChunkOptions = ChunkOptions { first: 1, budget: 1, cost: |_| 1 };

#[test]
fn a_failure_crosses_the_cuts() {
    let device = device(2);
    let [a, b, y] = [1, 2, 3].map(|n| shared(&device, n));
    let doom = Dispatch::new(&PANIC).buffer(&a).bytes(&3_u32);
    let graph = record(&device, [doom, mixed(&b, &b, &y)]);
    let run = graph.encode_chunks(&device, "chunks", &EACH).unwrap().0;
    assert!(matches!(run.wait(), Err(Error::KernelFailed { .. })));
    // The second submission read nothing of the first; it failed because it is part of the same run.
    assert!(matches!(y.to_vec::<u32>(), Err(Error::KernelFailed { .. })));
    device.wait_idle().unwrap();
    y.copy_from(&[0_u32; LEN]).unwrap();
    let options = GraphOptions { chunk: Some(EACH), ..GraphOptions::recorded() };
    let compiled = graph.compile(&device, "compiled", &options).unwrap();
    assert_eq!(compiled.submissions(), 2);
    let run = compiled.replay().unwrap();
    assert!(matches!(run.wait(), Err(Error::KernelFailed { .. })));
    assert!(matches!(y.to_vec::<u32>(), Err(Error::KernelFailed { .. })));
    drop(compiled.replay().unwrap());
    assert!(matches!(device.wait_idle(), Err(Error::KernelFailed { .. })), "nobody can ask any more");
    b.to_vec::<u32>().unwrap();
}

/// A graph that adds 2 to every element of `x`: turned around by way of a transient value, twice.
fn counting(device: &Device, x: &Buffer, options: &GraphOptions) -> CompiledGraph {
    let (zero, turned) = (device.alloc(DType::U32, &[LEN]).unwrap(), transient(device));
    let graph = record(device, [mixed(&zero, x, &turned), mixed(&zero, &turned, x)]);
    graph.compile(device, "counting", options).unwrap()
}

#[test]
fn a_compiled_graph_owns_what_it_touches() {
    let device = device(2);
    let x = shared(&device, 0);
    let compiled = counting(&device, &x, &GraphOptions::default());
    for _ in 0..100 {
        drop(compiled.replay().unwrap());
    }
    let expected: Vec<u32> = (0..LEN as u32).map(|i| i + 200).collect();
    assert_eq!(x.to_vec::<u32>().unwrap(), expected);
    let counted = device.counters();
    assert_eq!((counted.replays, counted.submissions, counted.dispatches), (100, 100, 2), "encoded once");
    let last = compiled.replay().unwrap();
    drop((compiled, device));
    last.wait().unwrap();
    assert_eq!(x.to_vec::<u32>().unwrap()[0], 202);
}

#[test]
fn host_and_replay_respect_each_other() {
    let device = device(2);
    let x = shared(&device, 0);
    let compiled = counting(&device, &x, &GraphOptions::default());
    let guard = x.read::<u32>().unwrap();
    assert!(matches!(compiled.replay(), Err(Error::Busy { .. })));
    drop(guard);
    let slow = record(&device, [Dispatch::new(&SLOW).buffer(&x).bytes(&20_u32)]);
    let slow = slow.compile(&device, "slow", &GraphOptions::default()).unwrap();
    drop((slow.replay().unwrap(), compiled.replay().unwrap()));
    assert_eq!(*x.read::<u32>().unwrap(), [9; LEN], "the guard waits for both");
    x.write::<u32>().unwrap().fill(1);
    compiled.replay().unwrap().wait().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [3; LEN]);
}

#[test]
fn a_failed_replay_does_not_spoil_the_graph() {
    let device = device(2);
    let (x, t) = (shared(&device, 0), transient(&device));
    let doomed = record(&device, [mixed(&x, &x, &t), Dispatch::new(&PANIC).buffer(&x).bytes(&3_u32)]);
    let doomed = doomed.compile(&device, "doomed", &GraphOptions::default()).unwrap();
    for _ in 0..3 {
        assert!(doomed.replay().unwrap().wait().is_err());
        x.copy_from(&[1_u32; LEN]).unwrap();
    }
    let compiled = counting(&device, &x, &GraphOptions::default());
    compiled.replay().unwrap().wait().unwrap();
    assert_eq!(x.to_vec::<u32>().unwrap(), [3; LEN]);
}

#[test]
fn an_empty_graph_is_no_special_case() {
    let device = device(1);
    let graph = ComputeGraph::new();
    let (arranged, report) = graph.reorder(&ScheduleOptions::default());
    assert_eq!((report.groups, report.lower_bound, arranged.groups().unwrap()), (0, 0, vec![]));
    for options in [GraphOptions::default(), GraphOptions { chunk: Some(EACH), ..GraphOptions::recorded() }] {
        graph.compile(&device, "empty", &options).unwrap().replay().unwrap().wait().unwrap();
    }
    graph.encode_chunks(&device, "empty", &EACH).unwrap().0.wait().unwrap();
}

#[test]
fn finish_runs_the_passes_that_it_is_told_to() {
    let device = device(2);
    let (a, y, z) = (shared(&device, 1), shared(&device, 2), shared(&device, 3));
    let executor = GraphExecutor::new(&device);
    let all = GraphOptions {
        fuse: &PATTERNS,
        reorder: Some(ScheduleOptions::default()),
        chunk: Some(EACH),
        timing: false,
    };
    for (graph, expected) in [
        (GraphOptions::recorded(), (3, 2, 1)),
        (GraphOptions::default(), (3, 2, 1)),
        (GraphOptions { fuse: &PATTERNS, ..GraphOptions::default() }, (2, 1, 1)),
        (all, (2, 2, 2)),
    ] {
        let mut session = executor.begin_recorded("session").unwrap();
        let t = transient(&device);
        session.dispatch(mixed(&a, &a, &t)).unwrap();
        session.dispatch(increment(&z, 1)).unwrap();
        session.dispatch(mixed(&t, &a, &y)).unwrap();
        let report = session.finish(FinishOptions { graph, ..FinishOptions::default() }).unwrap();
        let found = (report.counters.dispatches, report.groups, report.counters.submissions);
        assert_eq!(found, expected);
        assert_eq!(report.passes.fuse.is_some(), !graph.fuse.is_empty());
        assert_eq!(report.passes.schedule.is_some(), graph.reorder.is_some());
        assert_eq!(report.passes.chunk.is_some(), graph.chunk.is_some());
        let t: Vec<u32> = (0..LEN as u32).map(|i| mix(100 + i, 115 - i)).collect();
        let expected: Vec<u32> = (0..LEN).map(|i| mix(t[i], 115 - i as u32)).collect();
        assert_eq!(y.to_vec::<u32>().unwrap(), expected);
    }
    let live = executor.begin("live").unwrap();
    let options = FinishOptions { graph: GraphOptions::default(), ..FinishOptions::default() };
    assert!(matches!(live.finish(options), Err(Error::State { call: "finish", .. })));
}

#[test]
fn the_cache_is_bounded_and_forgets_the_oldest() {
    let device = device(1);
    let x = shared(&device, 0);
    let mut cache = GraphCache::new(2);
    let compile = || Ok::<_, dacapo::Error>(counting(&device, &x, &GraphOptions::default()));
    for key in [1, 2, 1, 3, 1, 2] {
        cache.get_or_compile(&key, compile).unwrap().replay().unwrap().wait().unwrap();
    }
    let stats = cache.stats();
    // 1 and 2 are compiled; 1 hits; 3 displaces 2; 1 hits; 2 displaces 3.
    assert_eq!((stats.misses, stats.hits, stats.evictions, cache.len()), (4, 2, 2, 2));
    let fails = || Err(Error::NoDevice("on purpose".into()));
    assert!(cache.get_or_compile(&9, fails).is_err());
    assert_eq!((cache.len(), cache.stats()), (2, stats));
    let held = cache.get_or_compile(&1, fails).unwrap();
    cache.clear();
    assert!(cache.is_empty());
    held.replay().unwrap().wait().unwrap();
    assert_eq!(x.to_vec::<u32>().unwrap()[0], 14);
}

#[test]
fn compiled_graphs_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<CompiledGraph>();
    check::<GraphCache<usize>>();
}
