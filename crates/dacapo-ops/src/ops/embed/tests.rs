//! Gathering through a device.

use super::*;
use crate::quant::Format;
use crate::testing::{Sample, device, upload};

#[test]
fn rows_are_gathered_and_scaled() {
    let device = device(2);
    for format in Format::all() {
        let sample = Sample::new(format, 50, 256, 31);
        let weight = Weight::load(&device, &upload(&device, &sample)).expect("loads");
        let ids = device.upload(&[49u32, 0, 17, 50, u32::MAX, 17], &[6]).expect("uploads");
        let out = device.alloc(DType::F32, &[6, 256]).expect("allocates");
        out.copy_from(&[7.0f32; 6 * 256]).expect("copies");
        let mut enc = device.encoder("test").expect("opens");
        embed(&mut enc, &ids, &weight, &out, 0.5).expect("encodes");
        enc.commit_and_wait().expect("runs");
        let (values, found) = (sample.dequantize(), out.to_vec::<f32>().expect("reads"));
        for (found, id) in found.chunks_exact(256).zip([49, 0, 17, 50, usize::MAX, 17]) {
            for (i, found) in found.iter().enumerate() {
                let expected = if id < 50 { 0.5 * values[id * 256 + i] } else { 0.0 };
                assert_eq!(*found, expected, "{format} id {id}");
            }
        }
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let device = device(1);
    let sample = Sample::new(Format::Dense(crate::quant::Float::F32), 4, 8, 1);
    let weight = Weight::load(&device, &upload(&device, &sample)).expect("loads");
    let ids = device.upload(&[1u32], &[1]).expect("uploads");
    let out = device.alloc(DType::F32, &[1, 8]).expect("allocates");
    let short = device.alloc(DType::F32, &[1, 7]).expect("allocates");
    let mut enc = device.encoder("test").expect("opens");
    assert!(embed(&mut enc, &ids, &weight, &short, 1.0).is_err());
    assert!(embed(&mut enc, &out, &weight, &out, 1.0).is_err());
    embed(&mut enc, &ids, &weight, &out, 1.0).expect("encodes");
    enc.commit_and_wait().expect("runs");
}
