//! What the passes promise, one promise a test.

mod common;

use std::time::Duration;

use common::{LEN, MIX_MIX, PANIC, PATTERNS, device, increment, mix, mixed, record, shared, transient};
use dacapo::{
    BackendKind, Buffer, CapturedNode, ChunkOptions, ComputeGraph, Cost, CostModel, DType, Device,
    DeviceOptions, Dispatch, Error, FaultPlan, FaultPoint, FinishOptions, FuseMatch, FusePattern, FuseReport,
    Gain, GraphExecutor, GraphOptions, OpKind, Refusal, ScheduleOptions, Spread, Strategy,
};

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

/// A pattern with figures is for the kinds of devices that it has them for or that borrow one, one without is for all.
#[test]
fn patterns_apply_to_the_devices_they_have_figures_for() {
    const CPU: Gain = Gain { backend: BackendKind::Cpu, figure: "some", borrowed_by: &[] };
    const VULKAN: Gain = Gain { backend: BackendKind::Vulkan, figure: "some", borrowed_by: &[] };
    let device = device(1);
    let (a, t, y) = (shared(&device, 1), transient(&device), shared(&device, 2));
    let graph = record(&device, [mixed(&a, &a, &t), mixed(&t, &a, &y)]);
    let fused = |gains: &'static [Gain]| {
        let report = graph.fuse(&device, &[FusePattern { gains, ..PATTERNS[1] }]).1;
        (report.fused.len(), report.refused.len())
    };
    assert_eq!(fused(&[]), (1, 0));
    assert_eq!(fused(&[VULKAN, CPU]), (1, 0));
    assert_eq!(fused(&[VULKAN]), (0, 0));
    const LENT: Gain = Gain { borrowed_by: &[BackendKind::Metal, BackendKind::Cpu], ..VULKAN };
    assert_eq!(fused(&[LENT]), (1, 0));
    // What was measured on the device itself comes first.
    let gain = |gains: &'static [Gain], backend| FusePattern { gains, ..PATTERNS[1] }.gain(backend);
    assert_eq!(gain(&[LENT, CPU], BackendKind::Cpu), Some(CPU));
    assert_eq!(gain(&[CPU, LENT], BackendKind::Metal), Some(LENT));
    assert_eq!(gain(&[CPU, VULKAN], BackendKind::Metal), None);
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
    let (bytes, threads) = (2 * 4 * LEN as u64, LEN as u64);
    assert_eq!(report.group_bytes, Spread { min: bytes, max: 2 * bytes, mean: 19 * bytes / 10 });
    assert_eq!(report.group_threads, Spread { min: threads, max: 2 * threads, mean: 19 * threads / 10 });
    assert_eq!((report.underfull, report.edges.sole), (10, 9));
    // Without packing, all nine would stand in the first group with the first link.
    let recorded = graph.reorder(&ScheduleOptions::from(Strategy::Recorded)).1;
    assert_eq!((recorded.group_bytes.max, recorded.moved), (10 * bytes, 0));
    assert!(report.moved > 0);
}

/// `n` words touched by a dispatch of `threads` threads on a buffer of its own.
fn sized(device: &Device, n: usize, threads: u32) -> Dispatch {
    increment(&device.alloc(DType::U32, &[n]).unwrap(), 1).grid([threads, 1, 1])
}

#[test]
fn groups_are_filled_with_threads_too() {
    let device = device(1);
    let chain = device.alloc(DType::U32, &[1000]).unwrap();
    let link = |n: usize| increment(&chain.slice_view(0, &[n]).unwrap(), 1).grid([2, 1, 1]);
    // The first link has more bytes than its group's share.
    let links: Vec<Dispatch> = [1000, 10, 10, 10].map(link).into();
    let free: Vec<Dispatch> = (0..4).map(|_| sized(&device, 625, 1000)).collect();
    let graph = record(&device, links.into_iter().chain(free));
    assert_eq!(graph.nodes().iter().map(CapturedNode::threads).sum::<u64>(), 4008);
    let [idle, busy] = [0, 1000].map(|occupancy| {
        let options = ScheduleOptions { occupancy: Some(occupancy), ..ScheduleOptions::default() };
        graph.reorder(&options).1
    });
    assert_eq!((idle.groups, busy.groups), (4, 4));
    assert_eq!(busy.group_threads, Spread { min: 1002, max: 1002, mean: 1002 });
    assert_eq!(busy.underfull, 0);
    assert_eq!((idle.group_threads.min, idle.group_threads.max), (2, 2002));
    // A kernel that was given no grid counts by what it writes.
    assert_eq!(device.info().occupancy() * 2, common::device(2).info().occupancy());
    assert_eq!(record(&device, [increment(&chain, 1)]).nodes()[0].threads(), 1000);
}

#[test]
fn a_pair_costs_what_its_absence_would_save() {
    let device = device(1);
    let [a, b, c, d] = [1, 2, 3, 4].map(|n| shared(&device, n));
    // A chain of four on `a`; beside it a chain of two on `b` that joins it before the last.
    let graph = record(
        &device,
        [increment(&a, 1), increment(&a, 1), mixed(&a, &c, &d), increment(&b, 1), mixed(&d, &b, &c)],
    );
    let order = graph.dependencies();
    assert_eq!((order.depth(), order.pairs().count()), (4, 4));
    let mut costs: Vec<_> =
        order.costs().into_iter().map(|(pair, cost)| (pair.from, pair.to, cost)).collect();
    costs.sort_unstable();
    // Without one: 1 and 3 are left, or two twos, of which one ends with the chain on `b`; or three and two.
    assert_eq!(costs, [(0, 1, 1), (1, 2, 2), (2, 4, 1)]);
    // Two longest chains side by side: no pair alone costs anything.
    let graph = record(&device, [increment(&a, 1), increment(&a, 1), increment(&b, 1), increment(&b, 1)]);
    assert!(graph.dependencies().costs().is_empty());
    assert_eq!(graph.reorder(&ScheduleOptions::default()).1.edges.sole, 0);
}

/// Two branches of wide values that meet at the end, recorded in turns.
fn two_branches(device: &Device) -> (ComputeGraph, Buffer) {
    let (a, out) = (shared(device, 1), shared(device, 2));
    let wide: Vec<Buffer> = (0..6).map(|_| device.transient(DType::U32, &[64]).unwrap()).collect();
    let ends: Vec<Buffer> = (0..6).map(|_| transient(device)).collect();
    let narrow = |x: &Buffer| x.slice_view(0, &[LEN]).unwrap();
    let long = device.upload(&(0..64).collect::<Vec<u32>>(), &[64]).unwrap();
    let mut dispatches = Vec::new();
    dispatches.extend(wide.iter().map(|x| mixed(&long, &long, x)));
    dispatches.extend(wide.iter().zip(&ends).map(|(x, end)| mixed(&narrow(x), &a, end)));
    dispatches.extend(ends.iter().map(|end| mixed(end, &a, &out)));
    (record(device, dispatches), out)
}

#[test]
fn less_memory_costs_groups_and_the_report_says_how_many() {
    let device = device(2);
    let (graph, out) = two_branches(&device);
    let run = |options: &GraphOptions| {
        out.copy_from(&[0_u32; LEN]).unwrap();
        let compiled = graph.compile(&device, "limited", options)?;
        compiled.replay()?.wait()?;
        Ok::<_, Error>((compiled.reports().clone(), out.to_vec::<u32>()?))
    };
    let (free, expected) = run(&GraphOptions::default()).unwrap();
    assert_eq!((free.memory.peak_bytes, free.memory.extra_groups), (6 * 256, 0));
    let limited = |limit| GraphOptions { memory_limit: Some(limit), ..GraphOptions::default() };
    let error = run(&limited(0)).unwrap_err();
    let Error::MemoryLimit { limit: 0, least } = error else { panic!("{error}") };
    assert_eq!(least, 512, "a wide value and its end");
    assert!(error.to_string().contains("less than 512"), "{error}");
    assert!(matches!(run(&limited(least - 1)), Err(Error::MemoryLimit { .. })));
    let mut groups = usize::MAX;
    for limit in (least..=free.memory.peak_bytes).step_by(256) {
        let (reports, found) = run(&limited(limit)).unwrap();
        assert_eq!(found, expected);
        let (memory, schedule) = (reports.memory, reports.schedule.unwrap());
        assert!(memory.peak_bytes <= limit);
        assert_eq!(schedule.groups, free.schedule.as_ref().unwrap().groups + memory.extra_groups);
        assert!(schedule.groups <= groups, "more memory, no more groups");
        groups = schedule.groups;
    }
    // The recorded order makes all wide values first: without leave to reorder, splitting groups frees little.
    let recorded = GraphOptions { memory_limit: Some(least), ..GraphOptions::recorded() };
    let Err(Error::MemoryLimit { least: recorded, .. }) = run(&recorded) else { panic!("it cannot fit") };
    let (split, found) =
        run(&GraphOptions { memory_limit: Some(recorded), ..GraphOptions::recorded() }).unwrap();
    assert!(found == expected && split.schedule.is_none() && split.memory.extra_groups > 0);
    let live = GraphExecutor::new(&device).begin("live").unwrap();
    let options = FinishOptions { graph: recorded_limit(), ..FinishOptions::default() };
    assert!(matches!(live.finish(options), Err(Error::State { call: "finish", .. })));
}

fn recorded_limit() -> GraphOptions {
    GraphOptions { memory_limit: Some(0), ..GraphOptions::recorded() }
}

#[test]
fn budgets_of_time_are_kept_by_the_model() {
    let device = device(1);
    let x = shared(&device, 0);
    let doom = || Dispatch::new(&PANIC).buffer(&x).bytes(&u32::MAX);
    let graph = record(&device, (0..40).map(|i| if i % 4 == 0 { doom() } else { increment(&x, 1) }));
    let model =
        CostModel::new(&[(OpKind::Elementwise, 10.0), (OpKind::Other, 100.0)], Duration::from_nanos(40));
    let estimate = |node: &CapturedNode| model.estimate(node);
    let bytes = 4 * LEN as u32;
    assert_eq!(estimate(&graph.nodes()[0]), Duration::from_nanos(40) + 100 * bytes * Duration::from_nanos(1));
    assert_eq!(
        estimate(&graph.nodes()[1]),
        Duration::from_nanos(40) + 2 * 10 * bytes * Duration::from_nanos(1)
    );
    let (first, budget) = (Duration::from_micros(8), Duration::from_micros(20));
    let (chunks, report) = graph.chunks(&ChunkOptions::timed(first, budget, model));
    let times: Vec<Duration> =
        chunks.iter().map(|chunk| graph.nodes()[chunk.clone()].iter().map(estimate).sum()).collect();
    assert!(times[0] <= first && times.iter().all(|&time| time <= budget) && times.len() > 2, "{times:?}");
    assert_eq!(report.costs, times.iter().map(|time| time.as_nanos() as u64).collect::<Vec<_>>());
    // A kind that the model has never seen costs as much as the dearest.
    let unseen = CostModel::new(&[(OpKind::Other, 100.0)], Duration::ZERO);
    assert_eq!(unseen.estimate(&graph.nodes()[1]), 100 * 2 * bytes * Duration::from_nanos(1));
}

#[test]
fn chunks_keep_their_budgets() {
    let device = device(1);
    let x = shared(&device, 0);
    let graph = record(&device, (0..20).map(|_| increment(&x, 1)));
    let options = ChunkOptions { first: 2, budget: 5, cost: Cost::Of(|_| 1) };
    let (chunks, report) = graph.chunks(&options);
    assert_eq!(chunks, [0..2, 2..7, 7..12, 12..17, 17..20]);
    assert_eq!((report.costs, report.over_budget, report.inside_groups), (vec![2, 5, 5, 5, 3], 0, 0));
    let (chunks, report) = graph
        .chunks(&ChunkOptions { cost: Cost::Of(|node| if node.recorded() == 3 { 9 } else { 1 }), ..options });
    assert_eq!(chunks[..3], [0..2, 2..3, 3..4], "alone, because nothing else can be done");
    assert_eq!(report.over_budget, 1);
    let wide: Vec<Buffer> = (0..8).map(|n| shared(&device, n)).collect();
    let wide = record(&device, wide.iter().map(|x| increment(x, 1))).reorder(&ScheduleOptions::default()).0;
    let (chunks, report) = wide.chunks(&options);
    assert_eq!((chunks, report.inside_groups), (vec![0..2, 2..7, 7..8], 2));
    assert_eq!(ComputeGraph::new().chunks(&options).0, []);
}

const EACH: ChunkOptions = ChunkOptions { first: 1, budget: 1, cost: Cost::Of(|_| 1) };

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
        ..GraphOptions::recorded()
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
