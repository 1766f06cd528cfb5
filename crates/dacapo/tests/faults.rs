//! Everything that can fail, failing once at each of its turns.

mod common;

use std::sync::Arc;

use common::{increment, mix, mixed};
use dacapo::{
    Buffer, BufferPool, ChunkOptions, DType, Device, DeviceOptions, EncoderSession, Error, FaultPlan,
    FaultPoint, FinishOptions, GraphExecutor, GraphOptions, MappedFile, MemoryUse, Result, Submission,
};

const N: usize = 24;

fn open(threads: usize, fault: Option<FaultPlan>) -> Device {
    Device::open(DeviceOptions { threads: Some(threads), fault, ..DeviceOptions::default() }).unwrap()
}

/// Work beside the program, which shares nothing with it but the device.
struct Bystander {
    buffer: Buffer,
    work: Submission,
}

impl Bystander {
    fn start(device: &Device) -> Result<Self> {
        let buffer = device.alloc(DType::U32, &[N])?;
        let mut encoder = device.encoder("bystander")?;
        encoder.dispatch(increment(&buffer, 4))?;
        Ok(Bystander { work: encoder.commit()?, buffer })
    }
}

/// Keeps what a failed program leaves behind.
#[derive(Default)]
struct Remains {
    bystander: Option<Bystander>,
    session: Option<EncoderSession>,
}

/// A small program of everything: memory, a file, a pool, live encoding, fenced stages, a graph, reads of the host.
fn program(device: &Device, file: &Arc<MappedFile>, remains: &mut Remains) -> Result<()> {
    let input = device.map(file, 0, DType::U32, &[N])?;
    let x = device.upload(&[1_u32; N], &[N])?;
    let pool = BufferPool::new(device);
    let (y, z) = (pool.alloc(DType::U32, &[N])?, pool.alloc(DType::U32, &[N])?);
    let bystander = &*remains.bystander.insert(Bystander::start(device)?);

    let mut encoder = device.encoder("live")?;
    encoder.dispatch(mixed(&input, &x, &y))?;
    encoder.dispatch(increment(&x, 1))?;
    encoder.dispatch(mixed(&y, &x, &z))?;
    let live = encoder.commit()?;

    let session = remains.session.insert(device.session("session"));
    session.add_to_residency_set(&input)?;
    for stage in ["first", "second"] {
        session.begin_stage(stage)?;
        session.dispatch(increment(&z, 10))?;
        session.fence_stage()?;
        session.reset_for_next_stage()?;
    }
    let fence = session.fence_value();
    session.event().expect("fenced").wait(fence)?;

    let mut recording = GraphExecutor::new(device).begin_recorded("graph")?;
    recording.dispatch(increment(&x, 5))?;
    recording.dispatch(mixed(&z, &x, &y))?;
    recording.finish(FinishOptions::default())?;

    let t = device.transient(DType::U32, &[N])?;
    let mut recording = GraphExecutor::new(device).begin_recorded("compiled")?;
    recording.dispatch(mixed(&y, &x, &t))?;
    recording.dispatch(mixed(&t, &x, &y))?;
    let graph = recording.into_graph()?;
    let chunk = Some(ChunkOptions { first: 1, budget: 1, ..ChunkOptions::default() });
    let compiled = graph.compile(device, "compiled", &GraphOptions { chunk, ..GraphOptions::default() })?;
    compiled.replay()?;
    let replayed = compiled.replay()?;

    session.begin_stage("last")?;
    session.dispatch(increment(&y, 1))?;
    session.replay(&compiled)?;
    session.dispatch(increment(&y, 2))?;
    session.fence_stage()?;
    session.commit_and_wait()?;
    replayed.wait()?;
    live.wait()?;
    bystander.work.wait()?;

    let x = x.to_vec::<u32>()?;
    let y = y.read::<u32>()?;
    let replay = |y| mix(mix(y, 7), 7);
    let sum = replay(replay(replay(mix(mix(mix(3, 1), 2) + 20, 7))) + 1) + 2;
    assert_eq!((x, y.to_vec()), (vec![7; N], vec![sum; N]));
    Ok(())
}

fn weights() -> (tempfile::TempDir, Arc<MappedFile>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights");
    std::fs::write(&path, bytemuck::cast_slice(&[3_u32; N])).unwrap();
    let file = MappedFile::open(&path).unwrap();
    (dir, file)
}

/// The error is one that this point may give, and says what failed.
fn check_error(point: FaultPoint, error: &Error) {
    let root = match error {
        // A replay in parts is refused in part; then what reads its results is not run either.
        Error::Poisoned { cause, .. } if matches!(point, FaultPoint::Complete | FaultPoint::Submit) => cause,
        other => other,
    };
    let fits = match point {
        FaultPoint::Allocate => matches!(root, Error::OutOfMemory { requested, .. } if *requested > 0),
        FaultPoint::MapFile => matches!(root, Error::Io { path, .. } if path.ends_with("weights")),
        FaultPoint::Pipeline => matches!(root, Error::Injected { what } if what.contains("kernel test_")),
        FaultPoint::Support | FaultPoint::Barrier => false,
        FaultPoint::Encode => matches!(root, Error::Injected { what } if what.contains("dispatch")),
        FaultPoint::Submit => matches!(root, Error::Injected { what } if what.contains("submission")),
        FaultPoint::Complete => matches!(root, Error::KernelFailed { kernel: "injected_fault", .. }),
        FaultPoint::DeviceLost => {
            matches!(root, Error::DeviceLost(cause) if cause.starts_with("on request, at "))
        }
    };
    assert!(fits, "{point:?}: {error}");
    assert!(!error.to_string().contains('\n'));
}

/// After one failure the device works as if nothing had been, but for what depended on it.
fn check_usable(point: FaultPoint, device: &Device, file: &Arc<MappedFile>, remains: &Remains) {
    // A submission that nobody asked may have failed as well: told once each, then no more.
    while let Err(error) = device.wait_idle() {
        check_error(point, &error);
    }
    if let Some(Bystander { buffer, work }) = &remains.bystander
        && !matches!(work.wait(), Err(Error::KernelFailed { .. }))
    {
        assert_eq!(*buffer.read::<u32>().unwrap(), [4; N], "the bystander depended on nothing");
    }
    program(device, file, &mut Remains::default()).unwrap();
}

/// Every call on a lost device says so, with the same cause.
fn check_lost(device: &Device, file: &Arc<MappedFile>, remains: &Remains, first: &Error) {
    let same = |what: &str, result: Result<()>| {
        let error = result.expect_err(what);
        assert_eq!(error.to_string(), first.to_string(), "{what}");
    };
    same("alloc", device.alloc(DType::U32, &[1]).map(drop));
    same("upload", device.upload(&[1_u32], &[1]).map(drop));
    same("map", device.map(file, 0, DType::U8, &[1]).map(drop));
    same("pool", BufferPool::new(device).alloc(DType::U32, &[1]).map(drop));
    same("encoder", device.encoder("lost").map(drop));
    same("event", device.event("lost").map(drop));
    same("wait_idle", device.wait_idle());
    same("session", device.session("lost").begin_stage("lost"));
    same("graph", GraphExecutor::new(device).begin_recorded("lost").map(drop));
    if let Some(Bystander { buffer, .. }) = &remains.bystander {
        same("read", buffer.read::<u32>().map(drop));
        same("write", buffer.write::<u32>().map(drop));
        same("copy_from", buffer.copy_from(&[0_u32; N]));
    }
    if let Some(event) = remains.session.as_ref().and_then(EncoderSession::event) {
        same("wait", event.wait(u64::MAX));
        same("signal", event.signal(u64::MAX));
    }
}

/// Runs the program with a fault at every turn of a point until it meets none. Returns how many it met.
fn sweep(point: FaultPoint, threads: usize) -> u64 {
    let (_dir, file) = weights();
    for nth in 1.. {
        let device = open(threads, Some(FaultPlan { at: point, nth }));
        let meter = device.memory_meter();
        let mut remains = Remains::default();
        let outcome = program(&device, &file, &mut remains);
        match &outcome {
            Ok(()) => {}
            Err(error) => {
                check_error(point, error);
                if point == FaultPoint::DeviceLost {
                    check_lost(&device, &file, &remains, error);
                    program(&open(threads, None), &file, &mut Remains::default()).unwrap();
                } else {
                    check_usable(point, &device, &file, &remains);
                }
            }
        }
        drop(remains);
        drop(device);
        let left = meter.in_use();
        assert!(left.peak_bytes > 0 || outcome.is_err());
        assert_eq!(MemoryUse { peak_bytes: 0, ..left }, MemoryUse::default(), "{point:?} {nth}: a leak");
        if outcome.is_ok() {
            return nth - 1;
        }
    }
    unreachable!("the sweep ends when the program succeeds")
}

#[test]
fn every_allocation_may_fail() {
    assert_eq!(sweep(FaultPoint::Allocate, 2), 5);
}

#[test]
fn every_mapping_may_fail() {
    assert_eq!(sweep(FaultPoint::MapFile, 2), 1);
}

#[test]
fn every_pipeline_may_fail() {
    assert_eq!(sweep(FaultPoint::Pipeline, 2), 2);
}

#[test]
fn every_dispatch_may_fail() {
    assert_eq!(sweep(FaultPoint::Encode, 2), 12);
}

#[test]
fn every_submission_may_be_refused() {
    assert_eq!(sweep(FaultPoint::Submit, 2), 13);
}

#[test]
fn every_submission_may_fail_on_the_device() {
    for threads in [1, 2, 4] {
        assert_eq!(sweep(FaultPoint::Complete, threads), 13);
    }
}

#[test]
fn the_device_may_be_lost_at_any_call() {
    for threads in [1, 2, 4] {
        // Five allocations, a mapping, two pipelines, twelve dispatches, thirteen submissions, and the end of each.
        let met = sweep(FaultPoint::DeviceLost, threads);
        assert!((33..=46).contains(&met), "{met}");
    }
}

#[test]
fn a_lost_device_holds_nobody_up() {
    // An allocation, a pipeline, a dispatch, a submission; lost at the allocation after them.
    let device = open(2, Some(FaultPlan { at: FaultPoint::DeviceLost, nth: 5 }));
    let event = device.event("never").unwrap();
    let x = device.alloc(DType::U32, &[N]).unwrap();
    let mut encoder = device.encoder("stranded").unwrap();
    encoder.wait_event(&event, 1).unwrap();
    encoder.dispatch(increment(&x, 1)).unwrap();
    let stranded = encoder.commit().unwrap();
    let waiter = std::thread::spawn({
        let event = event.clone();
        move || event.wait(1)
    });
    assert!(matches!(device.alloc(DType::U32, &[N]), Err(Error::DeviceLost(_))));
    assert!(matches!(waiter.join().unwrap(), Err(Error::DeviceLost(_))));
    for _ in 0..2 {
        assert!(matches!(stranded.wait(), Err(Error::DeviceLost(_))));
    }
}

#[test]
fn a_fault_that_never_comes_changes_nothing() {
    let (_dir, file) = weights();
    let device = open(2, Some(FaultPlan { at: FaultPoint::Submit, nth: 0 }));
    program(&device, &file, &mut Remains::default()).unwrap();
    assert_eq!(device.counters().submissions, 13);
}
