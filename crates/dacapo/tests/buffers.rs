//! Views, guards, file-backed memory and the pool.

mod common;

use common::{SLOW, device, increment};
use dacapo::{BufferPool, DType, Dispatch, Error, MappedFile};
use proptest::prelude::*;

#[test]
fn fresh_memory_is_zero_of_every_type_and_size() {
    let device = device(1);
    for dtype in DType::ALL {
        for len in [0, 1, 7, 1000, 3 << 20] {
            let bytes = device
                .alloc(dtype, &[len])
                .unwrap()
                .reinterpret(0, DType::U8, &[len * dtype.size()])
                .unwrap();
            assert!(bytes.to_vec::<u8>().unwrap().iter().all(|&b| b == 0), "{dtype} x {len}");
        }
    }
}

#[test]
fn views_compose_and_stay_inside() {
    let device = device(1);
    let base = device.upload(&(0..24_u32).collect::<Vec<_>>(), &[4, 6]).unwrap();
    let rows = base.slice_view(6, &[2, 6]).unwrap();
    let part = rows.slice_view(3, &[3]).unwrap();
    assert_eq!(part.to_vec::<u32>().unwrap(), [9, 10, 11]);
    assert_eq!((part.byte_offset(), part.byte_len()), (36, 12));
    assert_eq!(rows.reshape(&[3, 4]).unwrap().shape(), [3, 4]);
    assert!(matches!(
        rows.slice_view(10, &[3]),
        Err(Error::OutOfBounds { start: 10, len: 3, limit: 12, .. })
    ));
    assert!(matches!(rows.slice_view(usize::MAX, &[2]), Err(Error::OutOfBounds { .. })));
    assert!(matches!(rows.slice_view(0, &[usize::MAX, 3]), Err(Error::ShapeOverflow(_))));
    assert!(matches!(rows.reshape(&[13]), Err(Error::OutOfBounds { .. })));
    assert!(matches!(rows.reinterpret(1, DType::U32, &[12]), Err(Error::OutOfBounds { .. })));
}

#[test]
fn impossible_allocations_are_errors() {
    let device = device(1);
    assert!(matches!(device.alloc(DType::F32, &[1 << 60]), Err(Error::OutOfMemory { .. })));
    assert!(matches!(device.alloc(DType::F32, &[1 << 40, 1 << 40]), Err(Error::ShapeOverflow(_))));
}

#[test]
fn guards_refuse_wrong_types_and_bad_alignment() {
    let device = device(1);
    let bytes = device.upload(&[1_u8, 2, 3, 4, 5, 6, 7, 8], &[8]).unwrap();
    assert!(matches!(bytes.read::<u32>(), Err(Error::WrongType { .. })));
    let odd = bytes.reinterpret(1, DType::U16, &[3]).unwrap();
    assert!(matches!(odd.read::<u16>(), Err(Error::Misaligned { offset: 1, .. })));
    assert_eq!(odd.to_vec::<u16>().unwrap(), [0x0302, 0x0504, 0x0706]);
}

#[test]
fn guards_exclude_each_other_and_submissions() {
    let device = device(2);
    let x = device.upload(&[1_u32; 8], &[8]).unwrap();
    let reader = x.read::<u32>().unwrap();
    assert!(x.read::<u32>().is_ok(), "readers share");
    assert!(matches!(x.write::<u32>(), Err(Error::Busy { call: "write", .. })));
    let mut encoder = device.encoder("blocked").unwrap();
    encoder.dispatch(increment(&x, 1)).unwrap();
    assert!(matches!(encoder.commit(), Err(Error::Busy { call: "commit", .. })));
    drop(reader);
    {
        let mut writer = x.write::<u32>().unwrap();
        writer[0] = 5;
        assert!(matches!(x.read::<u32>(), Err(Error::Busy { call: "read", .. })));
    }
    let mut encoder = device.encoder("free").unwrap();
    encoder.dispatch(increment(&x, 1)).unwrap();
    encoder.commit_and_wait().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [6, 2, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn a_read_waits_for_the_write_before_it() {
    let device = device(2);
    let x = device.alloc(DType::U32, &[16]).unwrap();
    let mut encoder = device.encoder("slow").unwrap();
    encoder.dispatch(Dispatch::new(&SLOW).buffer(&x).bytes(&30_u32)).unwrap();
    let submission = encoder.commit().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [7; 16]);
    assert!(submission.is_done());
}

#[test]
fn mapped_files_are_read_in_place_and_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights");
    std::fs::write(&path, [0_u8, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let device = device(1);
    let file = MappedFile::open(&path).unwrap();
    let view = device.map(&file, 1, DType::U8, &[8]).unwrap();
    assert_eq!(view.to_vec::<u8>().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let misaligned = device.map(&file, 1, DType::U32, &[2]).unwrap();
    assert_eq!(misaligned.to_vec::<u32>().unwrap(), [0x0403_0201, 0x0807_0605]);
    assert!(matches!(view.write::<u8>(), Err(Error::ReadOnly { .. })));
    assert!(matches!(view.copy_from(&[0_u8; 8]), Err(Error::ReadOnly { .. })));
    assert!(matches!(device.map(&file, 2, DType::U8, &[8]), Err(Error::OutOfBounds { .. })));
    let aligned = device.map(&file, 0, DType::U32, &[2]).unwrap();
    let mut encoder = device.encoder("write").unwrap();
    assert!(matches!(encoder.dispatch(increment(&aligned, 1)), Err(Error::ReadOnly { .. })));
    file.release(0..9);
    assert_eq!(view.to_vec::<u8>().unwrap()[0], 1, "released pages come back");
}

#[test]
fn files_that_cannot_be_mapped_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = MappedFile::open(&missing).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    assert!(MappedFile::open(dir.path()).is_err(), "a folder is no file");
    let empty = dir.path().join("empty");
    std::fs::write(&empty, []).unwrap();
    assert!(MappedFile::open(&empty).unwrap().bytes().is_empty());
}

#[test]
fn the_pool_reuses_blocks_zeroed_and_by_size() {
    let device = device(2);
    let pool = BufferPool::new(&device);
    let a = pool.alloc(DType::U32, &[100]).unwrap();
    a.copy_from(&[9_u32; 100]).unwrap();
    let view = a.slice_view(10, &[4]).unwrap();
    drop(a);
    let b = pool.alloc(DType::U32, &[100]).unwrap();
    assert_eq!(pool.stats().allocated, 2, "a view holds the first block");
    drop((b, view));
    let c = pool.alloc(DType::U32, &[128]).unwrap();
    assert_eq!((pool.stats().allocated, pool.stats().reused), (2, 1));
    assert_eq!(c.to_vec::<u32>().unwrap(), [0; 128]);
    pool.trim();
    assert_eq!(pool.stats().free_bytes, 0);
}

#[test]
fn the_pool_keeps_blocks_that_are_in_flight() {
    let device = device(2);
    let pool = BufferPool::new(&device);
    let x = pool.alloc(DType::U32, &[64]).unwrap();
    let mut encoder = device.encoder("slow").unwrap();
    encoder.dispatch(Dispatch::new(&SLOW).buffer(&x).bytes(&50_u32)).unwrap();
    let submission = encoder.commit().unwrap();
    drop(x);
    let y = pool.alloc(DType::U32, &[64]).unwrap();
    assert!(submission.is_done() || pool.stats().allocated == 2, "handed out while the device writes it");
    submission.wait().unwrap();
    assert_eq!(y.to_vec::<u32>().unwrap(), [0; 64]);
}

proptest! {
    /// A chain of random views equals the same slicing of a plain vector.
    #[test]
    fn chains_of_views(cuts in prop::collection::vec((0..200_usize, 0..200_usize), 1..6)) {
        let device = device(1);
        let host: Vec<u32> = (0..200).collect();
        let mut view = device.upload(&host, &[200]).unwrap();
        let mut expected = &host[..];
        for (start, len) in cuts {
            match expected.get(start..start + len) {
                Some(part) => {
                    view = view.slice_view(start, &[len]).unwrap();
                    expected = part;
                }
                None => prop_assert!(view.slice_view(start, &[len]).is_err()),
            }
        }
        prop_assert_eq!(view.to_vec::<u32>().unwrap(), expected);
    }
}
