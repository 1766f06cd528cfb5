//! Barriers, captures, graphs, failures: what an encoder promises.

mod common;

use common::{INCREMENT, MIX, PANIC, SLOW, device, increment, mix, mixed};
use dacapo::{Buffer, DType, Device, Dispatch, Error, FinishOptions, GraphExecutor, KernelArg};
use proptest::prelude::*;

#[test]
fn barriers_are_placed_where_data_flows_and_nowhere_else() {
    let device = device(2);
    let buffers: Vec<_> = (0..4).map(|_| device.alloc(DType::U32, &[8]).unwrap()).collect();
    let mut encoder = device.encoder("barriers").unwrap();
    encoder.dispatch(mixed(&buffers[0], &buffers[0], &buffers[1])).unwrap();
    encoder.dispatch(mixed(&buffers[0], &buffers[0], &buffers[2])).unwrap(); // shares only what is read
    assert_eq!((encoder.counters().barriers, encoder.counters().elided_barriers), (0, 1));
    encoder.dispatch(mixed(&buffers[1], &buffers[2], &buffers[3])).unwrap(); // reads both results
    assert_eq!(encoder.counters().barriers, 1);
    encoder.dispatch(mixed(&buffers[3], &buffers[3], &buffers[0])).unwrap(); // reads the last result
    encoder.memory_barrier();
    encoder.memory_barrier(); // nothing in between: no second one
    encoder.dispatch(mixed(&buffers[0], &buffers[0], &buffers[1])).unwrap();
    assert_eq!(encoder.counters().barriers, 3);
    encoder.commit_and_wait().unwrap();
    let total = device.counters();
    assert_eq!((total.dispatches, total.barriers, total.submissions, total.waits), (5, 3, 1, 1));
}

#[test]
fn neighbouring_views_run_together() {
    let device = device(2);
    let x = device.alloc(DType::U32, &[64]).unwrap();
    let mut encoder = device.encoder("neighbours").unwrap();
    for i in 0..8_u32 {
        encoder.dispatch(increment(&x.slice_view(8 * i as usize, &[8]).unwrap(), i)).unwrap();
    }
    assert_eq!(encoder.counters().barriers, 0);
    encoder.dispatch(increment(&x.slice_view(7, &[2]).unwrap(), 100)).unwrap();
    assert_eq!(encoder.counters().barriers, 1);
    encoder.commit_and_wait().unwrap();
    let x = x.to_vec::<u32>().unwrap();
    assert_eq!((x[6], x[7], x[8], x[9], x[63]), (0, 100, 101, 1, 7));
}

#[test]
fn arguments_are_checked_against_the_signature() {
    let device = device(1);
    let other = common::device(1);
    let x = device.alloc(DType::U32, &[8]).unwrap();
    let foreign = other.alloc(DType::U32, &[8]).unwrap();
    let mut encoder = device.encoder("checks").unwrap();
    let mut refused = |dispatch: Dispatch| encoder.dispatch(dispatch).unwrap_err();
    assert!(matches!(refused(Dispatch::new(&MIX).buffer(&x)), Error::Argument { argument: "arguments", .. }));
    assert!(matches!(refused(increment(&x, 1).buffer(&x)), Error::Argument { argument: "arguments", .. }));
    assert!(matches!(refused(increment(&x, 1).bytes(&1_u32)), Error::Argument { argument: "bytes", .. }));
    assert!(matches!(refused(increment(&foreign, 1)), Error::WrongDevice { .. }));
    assert!(matches!(refused(mixed(&x, &x, &x)), Error::Aliased { first: "a", second: "y", .. }));
    let (low, high) = (x.slice_view(0, &[5]).unwrap(), x.slice_view(4, &[4]).unwrap());
    assert!(matches!(refused(mixed(&high, &high, &low)), Error::Aliased { .. }));
    let offset =
        |bytes| Dispatch::new(&INCREMENT).arg(KernelArg::BufferWithOffset(x.clone(), bytes)).bytes(&1_u32);
    assert!(matches!(refused(offset(6)), Error::Argument { argument: "byte offset", .. }));
    assert!(matches!(refused(offset(36)), Error::Argument { argument: "byte offset", .. }));
    encoder.dispatch(offset(24)).unwrap();
    encoder.commit_and_wait().unwrap();
    assert_eq!(x.to_vec::<u32>().unwrap(), [0, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn capture_has_clear_states() {
    let device = device(1);
    let x = device.alloc(DType::U32, &[8]).unwrap();
    let mut encoder = device.encoder("capture").unwrap();
    assert!(matches!(encoder.take_capture(), Err(Error::State { call: "take_capture", .. })));
    encoder.start_capture().unwrap();
    assert!(matches!(encoder.start_capture(), Err(Error::State { call: "start_capture", .. })));
    encoder.dispatch(increment(&x, 1)).unwrap();
    encoder.memory_barrier();
    encoder.dispatch(increment(&x, 2)).unwrap();
    let graph = encoder.take_capture().unwrap();
    assert_eq!(encoder.counters().dispatches, 0, "nothing was encoded");
    assert_eq!(
        (graph.len(), graph.nodes()[0].barrier_before(), graph.nodes()[1].barrier_before()),
        (2, false, true)
    );
    assert_eq!(graph.nodes()[0].ranges()[0].end, 32);
    encoder.start_capture().unwrap();
    assert!(matches!(graph.encode_sequential(&mut encoder), Err(Error::State { .. })));
    assert!(matches!(encoder.commit(), Err(Error::State { call: "commit", .. })));
    assert_eq!(x.to_vec::<u32>().unwrap(), [0; 8]);
}

#[test]
fn a_graph_runs_as_often_as_it_is_encoded() {
    let device = device(2);
    let x = device.alloc(DType::U32, &[100]).unwrap();
    let executor = GraphExecutor::new(&device);
    let mut session = executor.begin_recorded("graph").unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    session.dispatch(increment(&x, 10)).unwrap();
    let graph = session.into_graph().unwrap();
    for _ in 0..5 {
        let mut encoder = device.encoder("again").unwrap();
        graph.encode_sequential(&mut encoder).unwrap();
        encoder.commit_and_wait().unwrap();
    }
    assert_eq!(x.to_vec::<u32>().unwrap(), [55; 100]);
    let mut session = executor.begin_recorded("finished").unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    let report = session.finish(FinishOptions::default()).unwrap();
    assert_eq!((report.counters.dispatches, report.groups), (2, 2));
    assert!(report.submission.is_done());
    assert!(matches!(executor.begin("live").unwrap().into_graph(), Err(Error::State { .. })));
}

#[test]
fn a_panic_fails_its_submission_and_nothing_else() {
    for threads in [1, 2, 5] {
        let device = device(threads);
        let x = device.alloc(DType::U32, &[64]).unwrap();
        let y = device.alloc(DType::U32, &[64]).unwrap();
        let mut encoder = device.encoder("doomed").unwrap();
        encoder.dispatch(Dispatch::new(&PANIC).buffer(&x).bytes(&33_u32)).unwrap();
        encoder.dispatch(mixed(&x, &x, &y)).unwrap();
        let submission = encoder.commit().unwrap();
        let first = submission.wait().unwrap_err();
        assert_eq!(first.to_string(), r#"kernel test_panic of "doomed" failed: told to fail at 33"#);
        assert_eq!(submission.wait().unwrap_err().to_string(), first.to_string(), "waiting twice");
        assert!(matches!(x.read::<u32>(), Err(Error::KernelFailed { .. })), "what it wrote is no result");
        x.copy_from(&[1_u32; 64]).unwrap();
        let mut encoder = device.encoder("after").unwrap();
        encoder.dispatch(increment(&x, 1)).unwrap();
        encoder.commit_and_wait().unwrap();
        assert_eq!(x.to_vec::<u32>().unwrap(), [2; 64]);
    }
}

#[test]
fn a_failure_that_nobody_waited_for_reaches_the_next_call() {
    let device = device(2);
    let x = device.alloc(DType::U32, &[8]).unwrap();
    let mut encoder = device.encoder("dropped").unwrap();
    encoder.dispatch(Dispatch::new(&PANIC).buffer(&x).bytes(&0_u32)).unwrap();
    drop(encoder.commit().unwrap());
    assert!(matches!(device.wait_idle(), Err(Error::KernelFailed { .. })));
    device.wait_idle().unwrap();
    assert!(device.encoder("reported once").is_ok());
}

#[test]
fn submissions_run_in_order_and_survive_their_buffers() {
    let device = device(3);
    let x = device.alloc(DType::U32, &[16]).unwrap();
    let y = device.alloc(DType::U32, &[16]).unwrap();
    let mut encoder = device.encoder("slow").unwrap();
    encoder.dispatch(Dispatch::new(&SLOW).buffer(&x).bytes(&20_u32)).unwrap();
    let slow = encoder.commit().unwrap();
    let mut encoder = device.encoder("after").unwrap();
    encoder.dispatch(mixed(&x, &x, &y)).unwrap();
    let after = encoder.commit().unwrap();
    drop(x);
    after.wait().unwrap();
    assert!(slow.is_done());
    assert_eq!(y.to_vec::<u32>().unwrap(), [mix(7, 7); 16]);
}

#[test]
fn a_device_can_be_dropped_with_work_in_flight() {
    let device = device(2);
    let x = device.alloc(DType::U32, &[16]).unwrap();
    let mut encoder = device.encoder("slow").unwrap();
    encoder.dispatch(Dispatch::new(&SLOW).buffer(&x).bytes(&20_u32)).unwrap();
    let submission = encoder.commit().unwrap();
    drop(device);
    submission.wait().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [7; 16]);
}

#[test]
fn uncommitted_work_is_discarded_and_counted() {
    let device = device(1);
    let x = device.alloc(DType::U32, &[16]).unwrap();
    let mut encoder = device.encoder("forgotten").unwrap();
    encoder.dispatch(increment(&x, 1)).unwrap();
    drop(encoder);
    assert_eq!((device.counters().discarded, device.counters().dispatches), (1, 0));
    assert_eq!(*x.read::<u32>().unwrap(), [0; 16]);
}

#[test]
fn threads_share_a_device_and_its_kernels() {
    let device = device(2);
    std::thread::scope(|scope| {
        for worker in 0..4_u32 {
            let device = &device;
            scope.spawn(move || {
                let x = device.alloc(DType::U32, &[32]).unwrap();
                for _ in 0..50 {
                    let mut encoder = device.encoder("shared").unwrap();
                    encoder.dispatch(increment(&x, worker)).unwrap();
                    encoder.commit_and_wait().unwrap();
                }
                assert_eq!(x.to_vec::<u32>().unwrap(), [50 * worker; 32]);
            });
        }
    });
    assert_eq!(device.registry().len(), 1);
    assert!(device.registry().contains("test_increment"));
    assert_eq!(device.counters().submissions, 200);
}

#[test]
fn handles_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Device>();
    check::<Buffer>();
    check::<dacapo::Submission>();
    check::<dacapo::ComputeGraph>();
    fn sendable<T: Send>() {}
    sendable::<dacapo::CommandEncoder>();
}

/// One step of a random program: three views into a common arena.
#[derive(Debug, Clone)]
struct Step {
    a: usize,
    b: usize,
    y: usize,
    len: usize,
    barrier: bool,
}

const ARENA: usize = 96;

fn any_step() -> impl Strategy<Value = Step> {
    (1..24_usize).prop_flat_map(|len| {
        let start = 0..ARENA - len;
        (start.clone(), start.clone(), start, prop::bool::weighted(0.1))
            .prop_map(move |(a, b, y, barrier)| Step { a, b, y, len, barrier })
    })
}

/// The program's meaning: one step after another on a plain vector. Steps that read what they write are left out.
fn reference(steps: &[Step]) -> (Vec<u32>, Vec<&Step>) {
    let mut arena: Vec<u32> = (0..ARENA as u32).collect();
    let apart = |x: usize, s: &Step| x + s.len <= s.y || s.y + s.len <= x;
    let valid: Vec<&Step> = steps.iter().filter(|s| apart(s.a, s) && apart(s.b, s)).collect();
    for s in &valid {
        for i in 0..s.len {
            arena[s.y + i] = mix(arena[s.a + i], arena[s.b + s.len - 1 - i]);
        }
    }
    (arena, valid)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Concurrent execution with the engine's barriers, live and recorded, gives the bytes of sequential execution.
    #[test]
    fn random_programs_mean_what_they_say(steps in prop::collection::vec(any_step(), 1..60), threads in 1..4_usize) {
        let device = device(threads);
        let (expected, valid) = reference(&steps);
        for recorded in [false, true] {
            let arena = device.upload(&(0..ARENA as u32).collect::<Vec<_>>(), &[ARENA]).unwrap();
            let executor = GraphExecutor::new(&device);
            let mut session =
                if recorded { executor.begin_recorded("random") } else { executor.begin("random") }.unwrap();
            for s in &valid {
                if s.barrier {
                    session.memory_barrier();
                }
                let view = |start| arena.slice_view(start, &[s.len]).unwrap();
                session.dispatch(mixed(&view(s.a), &view(s.b), &view(s.y))).unwrap();
            }
            session.finish(FinishOptions::default()).unwrap();
            prop_assert_eq!(arena.to_vec::<u32>().unwrap(), expected.clone());
        }
    }
}
