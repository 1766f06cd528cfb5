//! Residency sets: staged, flushed with submissions, removed when nothing uses the memory.

mod common;

use common::{device, increment};
use dacapo::{Buffer, DType, Device, Error, MappedFile, ResidencySet, ResidencyStats, Submission};

fn submit(device: &Device, x: &Buffer) -> Submission {
    let mut encoder = device.encoder("work").unwrap();
    encoder.dispatch(increment(x, 1)).unwrap();
    encoder.commit().unwrap()
}

#[test]
fn changes_are_staged_and_flushed_once() {
    let device = device(1);
    let [x, y, work] = [8, 16, 4].map(|n| device.alloc(DType::U32, &[n]).unwrap());
    let set = ResidencySet::new(&device);
    assert!(set.add(&x).unwrap() && set.add(&y.slice_view(3, &[2]).unwrap()).unwrap());
    assert!(!set.add(&y).unwrap(), "a view stands for its allocation");
    assert!(set.contains(&x) && set.contains(&y));
    assert_eq!(set.stats(), ResidencyStats { pending_adds: 2, ..ResidencyStats::default() });
    submit(&device, &work).wait().unwrap();
    let flushed =
        ResidencyStats { adds: 2, flushes: 1, resident: 2, resident_bytes: 96, ..ResidencyStats::default() };
    assert_eq!(set.stats(), flushed);
    for _ in 0..3 {
        submit(&device, &work).wait().unwrap();
    }
    assert_eq!(set.stats(), flushed, "nothing changed, nothing is flushed");
    assert!(set.remove(&x).unwrap() && !set.remove(&x).unwrap() && !set.contains(&x));
    assert!(set.add(&x).unwrap(), "taken back");
    assert!(set.remove(&y).unwrap());
    submit(&device, &work).wait().unwrap();
    assert_eq!(
        set.stats(),
        ResidencyStats { removes: 1, flushes: 2, resident: 1, resident_bytes: 32, ..flushed }
    );
    assert!(set.add(&y).unwrap() && set.remove(&y).unwrap(), "never flushed");
    submit(&device, &work).wait().unwrap();
    assert_eq!(set.stats().flushes, 2);
}

#[test]
fn a_removal_waits_for_the_last_use() {
    let device = device(2);
    let [x, work] = [8, 4].map(|n| device.alloc(DType::U32, &[n]).unwrap());
    let (set, go) = (ResidencySet::new(&device), device.event("go").unwrap());
    set.add(&x).unwrap();
    let mut encoder = device.encoder("held").unwrap();
    encoder.dispatch(increment(&x, 1)).unwrap();
    encoder.wait_event(&go, 1).unwrap();
    let held = encoder.commit().unwrap();
    set.remove(&x).unwrap();
    let behind = submit(&device, &work);
    let stats = set.stats();
    assert_eq!((stats.resident, stats.removes, stats.pending_removes, stats.deferred), (1, 0, 1, 1));
    go.signal(1).unwrap();
    held.wait().unwrap();
    behind.wait().unwrap();
    submit(&device, &x).wait().unwrap();
    assert_eq!(set.stats().deferred, 2, "the submission that flushes uses it itself");
    submit(&device, &work).wait().unwrap();
    let stats = set.stats();
    assert_eq!((stats.resident, stats.resident_bytes, stats.removes, stats.pending_removes), (0, 0, 1, 0));
}

#[test]
fn members_live_and_files_are_read_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights");
    std::fs::write(&path, vec![7_u8; 20_000]).unwrap();
    let device = device(1);
    let weights = device.map(&MappedFile::open(&path).unwrap(), 100, DType::U8, &[10_000]).unwrap();
    let large = device.alloc(DType::U32, &[1 << 20]).unwrap();
    let work = device.alloc(DType::U32, &[4]).unwrap();
    large.copy_from(&vec![9_u32; 1 << 20]).unwrap();
    let mut session = device.session("set");
    session.add_to_residency_set(&weights).unwrap();
    session.add_to_residency_set(&large).unwrap();
    submit(&device, &work).wait().unwrap();
    assert_eq!(session.residency_stats().resident_bytes, 10_000 + (4 << 20));
    assert!(weights.to_vec::<u8>().unwrap().iter().chain(&[7]).all(|&b| b == 7));
    assert!(large.read::<u32>().unwrap().iter().all(|&x| x == 9), "populating keeps what is there");
    let before = device.memory_in_use();
    drop((weights, large));
    assert_eq!(device.memory_in_use(), before, "members stay alive");
    assert!(session.residency_set().is_some());
    drop(session);
    let after = device.memory_in_use();
    assert_eq!((after.blocks, after.bytes, after.mappings), (1, 16, 0), "a dropped set holds nothing");
    let foreign = common::device(1).alloc(DType::U32, &[1]).unwrap();
    let set = ResidencySet::new(&device);
    assert!(matches!(set.add(&foreign), Err(Error::WrongDevice { .. })));
    assert!(matches!(set.remove(&foreign), Err(Error::WrongDevice { .. })));
    let transient = device.transient(DType::U32, &[1]).unwrap();
    assert!(matches!(set.add(&transient), Err(Error::Transient { .. })));
}
