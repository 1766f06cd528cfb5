//! Quantization against its formula.

use super::*;
use crate::testing::normal;

/// The formula, in f64 where the f32 result allows it.
fn check(x: &[f32], q: &[i8], meta: &[f32]) {
    for ((x, q), meta) in x.chunks_exact(32).zip(q.chunks_exact(32)).zip(meta.chunks_exact(META)) {
        let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        assert_eq!(meta[0], largest / 127.0);
        let sum = |q: &[i8]| q.iter().map(|&q| q as i32).sum::<i32>() as f32;
        let expected = [sum(q), sum(&q[..16]), sum(&q[16..])].map(|s| meta[0] * s);
        assert_eq!(meta[1..], expected);
        for (x, q) in x.iter().zip(q) {
            assert_eq!(*q as f32, (x * (127.0 / largest)).round_ties_even(), "{x} of {largest}");
        }
        assert!(q.iter().any(|q| q.abs() == 127));
    }
}

#[test]
fn codes_follow_the_formula_at_every_level() {
    let mut x = normal(3, 640);
    x.iter_mut().enumerate().for_each(|(i, x)| *x *= 10f32.powi(i as i32 / 32 - 10));
    for level in Level::available() {
        let (mut q, mut meta) = (vec![0; 640], vec![0.0; 80]);
        cpu::quantize(level, &x, &mut q, &mut meta);
        check(&x, &q, &meta);
    }
}

#[test]
fn ties_go_to_even() {
    let mut x = [0.0f32; 32];
    (x[0], x[1], x[2], x[3]) = (127.0, 0.5, 1.5, -2.5);
    for level in Level::available() {
        let (mut q, mut meta) = ([0; 32], [0.0; META]);
        cpu::quantize(level, &x, &mut q, &mut meta);
        assert_eq!(q[..4], [127, 0, 2, -2]);
        assert_eq!(meta, [1.0, 127.0, 127.0, 0.0]);
    }
}

#[test]
fn blocks_at_the_ends_of_the_range() {
    for level in Level::available() {
        for (value, scale) in [(0.0, 0.0), (1e-40, 0.0), (f32::MAX, f32::MAX / 127.0)] {
            let (mut q, mut meta) = ([1; 32], [1.0; META]);
            cpu::quantize(level, &[value; 32], &mut q, &mut meta);
            assert_eq!((meta[0], q), (scale, [if scale == 0.0 { 0 } else { 127 }; 32]), "{value}");
        }
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let (mut x, mut q, mut meta) = ([1.0; 32], [1; 32], [1.0; META]);
            x[7] = bad;
            cpu::quantize(level, &x, &mut q, &mut meta);
            assert!(meta.iter().all(|m| m.is_nan()), "{bad}");
        }
    }
}

#[test]
fn through_a_device() {
    for threads in [1, 3] {
        let device = crate::testing::device(threads);
        let x = normal(4, 7 * 96);
        let buffer = device.upload(&x, &[7, 96]).expect("uploads");
        let room = Int8Buffers::new(&device, 1024).expect("allocates");
        let mut enc = device.encoder("test").expect("opens");
        let activation = Activation::quantize(&mut enc, &buffer, &room).expect("encodes");
        enc.commit_and_wait().expect("runs");
        let (codes, meta) = activation.int8_buffers().expect("quantized");
        check(&x, &codes.to_vec::<i8>().expect("reads"), &meta.to_vec::<f32>().expect("reads"));
    }
}

#[test]
fn what_cannot_be_quantized_stays_exact() {
    let device = crate::testing::device(1);
    let room = Int8Buffers::new(&device, 64).expect("allocates");
    let mut enc = device.encoder("test").expect("opens");
    let odd = device.alloc(DType::F32, &[2, 31]).expect("allocates");
    assert!(Activation::quantize(&mut enc, &odd, &room).expect("exact").int8_buffers().is_none());
    let large = device.alloc(DType::F32, &[3, 32]).expect("allocates");
    assert!(Activation::quantize(&mut enc, &large, &room).is_err());
    enc.commit_and_wait().expect("nothing to run");
}
