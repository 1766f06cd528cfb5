//! Staged sessions: every transition, fences, failures, threads.

mod common;

use common::{SLOW, crash, device, increment, mixed};
use dacapo::{
    Buffer, ChunkOptions, CompiledGraph, Cost, DType, Device, DeviceOptions, Dispatch, EncoderSession, Error,
    FaultPlan, FaultPoint, GraphExecutor, GraphOptions, ResidencySet, SessionState, SharedEvent, Submission,
};

const STATES: [SessionState; 5] = [
    SessionState::Ready,
    SessionState::Open,
    SessionState::Committed,
    SessionState::Fenced,
    SessionState::Failed,
];

fn buffer(device: &Device) -> Buffer {
    device.alloc(DType::U32, &[8]).unwrap()
}

/// A session in this state, by the shortest way.
fn session_in(device: &Device, state: SessionState) -> EncoderSession {
    let mut session = device.session("table");
    if state != SessionState::Ready {
        session.begin_stage("first").unwrap();
    }
    match state {
        SessionState::Ready | SessionState::Open => {}
        SessionState::Committed => drop(session.commit_stage().unwrap()),
        SessionState::Fenced => drop(session.fence_stage().unwrap()),
        SessionState::Failed => {
            session.dispatch(crash(&buffer(device))).unwrap();
            session.commit_and_wait().unwrap_err();
        }
    }
    assert_eq!(session.state(), state);
    session
}

type Call = fn(&mut EncoderSession) -> Result<(), Error>;

/// The calls of the table in the documentation, and the state after each in the order of [`STATES`]; `None` where
/// it is refused.
const TABLE: [(&str, Call, [Option<SessionState>; 5]); 6] = {
    use SessionState::{Committed, Fenced, Open, Ready};
    const READY: Option<SessionState> = Some(Ready);
    [
        ("begin_stage", |s| s.begin_stage("next"), [Some(Open), None, None, None, None]),
        ("commit_stage", |s| s.commit_stage().map(drop), [None, Some(Committed), None, None, None]),
        ("fence_stage", |s| s.fence_stage().map(drop), [None, Some(Fenced), None, None, None]),
        ("commit_and_wait", EncoderSession::commit_and_wait, [None, READY, READY, READY, None]),
        ("abandon_stage", EncoderSession::abandon_stage, [None, READY, None, None, None]),
        ("reset_for_next_stage", EncoderSession::reset_for_next_stage, [None, None, READY, READY, READY]),
    ]
};

#[test]
fn every_transition_of_the_table() {
    let device = device(2);
    for (name, call, after) in TABLE {
        for (state, after) in STATES.into_iter().zip(after) {
            let mut session = session_in(&device, state);
            let before = (session.fence_value(), session.wait_count(), session.is_fence_pending());
            let result = call(&mut session);
            match after {
                Some(after) => {
                    result.unwrap_or_else(|e| panic!("{name} in {state:?}: {e}"));
                    assert_eq!(session.state(), after, "{name} in {state:?}");
                }
                None => {
                    let error = result.expect_err(name);
                    // A failed session gives its failure again.
                    let again = name == "commit_and_wait" && state == SessionState::Failed;
                    match error {
                        Error::State { call, .. } => assert!(call == name && !again, "{name} in {state:?}"),
                        Error::KernelFailed { .. } => assert!(again, "{name} in {state:?}"),
                        error => panic!("{name} in {state:?}: {error}"),
                    }
                    assert_eq!(session.state(), state, "{name} in {state:?} changes nothing");
                    let now = (session.fence_value(), session.wait_count(), session.is_fence_pending());
                    assert_eq!(now, before);
                }
            }
        }
    }
}

#[test]
fn a_closed_session_encodes_nothing() {
    let device = device(1);
    let (x, event) = (buffer(&device), device.event("own").unwrap());
    let graph = compiled(&device, "refused", [increment(&x, 1)], None);
    for state in STATES.into_iter().filter(|&state| state != SessionState::Open) {
        let mut session = session_in(&device, state);
        assert!(matches!(session.dispatch(increment(&x, 1)), Err(Error::State { call: "dispatch", .. })));
        assert!(matches!(session.start_capture(), Err(Error::State { call: "start_capture", .. })));
        assert!(matches!(session.wait_event(&event, 1), Err(Error::State { call: "wait_event", .. })));
        assert!(matches!(session.replay(&graph), Err(Error::State { call: "replay", .. })));
        session.memory_barrier();
        assert_eq!(session.counters().barriers, 0);
    }
}

#[test]
fn stages_are_fenced_and_counted() {
    let device = device(2);
    let x = buffer(&device);
    let mut session = device.session("staged");
    assert!(!session.has_event() && session.is_drained());
    for stage in 1..=3_u64 {
        session.begin_stage("add").unwrap();
        assert!(!session.is_drained());
        session.dispatch(increment(&x, 1)).unwrap();
        session.fence_stage().unwrap();
        assert_eq!(
            (session.fence_value(), session.wait_value(), session.wait_count()),
            (stage, stage - 1, stage - 1)
        );
        assert!(session.is_fence_pending() && session.has_event());
        session.reset_for_next_stage().unwrap();
    }
    session.begin_stage("discarded").unwrap();
    session.abandon_stage().unwrap();
    assert!(session.is_fence_pending(), "nobody waits for it yet");
    session.begin_stage("last").unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    session.commit_and_wait().unwrap();
    assert!(session.is_drained() && !session.is_fence_pending());
    assert_eq!((session.fence_value(), session.wait_value(), session.wait_count()), (3, 3, 3));
    assert_eq!(session.event().map(SharedEvent::value), Some(3));
    assert_eq!(*x.read::<u32>().unwrap(), [4; 8]);
    assert!(matches!(session.commit_and_wait(), Err(Error::State { .. })), "nothing is left to wait for");
}

#[test]
fn waiting_after_an_asynchronous_commit_waits() {
    for reset in [false, true] {
        let device = device(2);
        let x = buffer(&device);
        let mut session = device.session("async");
        session.begin_stage("slow").unwrap();
        session.dispatch(Dispatch::new(&SLOW).buffer(&x).bytes(&20_u32)).unwrap();
        let submission = session.commit_stage().unwrap();
        if reset {
            session.reset_for_next_stage().unwrap();
        }
        session.commit_and_wait().unwrap();
        assert!(submission.is_done() && session.is_drained());
        assert_eq!(session.state(), SessionState::Ready);
    }
}

#[test]
fn a_failed_stage_poisons_those_that_wait_for_it() {
    let device = device(2);
    let [x, y, z] = [(); 3].map(|()| buffer(&device));
    let mut session = device.session("doomed");
    session.begin_stage("fails").unwrap();
    session.dispatch(crash(&x)).unwrap();
    let fails = session.fence_stage().unwrap();
    session.reset_for_next_stage().unwrap();
    session.begin_stage("waits").unwrap();
    session.dispatch(increment(&y, 1)).unwrap();
    let waits = session.fence_stage().unwrap();
    session.reset_for_next_stage().unwrap();
    let mut other = device.session("bystander");
    other.begin_stage("runs").unwrap();
    other.dispatch(increment(&z, 1)).unwrap();
    other.commit_and_wait().unwrap();

    let failure = session.commit_and_wait().unwrap_err();
    assert_eq!(failure.to_string(), r#"kernel test_crash of "doomed/fails" failed: told to crash"#);
    assert!(fails.wait().is_err());
    assert!(matches!(waits.wait(), Err(Error::Poisoned { by, .. }) if by == r#"submission "doomed/fails""#));
    assert_eq!(session.commit_and_wait().unwrap_err().to_string(), failure.to_string(), "the same again");
    session.reset_for_next_stage().unwrap();
    assert_eq!((session.fence_value(), session.has_event(), session.is_fence_pending()), (0, false, false));
    y.copy_from(&[0_u32; 8]).unwrap();
    session.begin_stage("afresh").unwrap();
    session.dispatch(increment(&y, 1)).unwrap();
    session.fence_stage().unwrap();
    session.commit_and_wait().unwrap();
    assert_eq!((*y.read::<u32>().unwrap()).to_vec(), [1; 8]);
    assert_eq!(*z.read::<u32>().unwrap(), [1; 8]);
    device.wait_idle().unwrap();
}

#[test]
fn a_stage_that_captures_cannot_be_committed() {
    let device = device(1);
    let x = buffer(&device);
    let mut session = device.session("captures");
    session.begin_stage("records").unwrap();
    session.start_capture().unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    let refused = |result: Result<(), Error>, name| match result {
        Err(Error::State { call, state: "while capturing" }) => assert_eq!(call, name),
        other => panic!("{name}: {other:?}"),
    };
    refused(session.commit_stage().map(drop), "commit_stage");
    refused(session.fence_stage().map(drop), "fence_stage");
    refused(session.commit_and_wait(), "commit_and_wait");
    assert!(session.state() == SessionState::Open && !session.has_event());
    let graph = session.take_capture().unwrap();
    for _ in 0..3 {
        graph.encode_sequential(&mut session).unwrap();
    }
    session.commit_and_wait().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [3; 8]);
}

#[test]
fn a_commit_that_is_refused_fails_the_session_until_reset() {
    let device = device(1);
    let x = buffer(&device);
    let mut session = device.session("busy");
    session.begin_stage("blocked").unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    let guard = x.read::<u32>().unwrap();
    assert!(matches!(session.fence_stage(), Err(Error::Busy { .. })));
    assert_eq!(session.state(), SessionState::Failed);
    assert!(matches!(session.commit_and_wait(), Err(Error::Busy { .. })));
    drop(guard);
    session.reset_for_next_stage().unwrap();
    assert!(!session.is_fence_pending(), "the fence was never promised");
    session.begin_stage("again").unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    session.commit_and_wait().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [1; 8]);
}

#[test]
fn dropping_a_session_discards_its_open_stage_alone() {
    let device = device(2);
    let [x, y] = [(); 2].map(|()| buffer(&device));
    let mut session = device.session("dropped");
    session.begin_stage("committed").unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    session.fence_stage().unwrap();
    session.reset_for_next_stage().unwrap();
    session.begin_stage("open").unwrap();
    session.dispatch(increment(&x, 1)).unwrap();
    drop(session);
    assert_eq!((*x.read::<u32>().unwrap()).to_vec(), [1; 8]);
    assert_eq!(device.counters().discarded, 1);
    let mut session = device.session("dropped");
    session.begin_stage("fails").unwrap();
    session.dispatch(crash(&y)).unwrap();
    session.commit_stage().unwrap();
    drop(session);
    assert!(matches!(device.wait_idle(), Err(Error::KernelFailed { .. })), "the next call tells");
}

#[test]
fn an_encoder_of_the_callers_own_still_obeys_the_fence() {
    let device = device(2);
    let [x, y] = [(); 2].map(|()| buffer(&device));
    let mut session = device.session("swapped");
    session.begin_stage("fails").unwrap();
    session.dispatch(crash(&x)).unwrap();
    session.fence_stage().unwrap();
    session.reset_for_next_stage().unwrap();
    session.begin_stage("swapped").unwrap();
    let mut own = device.encoder("own").unwrap();
    own.dispatch(increment(&y, 1)).unwrap();
    std::mem::swap(&mut *session, &mut own);
    let stage = session.commit_stage().unwrap();
    assert!(matches!(stage.wait(), Err(Error::Poisoned { .. })));
    session.reset_for_next_stage().unwrap();
    session.begin_stage("foreign").unwrap();
    let mut foreign = common::device(1).encoder("foreign").unwrap();
    std::mem::swap(&mut *session, &mut foreign);
    assert!(matches!(session.fence_stage(), Err(Error::WrongDevice { .. })));
    assert_eq!(session.state(), SessionState::Failed);
}

/// Each dispatch in a submission of its own.
const EACH: ChunkOptions = ChunkOptions { first: 1, budget: 1, cost: Cost::Of(|_| 1) };

fn compiled(
    device: &Device,
    label: &str,
    dispatches: impl IntoIterator<Item = Dispatch>,
    chunk: Option<ChunkOptions>,
) -> CompiledGraph {
    let mut recording = GraphExecutor::new(device).begin_recorded(label).unwrap();
    dispatches.into_iter().for_each(|dispatch| recording.dispatch(dispatch).unwrap());
    let options = GraphOptions { chunk, ..GraphOptions::recorded() };
    recording.into_graph().unwrap().compile(device, label, &options).unwrap()
}

#[test]
fn a_stage_may_be_a_replay_or_contain_some() {
    for (threads, chunk) in [(1, None), (2, Some(EACH)), (3, None)] {
        let device = device(threads);
        let (x, t) = (buffer(&device), device.transient(DType::U32, &[8]).unwrap());
        let zero = buffer(&device);
        // Adds 2, by way of a transient value.
        let two = compiled(&device, "two", [mixed(&zero, &x, &t), mixed(&zero, &t, &x)], chunk);
        let parts = two.submissions() as u64;
        let mut session = device.session("replays");
        for stage in 1..=3_u64 {
            session.begin_stage("alone").unwrap();
            session.replay(&two).unwrap();
            assert_eq!(session.state(), SessionState::Open);
            session.fence_stage().unwrap();
            session.reset_for_next_stage().unwrap();
            assert_eq!((session.fence_value(), session.wait_count()), (stage, stage - 1));
        }
        assert_eq!(device.counters().submissions, 3 * parts);
        session.begin_stage("among others").unwrap();
        session.dispatch(increment(&x, 10)).unwrap();
        session.replay(&two).unwrap();
        session.replay(&two).unwrap();
        session.dispatch(mixed(&zero, &x, &zero.slice_view(0, &[0]).unwrap())).unwrap();
        session.dispatch(increment(&x, 100)).unwrap();
        let counted = session.counters();
        assert_eq!((counted.dispatches, counted.replays), (3, 2));
        let stage = session.commit_stage().unwrap();
        session.commit_and_wait().unwrap();
        assert!(stage.is_done() && session.is_drained());
        assert_eq!(session.event().map(SharedEvent::value), Some(3));
        assert_eq!(*x.read::<u32>().unwrap(), [6 + 10 + 4 + 100; 8]);
        let counted = device.counters();
        assert_eq!((counted.replays, counted.submissions), (5, 5 * parts + 2));
    }
}

#[test]
fn an_abandoned_replay_never_runs() {
    let device = device(2);
    let x = buffer(&device);
    let graph = compiled(&device, "graph", [increment(&x, 1)], None);
    let mut session = device.session("abandoned");
    session.begin_stage("stage").unwrap();
    session.replay(&graph).unwrap();
    session.abandon_stage().unwrap();
    assert_eq!(device.counters().discarded, 1);
    session.begin_stage("captures").unwrap();
    session.start_capture().unwrap();
    let refused = session.replay(&graph);
    assert!(matches!(refused, Err(Error::State { call: "replay", state: "while capturing" })));
    session.take_capture().unwrap();
    let foreign = common::device(1);
    let theirs = compiled(&foreign, "foreign", [increment(&buffer(&foreign), 1)], None);
    assert!(matches!(session.replay(&theirs), Err(Error::WrongDevice { .. })));
    session.commit_and_wait().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [0; 8]);
}

/// A part that fails takes the rest of its stage and the stages behind the fence along, and nothing else.
#[test]
fn a_failure_in_a_replay_is_the_stages() {
    for chunk in [None, Some(EACH)] {
        let device = device(2);
        let [x, y, z, w] = [(); 4].map(|()| buffer(&device));
        let doomed = compiled(&device, "doomed", [increment(&z, 1), crash(&x), increment(&w, 1)], chunk);
        let fine = compiled(&device, "fine", [increment(&y, 1)], None);
        let mut session = device.session("stages");
        session.begin_stage("doomed").unwrap();
        session.dispatch(increment(&y, 1)).unwrap();
        session.replay(&doomed).unwrap();
        session.dispatch(increment(&y, 1)).unwrap();
        let fails = session.fence_stage().unwrap();
        session.reset_for_next_stage().unwrap();
        session.begin_stage("waits").unwrap();
        session.replay(&fine).unwrap();
        let waits = session.fence_stage().unwrap();
        let event = session.event().unwrap().clone();
        assert!(matches!(fails.wait(), Err(Error::KernelFailed { kernel: "test_crash", .. })));
        assert!(matches!(waits.wait(), Err(Error::Poisoned { by, .. }) if by.contains("stages/doomed")));
        assert!(event.is_poisoned() && event.wait(1).is_err());
        assert!(y.read::<u32>().is_err() && w.read::<u32>().is_err());
        session.commit_and_wait().unwrap_err();
        session.reset_for_next_stage().unwrap();
        [&y, &z, &w].iter().for_each(|x| x.copy_from(&[5_u32; 8]).unwrap());
        session.begin_stage("afresh").unwrap();
        session.replay(&fine).unwrap();
        session.commit_and_wait().unwrap();
        assert_eq!(*y.read::<u32>().unwrap(), [6; 8]);
        device.wait_idle().unwrap();
    }
}

/// Whichever part of a stage the device refuses: an error, a poisoned event, nobody waits for ever.
#[test]
fn a_refused_part_poisons_the_fence() {
    for nth in 1..=4 {
        let fault = Some(FaultPlan { at: FaultPoint::Submit, nth });
        let device = Device::open(DeviceOptions { threads: Some(2), fault, ..Default::default() }).unwrap();
        let [x, y] = [(); 2].map(|()| buffer(&device));
        let graph = compiled(&device, "graph", [increment(&x, 1), increment(&x, 1)], Some(EACH));
        let mut session = device.session("stages");
        session.begin_stage("parts").unwrap();
        session.dispatch(increment(&x, 1)).unwrap();
        session.replay(&graph).unwrap();
        session.dispatch(increment(&x, 1)).unwrap();
        let stage = session.fence_stage();
        match &stage {
            Err(error) => assert!(nth == 1 && matches!(error, Error::Injected { .. })),
            Ok(stage) => {
                assert!(matches!(stage.wait(), Err(Error::Injected { .. })), "part {nth}");
                let event = session.event().unwrap();
                assert!(event.wait(1).is_err() && event.is_poisoned());
                session.reset_for_next_stage().unwrap();
                session.begin_stage("waits").unwrap();
                session.dispatch(increment(&y, 1)).unwrap();
                assert!(matches!(session.commit_stage().unwrap().wait(), Err(Error::Poisoned { .. })));
            }
        }
        assert!(nth == 1 || x.read::<u32>().is_err());
    }
}

#[test]
fn a_replay_in_a_stage_defers_removals() {
    let device = device(2);
    let [x, work] = [(); 2].map(|()| buffer(&device));
    let graph = compiled(&device, "graph", [increment(&x, 1)], None);
    let go = device.event("go").unwrap();
    let mut session = device.session("resident");
    session.add_to_residency_set(&x).unwrap();
    session.begin_stage("held").unwrap();
    session.replay(&graph).unwrap();
    session.wait_event(&go, 1).unwrap();
    session.commit_stage().unwrap();
    session.reset_for_next_stage().unwrap();
    session.remove_from_residency_set(&x).unwrap();
    let other = compiled(&device, "other", [increment(&work, 1)], None);
    session.begin_stage("behind").unwrap();
    session.replay(&other).unwrap();
    session.commit_stage().unwrap();
    assert_eq!((session.residency_stats().deferred, session.residency_stats().resident), (1, 1));
    go.signal(1).unwrap();
    session.commit_and_wait().unwrap();
    other.replay().unwrap().wait().unwrap();
    assert_eq!(session.residency_stats().resident, 0);
}

#[test]
fn two_threads_encode_on_one_device() {
    let device = device(2);
    let shared = device.upload(&[3_u32; 8], &[8]).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..2_u32 {
            let (device, shared) = (&device, &shared);
            scope.spawn(move || {
                let [x, y] = [(); 2].map(|()| buffer(device));
                let mut session = device.session("worker");
                for _ in 0..40 {
                    session.begin_stage("add").unwrap();
                    session.dispatch(increment(&x, worker + 1)).unwrap();
                    session.fence_stage().unwrap();
                    session.reset_for_next_stage().unwrap();
                    session.begin_stage("mix").unwrap();
                    session.dispatch(mixed(&x, shared, &y)).unwrap();
                    session.commit_stage().unwrap();
                    session.reset_for_next_stage().unwrap();
                }
                session.commit_and_wait().unwrap();
                assert_eq!((session.fence_value(), session.wait_count()), (40, 40));
                assert_eq!(*y.read::<u32>().unwrap(), [3 * 40 * (worker + 1) + 4; 8]);
            });
        }
    });
    assert_eq!(device.counters().submissions, 160);
}

/// Several threads replay one graph, alone and in stages, while the host looks at what it writes.
#[test]
fn threads_share_a_compiled_graph() {
    let device = device(3);
    let x = buffer(&device);
    let graph = compiled(&device, "shared", [increment(&x, 1), increment(&x, 1)], Some(EACH));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let (device, graph, x) = (&device, &graph, &x);
            scope.spawn(move || {
                let own = buffer(device);
                let mut session = device.session("worker");
                for turn in 1..=20 {
                    // A guard of another thread may be in the way for a moment.
                    while let Err(error) = graph.replay() {
                        assert!(matches!(error, Error::Busy { .. }), "{error}");
                    }
                    session.begin_stage("stage").unwrap();
                    session.dispatch(increment(&own, 1)).unwrap();
                    session.fence_stage().unwrap();
                    session.reset_for_next_stage().unwrap();
                    if let Ok(seen) = x.read::<u32>() {
                        assert!(seen.iter().all(|&value| value == seen[0] && value % 2 == 0));
                        assert!(seen[0] >= 2 * turn, "a replay that was submitted is waited for");
                    }
                }
                session.commit_and_wait().unwrap();
                assert_eq!(*own.read::<u32>().unwrap(), [20; 8]);
            });
        }
    });
    assert_eq!(*x.read::<u32>().unwrap(), [2 * 3 * 20; 8]);
}

#[test]
fn sessions_move_and_handles_are_shared() {
    fn send<T: Send>() {}
    fn sync<T: Send + Sync>() {}
    send::<EncoderSession>();
    sync::<SharedEvent>();
    sync::<ResidencySet>();
    sync::<Submission>();
    sync::<dacapo::MemoryMeter>();
}
