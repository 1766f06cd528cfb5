//! Times of compiled graphs: what they are about, and that they are in order. Never how long anything takes.

mod common;

use std::time::Duration;

use common::{PANIC, device, increment, mixed};
use dacapo::{
    Buffer, ChunkOptions, ComputeGraph, CostModel, DType, Device, Dispatch, Error, FinishOptions,
    GraphExecutor, GraphOptions, ReplayTimes, Span,
};

const TIMED: fn() -> GraphOptions = || GraphOptions { timing: true, ..GraphOptions::default() };

fn record(device: &Device, dispatches: impl IntoIterator<Item = Dispatch>) -> ComputeGraph {
    let mut encoder = device.encoder("test").unwrap();
    encoder.start_capture().unwrap();
    dispatches.into_iter().for_each(|dispatch| encoder.dispatch(dispatch).unwrap());
    encoder.take_capture().unwrap()
}

fn buffers<const N: usize>(device: &Device, len: usize) -> [Buffer; N] {
    std::array::from_fn(|_| device.alloc(DType::U32, &[len]).unwrap())
}

/// Two chains side by side: two groups of two, with a third of one.
fn two_chains(device: &Device) -> (ComputeGraph, Buffer) {
    let [a, x, y, z] = buffers(device, 64);
    let graph = record(
        device,
        [mixed(&a, &a, &x), increment(&x, 1), mixed(&a, &a, &y), increment(&y, 2), mixed(&x, &y, &z)],
    );
    (graph, z)
}

/// Checks that everything happened in order and each node exactly once.
fn check(times: &ReplayTimes, nodes: usize) {
    let forward = |span: &Span| assert!(span.start <= span.end);
    [&times.submit, &times.wait].into_iter().for_each(forward);
    let mut next = 0;
    for (index, group) in times.groups.iter().enumerate() {
        forward(&group.span);
        assert_eq!((group.group, group.nodes.start), (index, next));
        assert!(!group.nodes.is_empty());
        next = group.nodes.end;
    }
    assert_eq!(next, nodes);
    for pair in times.groups.windows(2) {
        assert!(pair[0].span.end <= pair[1].span.start, "groups do not overlap");
    }
    let device = times.device().unwrap();
    assert!(times.submit.start <= device.start && device.end <= times.wait.end);
}

#[test]
fn every_replay_has_times_of_its_own() {
    for threads in [1, 3] {
        let device = device(threads);
        let (graph, z) = two_chains(&device);
        let compiled = graph.compile(&device, "timed", &TIMED()).unwrap();
        let replays: Vec<_> = (0..3).map(|_| compiled.replay_timed().unwrap()).collect();
        let times: Vec<_> = replays.iter().map(|replay| replay.times().unwrap()).collect();
        for times in &times {
            check(times, 5);
            let lengths: Vec<_> = times.groups.iter().map(|group| group.nodes.len()).collect();
            assert_eq!(lengths, [2, 2, 1]);
        }
        for pair in times.windows(2) {
            assert!(pair[0].device().unwrap().end <= pair[1].device().unwrap().start);
        }
        let result = z.to_vec::<u32>().unwrap();
        graph.compile(&device, "plain", &GraphOptions::default()).unwrap().replay().unwrap().wait().unwrap();
        assert_eq!(z.to_vec::<u32>().unwrap(), result, "timing changes no result");
        let compile = compiled.compile_times();
        assert_eq!(compile.optimize.end, compile.encode.start);
    }
}

#[test]
fn parts_and_recorded_orders_are_timed_alike() {
    let device = device(2);
    let (graph, _) = two_chains(&device);
    let each = ChunkOptions { first: 0, budget: 0, ..ChunkOptions::default() };
    for options in [
        GraphOptions { timing: true, ..GraphOptions::recorded() },
        GraphOptions { chunk: Some(each), ..TIMED() },
        GraphOptions { chunk: Some(each), timing: true, ..GraphOptions::recorded() },
    ] {
        let compiled = graph.compile(&device, "timed", &options).unwrap();
        let times = compiled.replay_timed().unwrap().times().unwrap();
        check(&times, 5);
        let submissions = times.groups.last().unwrap().submission + 1;
        assert_eq!(submissions, compiled.submissions());
        assert_eq!(times.groups.len() as u64, compiled.counters().barriers + submissions as u64);
    }
}

/// A model of the times of a graph explains as much time as they are: then budgets of time cut where the time goes.
#[test]
fn a_model_learns_from_timed_replays() {
    let device = device(2);
    let (graph, _) = two_chains(&device);
    let compiled = graph.compile(&device, "timed", &TIMED()).unwrap();
    let mut times: Vec<ReplayTimes> =
        (0..2).map(|_| compiled.replay_timed().unwrap().times().unwrap()).collect();
    // Times of our own, so that nothing depends on the machine: 10 us a dispatch, the second run slower.
    for (run, times) in times.iter_mut().enumerate() {
        for group in &mut times.groups {
            let time = Duration::from_micros(10 * (1 + run as u64) * group.nodes.len() as u64);
            group.span.end = group.span.start + time;
        }
    }
    let model = CostModel::measured(&compiled, &times).unwrap();
    let nodes = compiled.graph().nodes();
    let total: Duration = nodes.iter().map(|node| model.estimate(node)).sum();
    let expected = Duration::from_micros(5 * 20);
    assert!(total.abs_diff(expected) < Duration::from_micros(1), "{total:?}");
    let budget = Duration::from_micros(45);
    let (chunks, _) = compiled.graph().chunks(&ChunkOptions::timed(budget, budget, model));
    assert_eq!(chunks, [0..2, 2..4, 4..5]);
    let chunk = Some(ChunkOptions::timed(budget, budget, model));
    let again = graph.compile(&device, "cut", &GraphOptions { chunk, ..GraphOptions::default() }).unwrap();
    assert_eq!(again.submissions(), 3);
    assert_eq!(CostModel::measured(&compiled, &[]), None);
}

#[test]
fn a_group_without_work_has_no_time() {
    let device = device(2);
    let [x] = buffers(&device, 8);
    let [none] = buffers(&device, 0);
    let graph = record(&device, [increment(&none, 1), increment(&x, 1), increment(&x, 2)]);
    let mut encoder = device.encoder("barriers").unwrap();
    encoder.start_capture().unwrap();
    for node in graph.nodes() {
        encoder.dispatch(node.dispatch().clone()).unwrap();
        encoder.memory_barrier();
    }
    let graph = encoder.take_capture().unwrap();
    let compiled =
        graph.compile(&device, "timed", &GraphOptions { timing: true, ..GraphOptions::recorded() }).unwrap();
    let times = compiled.replay_timed().unwrap().times().unwrap();
    let groups: Vec<_> = times.groups.iter().map(|group| (group.group, group.nodes.clone())).collect();
    assert_eq!(groups, [(1, 1..2), (2, 2..3)]);
    let empty = ComputeGraph::new().compile(&device, "empty", &TIMED()).unwrap();
    assert_eq!(empty.replay_timed().unwrap().times().unwrap().device(), None);
}

#[test]
fn what_was_not_asked_for_is_not_given() {
    let device = device(2);
    let (graph, _) = two_chains(&device);
    let compiled = graph.compile(&device, "plain", &GraphOptions::default()).unwrap();
    assert!(matches!(compiled.replay_timed(), Err(Error::State { call: "replay_timed", .. })));
}

#[test]
fn a_replay_that_fails_has_no_times() {
    let device = device(2);
    let [x] = buffers(&device, 8);
    let graph = record(&device, [Dispatch::new(&PANIC).buffer(&x).bytes(&3_u32)]);
    let replay = graph.compile(&device, "fails", &TIMED()).unwrap().replay_timed().unwrap();
    assert!(matches!(replay.times(), Err(Error::KernelFailed { .. })));
}

#[test]
fn a_session_can_be_timed() {
    let device = device(2);
    let [a, x, y] = buffers(&device, 64);
    let executor = GraphExecutor::new(&device);
    let options = FinishOptions { graph: TIMED(), ..FinishOptions::default() };
    let mut session = executor.begin_recorded("session").unwrap();
    session.dispatch(mixed(&a, &a, &x)).unwrap();
    session.dispatch(mixed(&x, &a, &y)).unwrap();
    let report = session.finish(options).unwrap();
    check(&report.timed.unwrap().times().unwrap(), 2);
    assert_eq!((report.groups, report.counters.dispatches, report.counters.submissions), (2, 2, 1));
    assert!(matches!(executor.begin("live").unwrap().finish(options), Err(Error::State { .. })));
}
