//! The kernels of split attention against those of attention in one piece, on the CPU.

use dacapo::{DType, Device, DeviceOptions, FusePattern, FuseStep, GraphOptions, Link, Selector};
use half::f16;

use super::*;

fn noise(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Results in one piece and in `splits`.
fn both(
    device: &Device,
    splits: usize,
    tokens: usize,
    position: usize,
    options: AttentionOptions,
    sinks: bool,
) -> [Vec<f32>; 2] {
    let (heads, kv_heads, slots, key_dim, value_dim) = (6, 2, 1300, 20, 13);
    let q = device.upload(&noise(1, tokens * heads * key_dim), &[tokens, heads, key_dim]).expect("memory");
    let cache = |seed, dim| {
        let shape = [kv_heads, slots, dim];
        let values: Vec<f16> = noise(seed, shape.iter().product()).into_iter().map(f16::from_f32).collect();
        device.upload(&values, &shape).expect("memory")
    };
    let (k, v) = (cache(2, key_dim), cache(3, value_dim));
    let sinks = sinks.then(|| device.upload(&noise(4, heads), &[heads]).expect("memory"));
    let step = device.upload(&[position as u32], &[1]).expect("memory");
    let out = [(); 2].map(|()| device.alloc(DType::F32, &[tokens, heads, value_dim]).expect("memory"));
    let params = check_arguments("test", &q, &k, &v, &out[0], options).expect("fits");
    let mut enc = device.encoder("test").expect("an encoder");
    enc.start_capture().expect("captures");
    for (out, splits) in out.iter().zip([1, splits]) {
        let args = Arguments { q: &q, k_cache: &k, v_cache: &v, step: &step, sinks: sinks.as_ref(), out };
        match splits {
            1 => args.dispatch(&mut enc, &params).expect("fits"),
            _ => split::attention(&mut enc, &args, &params, splits).expect("fits"),
        }
    }
    let graph = enc.take_capture().expect("captured");
    let graph = graph.compile(device, "test", &GraphOptions::default()).expect("compiles");
    graph.replay().and_then(|replay| replay.wait()).expect("runs");
    out.map(|out| out.to_vec().expect("finished"))
}

#[test]
fn splits_come_together_to_the_same() {
    let device = Device::open(DeviceOptions::default()).expect("the CPU is there");
    let plain = AttentionOptions::causal(0.5);
    let window = AttentionOptions { window: Some(150), softcap: Some(2.0), ..plain };
    for (position, tokens) in [(0, 1), (63, 1), (64, 3), (511, 1), (800, 8), (1299, 1), (1298, 2)] {
        for splits in [2, 3, 5, 100] {
            for (options, sinks) in [(plain, false), (plain, true), (window, true)] {
                let [whole, split] = both(&device, splits, tokens, position, options, sinks);
                if tokens == 1 && splits > 5 {
                    assert!(whole == split, "not the same bits at {position}");
                }
                for (whole, split) in whole.iter().zip(&split) {
                    assert!(
                        (whole - split).abs() < 2e-6,
                        "{whole} in one, {split} in {splits} at {position}"
                    );
                }
            }
        }
    }
}

/// One token over caches of few heads is shared by all threads, and its result is the same bits on any number of them.
#[test]
fn threads_share_the_positions_of_few_heads() {
    for (kv_heads, window, position) in
        [(1, None, 1099_u32), (2, None, 700), (3, Some(600), 2500), (2, None, 100), (8, None, 1099)]
    {
        let (heads, slots, dim) = (2 * kv_heads, 1100, 32);
        let run = |threads| {
            let device = crate::testing::device(threads);
            let upload = |seed, shape: &[usize]| {
                device.upload(&noise(seed, shape.iter().product()), shape).expect("memory")
            };
            let q = upload(1, &[1, heads, dim]);
            let (k, v) = (upload(2, &[kv_heads, slots, dim]), upload(3, &[kv_heads, slots, dim]));
            let step = device.upload(&[position], &[1]).expect("memory");
            let out = device.alloc(DType::F32, &[1, heads, dim]).expect("memory");
            let options = AttentionOptions { window, ..AttentionOptions::causal(0.5) };
            let mut enc = device.encoder("test").expect("an encoder");
            enc.start_capture().expect("captures");
            attention(&mut enc, &q, &k, &v, &step, None, &out, options).expect("fits");
            let graph = enc.take_capture().expect("captured");
            let kernels: Vec<_> = graph.nodes().iter().map(|node| node.kernel().name).collect();
            let graph = graph.compile(&device, "test", &GraphOptions::default()).expect("compiles");
            graph.replay().and_then(|replay| replay.wait()).expect("runs");
            (kernels, out.to_vec::<f32>().expect("finished"))
        };
        let (alone, expected) = run(1);
        assert_eq!(alone, ["attention"]);
        for threads in [2, 3, 8] {
            let (kernels, found) = run(threads);
            let shared = kv_heads < 4 * threads && !kv_heads.is_multiple_of(threads);
            let names: &[_] = if shared { &["attention_part", "attention_combine"] } else { &["attention"] };
            assert_eq!(kernels, names, "{kv_heads} heads, {threads} threads");
            assert!(found == expected, "{kv_heads} heads at {position} on {threads} threads");
        }
    }
}

/// Splits that come together as int8 are the bytes of the two kernels that do it one after the other.
#[test]
fn splits_come_together_to_int8() {
    let device = Device::open(DeviceOptions::default()).expect("the CPU is there");
    let (heads, kv_heads, slots, dim) = (6, 2, 300, 64);
    let upload =
        |seed, shape: &[usize]| device.upload(&noise(seed, shape.iter().product()), shape).expect("memory");
    let (q, k) = (upload(1, &[2, heads, dim]), upload(2, &[kv_heads, slots, dim]));
    let (v, step) = (upload(3, &[kv_heads, slots, dim]), device.upload(&[250_u32], &[1]).expect("memory"));
    let codes = device.alloc(DType::I8, &[2 * heads * dim]).expect("memory");
    let meta = device.alloc(DType::F32, &[2 * heads * dim / 32, 4]).expect("memory");
    let out = device.transient(DType::F32, &[2, heads, dim]).expect("a value");
    let params = check_arguments("test", &q, &k, &v, &out, AttentionOptions::causal(0.5)).expect("fits");
    let mut enc = device.encoder("test").expect("an encoder");
    enc.start_capture().expect("captures");
    let args = Arguments { q: &q, k_cache: &k, v_cache: &v, step: &step, sinks: None, out: &out };
    split::attention(&mut enc, &args, &params, 3).expect("fits");
    crate::quantize_q8(&mut enc, &out, &codes, &meta).expect("fits");
    let graph = enc.take_capture().expect("captured");
    static ROW: [FusePattern; 1] = [FusePattern {
        name: "test",
        steps: &[
            FuseStep { select: Selector::Kernel("attention_combine"), link: Link::Reads },
            FuseStep { select: Selector::Kernel("quantize_q8"), link: Link::Reads },
        ],
        build: quantized::build_combine,
        spread: false,
        gains: &[],
    }];
    assert_eq!(graph.fuse(&device, &ROW).1.fused.len(), 1);
    let [plain, fused] = [&[][..], &ROW].map(|fuse| {
        codes.copy_from(&vec![0_i8; codes.len()]).expect("idle");
        let options = GraphOptions { fuse, ..GraphOptions::default() };
        let graph = graph.compile(&device, "test", &options).expect("compiles");
        graph.replay().and_then(|replay| replay.wait()).expect("runs");
        (codes.to_vec::<i8>().expect("finished"), meta.to_vec::<f32>().expect("finished"))
    });
    assert!(plain == fused && plain.0.iter().any(|&code| code != 0));
}

/// Splits that rotate their own queries and bring the newest key and value give the bytes of the kernels that do it one
/// after the other: in the caches, and in what comes of the splits.
#[test]
fn splits_take_queries_as_products_left_them() {
    let device = Device::open(DeviceOptions::default()).expect("the CPU is there");
    let anywhere: &'static [FusePattern] =
        crate::FUSIONS.iter().map(|row| FusePattern { gains: &[], ..*row }).collect::<Vec<_>>().leak();
    for (position, slots, window, normed, half) in [
        (0_u32, 300, None, true, true),
        (63, 300, None, false, true),
        (64, 300, None, true, false),
        (299, 300, None, false, false),
        (777, 200, Some(200), true, true),
        (777, 230, Some(190), false, true),
    ] {
        let (heads, kv_heads, dim, value_dim) = (6, 2, 40, 24);
        let upload = |seed, shape: &[usize]| {
            device.upload(&noise(seed, shape.iter().product()), shape).expect("memory")
        };
        let cache = |seed, dim| {
            let (values, shape) = (noise(seed, kv_heads * slots * dim), [kv_heads, slots, dim]);
            let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
            let whole = if half { device.upload(&halves, &shape) } else { device.upload(&values, &shape) };
            whole.expect("memory")
        };
        let inputs = [(heads, dim), (kv_heads, dim), (kv_heads, value_dim)].map(|(h, d)| [1, h, d]);
        let (given, inv_freq) = ([1, 2, 3].map(|i| upload(i, &inputs[i as usize - 1])), upload(4, &[16]));
        let (weights, step) = ([upload(5, &[dim]), upload(6, &[dim])], device.upload(&[position], &[1]));
        let step = step.expect("memory");
        let run = |fuse: &'static [FusePattern]| {
            let (k_cache, v_cache) = (cache(7, dim), cache(8, value_dim));
            let out = device.alloc(DType::F32, &[1, heads, value_dim]).expect("memory");
            let mut enc = device.encoder("test").expect("an encoder");
            enc.start_capture().expect("captures");
            let [q, k, v] = [0, 1, 2].map(|i| {
                let value = device.transient(DType::F32, &inputs[i]).expect("a value");
                crate::copy(&mut enc, &given[i], &value).expect("fits");
                value
            });
            for (x, weight) in [(&q, &weights[0]), (&k, &weights[1])] {
                if normed {
                    crate::rms_norm_in_place(&mut enc, x, Some(weight), 1e-5).expect("fits");
                }
                crate::rope(&mut enc, x, &inv_freq, &step, crate::RopeOptions::default()).expect("fits");
            }
            crate::kv_write(&mut enc, &k, &v, &step, &k_cache, &v_cache).expect("fits");
            let options = AttentionOptions { window, ..AttentionOptions::causal(0.3) };
            let params = check_arguments("test", &q, &k_cache, &v_cache, &out, options).expect("fits");
            let args = Arguments {
                q: &q,
                k_cache: &k_cache,
                v_cache: &v_cache,
                step: &step,
                sinks: None,
                out: &out,
            };
            split::attention(&mut enc, &args, &params, 3).expect("fits");
            let graph = enc.take_capture().expect("captured");
            let kernel = graph.fuse(&device, fuse).1.fused.last().map(|fused| fused.kernel);
            let options = GraphOptions { fuse, ..GraphOptions::default() };
            let graph = graph.compile(&device, "test", &options).expect("compiles");
            graph.replay().and_then(|replay| replay.wait()).expect("runs");
            let bytes = [k_cache, v_cache, out].map(|buffer| {
                let bytes = buffer.reinterpret(0, DType::U8, &[buffer.byte_len()]).expect("bytes");
                bytes.to_vec::<u8>().expect("finished")
            });
            (kernel, bytes)
        };
        let ((_, plain), (kernel, fused)) = (run(&[]), run(anywhere));
        let expected = if normed { "rms_norm_rope_attention_part" } else { "rope_attention_part" };
        assert_eq!(kernel, Some(expected), "at {position}");
        assert!(plain == fused, "other bytes at {position}");
    }
}
