//! Events: who waits, who is told what.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{crash, device, increment};
use dacapo::cpu::{CpuPlan, Split};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Device, Dispatch, Error, Kernel, OpKind};

/// How often [`COUNT`] has run; used by one test alone.
static RUNS: AtomicUsize = AtomicUsize::new(0);

static COUNT: Kernel = Kernel {
    name: "test_count",
    kind: OpKind::Other,
    bindings: &[Binding::write("y")],
    cpu: CpuTwin {
        plan: |_| CpuPlan::new(1, 1).split(0, Split::whole()),
        run: |_| {
            RUNS.fetch_add(1, Ordering::Relaxed);
        },
    },
    gpu: None,
};

fn encoder(device: &Device, label: &str, dispatch: Dispatch) -> CommandEncoder {
    let mut encoder = device.encoder(label).unwrap();
    encoder.dispatch(dispatch).unwrap();
    encoder
}

fn word(device: &Device) -> Buffer {
    device.alloc(DType::U32, &[8]).unwrap()
}

#[test]
fn the_host_and_submissions_raise_an_event() {
    let device = device(2);
    let event = device.event("steps").unwrap();
    assert_eq!((event.value(), event.label(), event.is_poisoned()), (0, "steps", false));
    event.wait(0).unwrap();
    event.signal(3).unwrap();
    event.wait(2).unwrap();
    assert!(matches!(event.signal(3), Err(Error::State { call: "signal", .. })), "it only rises");
    let x = word(&device);
    let mut work = encoder(&device, "signals", increment(&x, 1));
    work.signal_event(&event, 5).unwrap();
    let work = work.commit().unwrap();
    event.wait(5).unwrap();
    work.wait().unwrap();
    let mut late = encoder(&device, "raises nothing", increment(&x, 1));
    late.signal_event(&event, 4).unwrap();
    late.commit_and_wait().unwrap();
    assert_eq!(event.value(), 5);
}

#[test]
fn a_submission_without_dispatches_signals_too() {
    let device = device(3);
    let event = device.event("empty").unwrap();
    let mut first = device.encoder("empty").unwrap();
    first.signal_event(&event, 1).unwrap();
    first.commit().unwrap();
    let mut second = device.encoder("empty").unwrap();
    second.wait_event(&event, 1).unwrap();
    second.signal_event(&event, 2).unwrap();
    second.commit_and_wait().unwrap();
    assert_eq!(event.value(), 2);
}

#[test]
fn a_submission_waits_for_the_host() {
    for threads in [1, 3] {
        let device = device(threads);
        let (x, event) = (word(&device), device.event("go").unwrap());
        let mut waits = encoder(&device, "waits", increment(&x, 1));
        waits.wait_event(&event, 2).unwrap();
        let waits = waits.commit().unwrap();
        let after = encoder(&device, "after", increment(&x, 1)).commit().unwrap();
        event.signal(1).unwrap();
        assert!(!waits.is_done() && !after.is_done(), "nobody has said 2");
        let signals = std::thread::spawn({
            let event = event.clone();
            move || event.signal(2).unwrap()
        });
        after.wait().unwrap();
        signals.join().unwrap();
        assert_eq!(*x.read::<u32>().unwrap(), [2; 8]);
    }
}

#[test]
fn a_device_that_is_dropped_strands_nobody() {
    for threads in [1, 3] {
        let device = device(threads);
        let (x, y, event) = (word(&device), word(&device), device.event("never").unwrap());
        let mut stranded = encoder(&device, "stranded", increment(&x, 1));
        stranded.wait_event(&event, 1).unwrap();
        let stranded = stranded.commit().unwrap();
        let free = encoder(&device, "free", increment(&y, 1)).commit().unwrap();
        drop(device);
        let lost = stranded.wait().unwrap_err();
        assert!(matches!(&lost, Error::DeviceLost(cause) if cause.contains("stranded")), "{lost}");
        free.wait().unwrap();
        assert!(event.signal(1).is_err(), "the device is gone");
    }
}

#[test]
fn a_failure_poisons_the_event_and_those_who_wait() {
    for threads in [1, 2, 5] {
        let device = device(threads);
        let (x, y, z) = (word(&device), word(&device), word(&device));
        let event = device.event("poisoned").unwrap();
        let before = RUNS.load(Ordering::Relaxed);
        let mut good = encoder(&device, "good", increment(&x, 1));
        good.signal_event(&event, 1).unwrap();
        good.commit().unwrap();
        let mut fails = encoder(&device, "fails", crash(&y));
        fails.signal_event(&event, 2).unwrap();
        let fails = fails.commit().unwrap();
        let mut waits = encoder(&device, "waits", Dispatch::new(&COUNT).buffer(&z));
        waits.wait_event(&event, 2).unwrap();
        waits.signal_event(&event, 3).unwrap();
        let waits = waits.commit().unwrap();
        let mut content = encoder(&device, "content with 1", increment(&x, 1));
        content.wait_event(&event, 1).unwrap();
        let content = content.commit().unwrap();

        let failure = fails.wait().unwrap_err().to_string();
        assert_eq!(failure, r#"kernel test_crash of "fails" failed: told to crash"#);
        for value in [2, 3, 2] {
            assert_eq!(
                event.wait(value).unwrap_err().to_string(),
                failure,
                "the host is told the failure itself"
            );
        }
        event.wait(1).unwrap();
        let poisoned = waits.wait().unwrap_err();
        assert_eq!(poisoned.to_string(), format!(r#"not run, because submission "fails" failed: {failure}"#));
        assert_eq!(RUNS.load(Ordering::Relaxed), before, "not run");
        content.wait().unwrap();
        assert!(event.is_poisoned());
        assert!(matches!(event.signal(9), Err(Error::Poisoned { .. })));
        assert_eq!(event.value(), 1);
        assert_eq!(*x.read::<u32>().unwrap(), [2; 8]);
    }
}

#[test]
fn events_know_their_device_and_captures() {
    let (device, other) = (common::device(1), common::device(1));
    let event = other.event("foreign").unwrap();
    let mut encoder = device.encoder("checks").unwrap();
    assert!(matches!(encoder.wait_event(&event, 1), Err(Error::WrongDevice { .. })));
    assert!(matches!(encoder.signal_event(&event, 1), Err(Error::WrongDevice { .. })));
    let event = device.event("own").unwrap();
    encoder.start_capture().unwrap();
    assert!(matches!(encoder.wait_event(&event, 1), Err(Error::State { call: "wait_event", .. })));
    assert!(matches!(encoder.signal_event(&event, 1), Err(Error::State { call: "signal_event", .. })));
}
