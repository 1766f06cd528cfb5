//! The kernels of the table of fusions: a graph that is fused on a GPU against the same graph as it was recorded
//! on the CPU. That the CPU twins give the bytes of what they replace is shown in `tests/fusion`.

use dacapo::{Buffer, CommandEncoder, DType, FuseReport, GraphOptions};
use dacapo_ops::{ActivationFn, AttentionOptions, RopeOptions};
use half::f16;

use super::{Bench, Rng, both, close, device, same};

/// Records something and runs it as a graph, fused as on a GPU. On one the kernels that came in have to be these.
pub fn run(bench: &Bench, kernels: &[&str], record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) {
    let report = fuse_and_run(bench, record);
    if bench.is_gpu {
        let found: Vec<_> = report.fused.iter().map(|fused| fused.kernel).collect();
        assert_eq!(found, kernels, "{:?}", report.refused);
    }
}

/// Records something and runs it as a graph, fused if this is a GPU.
fn fuse_and_run(bench: &Bench, record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) -> FuseReport {
    let mut encoder = bench.device.encoder("test").expect("an encoder");
    encoder.start_capture().expect("captures");
    record(&mut encoder).expect("the arguments fit");
    let graph = encoder.take_capture().expect("captured");
    if bench.is_gpu {
        return device::run_fused(&bench.device, &graph).1;
    }
    let compiled = graph.compile(&bench.device, "test", &GraphOptions::default()).expect("compiles");
    compiled.replay().and_then(|replay| replay.wait()).expect("the kernels run");
    graph.fuse(&bench.device, &[]).1
}

/// A value that only kernels see, a copy of this input.
pub fn made(
    bench: &Bench,
    enc: &mut CommandEncoder,
    values: &[f32],
    shape: &[usize],
) -> dacapo::Result<Buffer> {
    let (input, value) = (bench.upload(values, shape), bench.device.transient(DType::F32, shape)?);
    dacapo_ops::copy(enc, &input, &value)?;
    Ok(value)
}

/// Where codes go, four to a word and so at odd places.
pub struct Quantized {
    words: Buffer,
    codes: Buffer,
    meta: Buffer,
}

impl Quantized {
    pub fn new(bench: &Bench, len: usize) -> Self {
        let words = bench.alloc::<u32>(&[len / 4]);
        let codes = words.reinterpret(0, DType::I8, &[len]).expect("as many bytes");
        Quantized { words, codes, meta: bench.f32s(&[len / 32, 4]) }
    }

    pub fn record(&self, enc: &mut CommandEncoder, x: &Buffer) -> dacapo::Result<()> {
        dacapo_ops::quantize_q8(enc, x, &self.codes, &self.meta)
    }

    pub fn read(&self) -> (Vec<i8>, Vec<f32>) {
        let words = self.words.to_vec::<u32>().expect("finished");
        (bytemuck::cast_slice(&words).to_vec(), self.meta.to_vec().expect("finished"))
    }
}

/// Fails unless the scales agree to within this share, what is beside them belongs to the codes, and no
/// code differs by more than one: values that differ in their last bits may be rounded to either side.
pub fn near(case: &impl std::fmt::Debug, want: &(Vec<i8>, Vec<f32>), got: &(Vec<i8>, Vec<f32>), share: f32) {
    assert_eq!((want.0.len(), want.1.len()), (got.0.len(), got.1.len()), "{case:?}");
    let blocks = got.0.chunks(32).zip(got.1.chunks(4));
    let mut others = 0;
    for (i, ((want, about), (codes, meta))) in want.0.chunks(32).zip(want.1.chunks(4)).zip(blocks).enumerate()
    {
        if about[0].is_nan() {
            assert!(meta.iter().all(|x| x.is_nan()), "{case:?}: block {i} is {meta:?}");
            continue;
        }
        close(&(case, i), &about[..1], &meta[..1], share, 1e-9);
        let sum = |codes: &[i8]| codes.iter().map(|&code| i32::from(code)).sum::<i32>() as f32;
        let sums = [codes, &codes[..16], &codes[16..]].map(|codes| meta[0] * sum(codes));
        same(&(case, i), &sums, &meta[1..]);
        for (want, code) in want.iter().zip(codes) {
            assert!(want.abs_diff(*code) <= 1, "{case:?}: block {i} has {code}, not {want}");
            others += usize::from(want != code);
        }
    }
    assert!(others <= 2 + got.0.len() / 200, "{case:?}: {others} codes are others");
}

const ROWS: [(usize, usize); 10] = [
    (1, 32),
    (7, 64),
    (3, 96),
    (33, 128),
    (2, 1024),
    (1, 1056),
    (1, 4096),
    (3, 4128),
    (1, 9024),
    (2, 20_000),
];

/// Values of rows of different size; a block of zeros, a tiny one and, if asked for, one that is not finite.
fn rows(seed: u64, (rows, dim): (usize, usize), strange: bool) -> Vec<f32> {
    let mut rng = Rng(seed + dim as u64);
    let mut values: Vec<f32> = (0..rows * dim).map(|i| rng.normal() * (1.0 + (i / dim % 5) as f32)).collect();
    if dim >= 96 {
        values[32..64].fill(0.0);
        values[64..96].iter_mut().for_each(|x| *x *= 1e-37);
    }
    if strange {
        *values.last_mut().expect("not empty") = f32::NAN;
    }
    values
}

#[test]
fn norms_into_quantization() {
    let work = |bench: &Bench, case: &(usize, usize)| {
        let (shape, len) = ([case.0, case.1], case.0 * case.1);
        let x = bench.upload(&rows(1, *case, case.0 > 2), &shape);
        let weight = bench.upload(&Rng(3).normals(case.1), &[case.1]);
        let [plain, added] = [(); 2].map(|()| Quantized::new(bench, len));
        let sum = bench.f32s(&shape);
        run(bench, &["rms_norm_add_q8", "rms_norm_q8"], |enc| {
            let residual = made(bench, enc, &rows(2, *case, false), &shape)?;
            let out = bench.device.transient(DType::F32, &shape)?;
            dacapo_ops::rms_norm(enc, &x, Some(&weight), &out, 1e-6)?;
            plain.record(enc, &out)?;
            let out = bench.device.transient(DType::F32, &shape)?;
            dacapo_ops::rms_norm_add(enc, &x, &residual, &weight, &sum, &out, 1e-6)?;
            added.record(enc, &out)
        });
        (sum.to_vec::<f32>().unwrap(), [plain.read(), added.read()])
    };
    both(ROWS, work, |case, want, got| {
        // Devices may take the smallest numbers for zero.
        let gone = |(want, got): (&f32, &f32)| {
            want.is_nan() != got.is_nan() || (want - got).abs() > f32::MIN_POSITIVE
        };
        assert!(!want.0.iter().zip(&got.0).any(gone), "{case:?}: {:?}, not {:?}", got.0, want.0);
        near(&(case, "plain"), &want.1[0], &got.1[0], 4e-6);
        near(&(case, "added"), &want.1[1], &got.1[1], 4e-6);
    });
}

#[test]
fn gated_activations_into_quantization() {
    let functions = [ActivationFn::Silu, ActivationFn::Gelu, ActivationFn::GeluTanh, ActivationFn::Sigmoid];
    let cases = ROWS.into_iter().zip(functions.into_iter().cycle());
    let work = |bench: &Bench, &(case, function): &((usize, usize), ActivationFn)| {
        let shape = [case.0, case.1];
        let gate = bench.upload(&rows(1, case, case.0 > 2), &shape);
        let up = bench.upload(&rows(2, case, false), &shape);
        let quantized = Quantized::new(bench, case.0 * case.1);
        run(bench, &["gated_q8"], |enc| {
            let out = bench.device.transient(DType::F32, &shape)?;
            dacapo_ops::gated(enc, &gate, &up, &out, function)?;
            quantized.record(enc, &out)
        });
        quantized.read()
    };
    both(cases, work, |case, want, got| near(case, &want, &got, 4e-6));
}

#[derive(Debug, Clone, Copy)]
struct Heads {
    kv_heads: usize,
    key_dim: usize,
    value_dim: usize,
    pairs: usize,
    half: bool,
    normed: bool,
    interleaved: bool,
    position: u32,
}

/// Queries and keys, normalized or not, rotated; keys and values into caches of 64 slots.
fn heads(bench: &Bench, case: &Heads) -> [Vec<f32>; 3] {
    let &Heads { kv_heads, key_dim, value_dim, pairs, .. } = case;
    let (q_shape, k_shape) = ([1, 2 * kv_heads, key_dim], [1, kv_heads, key_dim]);
    let (mut rng, slots) = (Rng(u64::from(case.position)), 64);
    let mut values = |shape: &[usize]| rng.normals(shape.iter().product());
    let (q, k, v) = (values(&q_shape), values(&k_shape), values(&[kv_heads, value_dim]));
    let weights = [(); 2].map(|()| bench.upload(&values(&[key_dim]), &[key_dim]));
    let inv_freq: Vec<f32> = (0..pairs).map(|i| 10_000_f32.powf(-(i as f32) / pairs as f32)).collect();
    let inv_freq = bench.upload(&inv_freq, &[pairs]);
    let step = bench.upload(&[case.position], &[1]);
    let q = bench.upload(&q, &q_shape);
    let mut cache = |dim: usize| {
        let shape = [kv_heads, slots, dim];
        let old = values(&shape);
        match case.half {
            true => bench.upload(&old.into_iter().map(f16::from_f32).collect::<Vec<_>>(), &shape),
            false => bench.upload(&old, &shape),
        }
    };
    let [k_cache, v_cache] = [cache(key_dim), cache(value_dim)];
    let kernels: &[&str] =
        if case.normed { &["rms_norm_rope_kv_write", "rms_norm_rope"] } else { &["rope_kv_write"] };
    run(bench, kernels, |enc| {
        let k = made(bench, enc, &k, &k_shape)?;
        let v = made(bench, enc, &v, &[1, kv_heads, value_dim])?;
        if case.normed {
            dacapo_ops::rms_norm_in_place(enc, &q, Some(&weights[0]), 1e-6)?;
            dacapo_ops::rms_norm_in_place(enc, &k, Some(&weights[1]), 1e-6)?;
        }
        let options = RopeOptions { interleaved: case.interleaved, attention_factor: 1.25 };
        dacapo_ops::rope(enc, &q, &inv_freq, &step, options)?;
        dacapo_ops::rope(enc, &k, &inv_freq, &step, options)?;
        dacapo_ops::kv_write(enc, &k, &v, &step, &k_cache, &v_cache)
    });
    let wide = |cache: &Buffer| match case.half {
        true => cache.to_vec::<f16>().unwrap().into_iter().map(f16::to_f32).collect(),
        false => cache.to_vec::<f32>().unwrap(),
    };
    [q.to_vec::<f32>().unwrap(), wide(&k_cache), wide(&v_cache)]
}

#[test]
fn heads_into_the_cache() {
    let mut cases = Vec::new();
    for (kv_heads, key_dim, value_dim, pairs) in [
        (8, 128, 128, 64),
        (2, 64, 32, 32),
        (3, 10, 6, 3),
        (2, 7, 13, 3),
        (1, 600, 512, 300),
        (4, 80, 80, 20),
    ] {
        for (half, normed, interleaved, position) in [
            (true, true, false, 0),
            (true, false, true, 77),
            (false, true, true, 4095),
            (false, false, false, 32_768),
            (true, true, true, 63),
        ] {
            cases.push(Heads { kv_heads, key_dim, value_dim, pairs, half, normed, interleaved, position });
        }
    }
    both(cases, heads, |case, want, got| {
        // Cosine and sine are within 1.5e-7, elements within 6, norms within 2e-6 of a value; a half is within 2^-11.
        close(&(case, "q"), &want[0], &got[0], 2e-6, 4e-6);
        close(&(case, "keys"), &want[1], &got[1], if case.half { 1e-3 } else { 2e-6 }, 4e-6);
        same(&(case, "values"), &want[2], &got[2]);
    });
}

/// One token over caches that are short, or long enough to be split among workgroups.
#[derive(Debug, Clone, Copy)]
struct Attention {
    kv_heads: usize,
    group: usize,
    key_dim: usize,
    value_dim: usize,
    slots: usize,
    position: u32,
    half: bool,
}

fn attention(bench: &Bench, case: &Attention) -> (Vec<i8>, Vec<f32>) {
    let &Attention { kv_heads, group, key_dim, value_dim, slots, position, half } = case;
    let mut rng = Rng(u64::from(position));
    let heads = kv_heads * group;
    let q = bench.upload(&rng.normals(heads * key_dim), &[1, heads, key_dim]);
    let mut cache = |dim: usize| {
        let (values, shape) = (rng.normals(kv_heads * slots * dim), [kv_heads, slots, dim]);
        match half {
            true => bench.upload(&values.into_iter().map(f16::from_f32).collect::<Vec<_>>(), &shape),
            false => {
                let values: Vec<_> = values.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
                bench.upload(&values, &shape)
            }
        }
    };
    let [k_cache, v_cache] = [cache(key_dim), cache(value_dim)];
    let step = bench.upload(&[position], &[1]);
    let quantized = Quantized::new(bench, heads * value_dim);
    let report = fuse_and_run(bench, |enc| {
        let out = bench.device.transient(DType::F32, &[1, heads, value_dim])?;
        let options = AttentionOptions::causal(0.4 / (key_dim as f32).sqrt());
        dacapo_ops::attention(enc, &q, &k_cache, &v_cache, &step, None, &out, options)?;
        quantized.record(enc, &out)
    });
    if bench.is_gpu {
        let found: Vec<_> = report.fused.iter().map(|fused| fused.kernel).collect();
        // How many processors a device has decides whether positions are split.
        let split = report.dispatches == 2;
        let kernel = if split { "attention_combine_q8" } else { "attention_q8" };
        assert_eq!(found, [kernel], "{:?}", report.refused);
        assert_eq!(split, report.dispatches_before == 3);
    }
    quantized.read()
}

#[test]
fn attention_into_quantization() {
    let mut cases = Vec::new();
    for (kv_heads, group, key_dim, value_dim) in
        [(1, 2, 128, 128), (2, 3, 20, 32), (1, 4, 16, 32), (1, 8, 64, 96), (1, 1, 8, 1024)]
    {
        for (slots, position) in [(64, 0), (300, 299), (1024, 40), (2048, 2000)] {
            for half in [false, true] {
                cases.push(Attention { kv_heads, group, key_dim, value_dim, slots, position, half });
            }
        }
    }
    both(cases, attention, |case, want, got| near(case, &want, &got, 5e-5));
}
