//! What operations promise beyond their formulas: rings, threads, counts, errors.

use dacapo::{Buffer, DType, Device, Error};
use dacapo_ops::{ActivationFn, AttentionOptions, RopeOptions, SampleParams};
use half::f16;

use super::{alloc, device, read, run};

/// Numbers between -2 and 2.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

fn random(device: &Device, seed: u64, shape: &[usize]) -> Buffer {
    device.upload(&noise(seed, shape.iter().product()), shape).expect("memory")
}

fn words(device: &Device, values: &[u32]) -> Buffer {
    device.upload(values, &[values.len()]).expect("memory")
}

#[test]
fn a_cache_wraps_and_keeps_what_is_not_written() {
    let device = device(2);
    let (heads, slots, dim, value_dim) = (2, 5, 4, 3);
    let k = random(&device, 1, &[3, heads, dim]);
    let v = random(&device, 2, &[3, heads, value_dim]);
    let k_cache =
        device.upload(&vec![f16::from_f32(9.0); heads * slots * dim], &[heads, slots, dim]).expect("memory");
    let v_cache = device
        .upload(&vec![f16::from_f32(9.0); heads * slots * value_dim], &[heads, slots, value_dim])
        .expect("memory");
    let step = words(&device, &[13]);
    run(&device, |enc| dacapo_ops::kv_write(enc, &k, &v, &step, &k_cache, &v_cache));
    for (source, cache, dim) in [(&k, &k_cache, dim), (&v, &v_cache, value_dim)] {
        let (source, cache) = (read(source), cache.to_vec::<f16>().expect("finished"));
        for head in 0..heads {
            for slot in 0..slots {
                // Positions 13, 14 and 15 of five slots.
                let token = [(3, 0), (4, 1), (0, 2)].iter().find(|t| t.0 == slot).map(|t| t.1);
                for d in 0..dim {
                    let want = token.map_or(9.0, |t: usize| source[(t * heads + head) * dim + d]);
                    assert_eq!(
                        cache[(head * slots + slot) * dim + d],
                        f16::from_f32(want),
                        "head {head} slot {slot}"
                    );
                }
            }
        }
    }
}

/// Writes and attends `chunks` of tokens one after another; all outputs.
fn generate(
    threads: usize,
    slots: usize,
    window: Option<usize>,
    chunks: &[usize],
    f16_cache: bool,
) -> Vec<f32> {
    let device = device(threads);
    let (heads, kv_heads, dim) = (4, 2, 24);
    let dtype = if f16_cache { DType::F16 } else { DType::F32 };
    let cache = || device.alloc(dtype, &[kv_heads, slots, dim]).expect("memory");
    let (k_cache, v_cache) = (cache(), cache());
    let inv_freq = device.upload(&[1.0f32, 0.1, 0.01], &[3]).expect("memory");
    let (total, mut position, mut all) = (chunks.iter().sum::<usize>(), 0, Vec::new());
    let rows = |seed, position: usize, tokens: usize, width: usize| {
        noise(seed, total * width)[position * width..(position + tokens) * width].to_vec()
    };
    for &tokens in chunks {
        let input = |seed, heads: usize| {
            device.upload(&rows(seed, position, tokens, heads * dim), &[tokens, heads, dim]).expect("memory")
        };
        let (q, k, v) = (input(5, heads), input(6, kv_heads), input(7, kv_heads));
        let out = alloc(&device, &[tokens, heads, dim]);
        let step = words(&device, &[position as u32]);
        let options = AttentionOptions { window, ..AttentionOptions::causal(0.2) };
        run(&device, |enc| {
            dacapo_ops::rope(enc, &q, &inv_freq, &step, RopeOptions::default())?;
            dacapo_ops::rope(enc, &k, &inv_freq, &step, RopeOptions::default())?;
            dacapo_ops::kv_write(enc, &k, &v, &step, &k_cache, &v_cache)?;
            dacapo_ops::attention(enc, &q, &k_cache, &v_cache, &step, None, &out, options)
        });
        all.extend(read(&out));
        position += tokens;
    }
    all
}

#[test]
fn a_ring_of_the_windows_length_gives_what_a_long_cache_gives() {
    let chunks = [1, 40, 33, 1, 1, 20, 1];
    for f16_cache in [false, true] {
        let long = generate(2, 97, Some(30), &chunks, f16_cache);
        let ring = generate(2, 30 + 40 - 1, Some(30), &chunks, f16_cache);
        assert_eq!(ring, long);
    }
}

#[test]
fn neither_threads_nor_chunks_change_a_result() {
    let whole = generate(1, 150, None, &[150], true);
    assert_eq!(generate(4, 150, None, &[150], true), whole);
    assert_eq!(generate(3, 150, None, &[70, 2, 78], true), whole);
    // One token takes another path, with another order of summation.
    let ones = generate(2, 150, None, &[1; 150], true);
    let worst = ones.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 2e-6, "{worst}");
}

#[test]
fn sums_and_scalings() {
    let device = device(3);
    let (rows, dim) = (300, 70);
    let (a, b) = (random(&device, 1, &[rows, dim]), random(&device, 2, &[rows, dim]));
    let bias = random(&device, 3, &[dim]);
    let (va, vb, vbias) = (read(&a), read(&b), read(&bias));
    let [sum, product, scaled] = std::array::from_fn(|_| alloc(&device, &[rows, dim]));
    run(&device, |enc| {
        dacapo_ops::add(enc, &a, &b, &sum)?;
        dacapo_ops::mul(enc, &a, &b, &product)?;
        dacapo_ops::scale(enc, &a, &scaled, 0.3)?;
        dacapo_ops::scale_in_place(enc, &scaled, 0.5)?;
        dacapo_ops::add_bias(enc, &product, &bias)?;
        dacapo_ops::add_in_place(enc, &b, &a)
    });
    let each = |f: &dyn Fn(usize) -> f32| (0..rows * dim).map(f).collect::<Vec<f32>>();
    assert_eq!(read(&sum), each(&|i| va[i] + vb[i]));
    assert_eq!(read(&b), read(&sum));
    assert_eq!(read(&product), each(&|i| va[i] * vb[i] + vbias[i % dim]));
    assert_eq!(read(&scaled), each(&|i| va[i] * 0.3 * 0.5));
}

#[test]
fn norm_of_a_sum_is_the_norm_and_the_sum() {
    let device = device(3);
    let shape = [200, 130];
    let (x, residual) = (random(&device, 1, &shape), random(&device, 2, &shape));
    let weight = random(&device, 3, &[130]);
    let [sum, out, want_sum, want] = std::array::from_fn(|_| alloc(&device, &shape));
    run(&device, |enc| {
        dacapo_ops::rms_norm_add(enc, &x, &residual, &weight, &sum, &out, 1e-6)?;
        dacapo_ops::add(enc, &x, &residual, &want_sum)?;
        dacapo_ops::rms_norm(enc, &want_sum, Some(&weight), &want, 1e-6)
    });
    assert_eq!(read(&sum), read(&want_sum));
    assert_eq!(read(&out), read(&want));
}

#[test]
fn copies_convert() {
    let device = device(2);
    let x = random(&device, 1, &[20_000]);
    let values = read(&x);
    let [half, brain, half_of_brain] =
        [DType::F16, DType::BF16, DType::F16].map(|t| device.alloc(t, &[20_000]).expect("memory"));
    let [back, same] = std::array::from_fn(|_| alloc(&device, &[20_000]));
    run(&device, |enc| {
        dacapo_ops::copy(enc, &x, &half)?;
        dacapo_ops::copy(enc, &x, &brain)?;
        dacapo_ops::copy(enc, &brain, &half_of_brain)?;
        dacapo_ops::copy(enc, &half, &back)?;
        dacapo_ops::copy(enc, &x, &same)
    });
    assert_eq!(read(&same), values);
    let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
    assert_eq!(half.to_vec::<f16>().expect("finished"), halves);
    assert_eq!(read(&back), halves.iter().map(|v| v.to_f32()).collect::<Vec<f32>>());
    let brains: Vec<half::bf16> = values.iter().map(|&v| half::bf16::from_f32(v)).collect();
    assert_eq!(brain.to_vec::<half::bf16>().expect("finished"), brains);
    let want: Vec<f16> = brains.iter().map(|v| f16::from_f32(v.to_f32())).collect();
    assert_eq!(half_of_brain.to_vec::<f16>().expect("finished"), want);
}

#[test]
fn top_k_gives_values_and_indices_of_each_row() {
    let device = device(2);
    let x = random(&device, 4, &[3, 50]);
    let values = alloc(&device, &[3, 5]);
    let indices = device.alloc(DType::U32, &[3, 5]).expect("memory");
    run(&device, |enc| dacapo_ops::top_k(enc, &x, &values, &indices));
    let (x, values) = (read(&x), read(&values));
    for (row, indices) in indices.to_vec::<u32>().expect("finished").chunks(5).enumerate() {
        let row_values = &x[row * 50..][..50];
        let mut sorted = row_values.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(values[row * 5..][..5], sorted[..5]);
        for (i, &index) in indices.iter().enumerate() {
            assert_eq!(row_values[index as usize], sorted[i]);
        }
    }
}

/// Samples from these logits; the token, and its count afterwards.
fn sampled(
    logits: &[f32],
    params: SampleParams,
    counts: &[u32],
    bias: Option<&[f32]>,
    at: (u32, usize),
) -> (u32, u32) {
    let device = device(1);
    let upload = |values: &[f32]| device.upload(values, &[values.len()]).expect("memory");
    let (logits, counts, params) = (upload(logits), words(&device, counts), words(&device, &params.words()));
    let (step, token) = (words(&device, &[at.0]), words(&device, &[u32::MAX]));
    let bias = bias.map(upload);
    run(&device, |enc| {
        dacapo_ops::sample(enc, &logits, &params, &step, bias.as_ref(), &counts, &token, at.1)
    });
    let token = token.to_vec::<u32>().expect("finished")[0];
    (token, counts.to_vec::<u32>().expect("finished")[token as usize])
}

#[test]
fn sampling_counts_biases_and_penalizes() {
    let logits = [0.5, 3.0, 2.5, -1.0];
    let greedy = SampleParams::GREEDY;
    assert_eq!(sampled(&logits, greedy, &[0, 7, 0, 0], None, (0, 1)), (1, 8));
    assert_eq!(sampled(&logits, greedy, &[0; 4], Some(&[0.0, -1.0, 0.0, 0.0]), (0, 1)), (2, 1));
    let repeated = SampleParams { repetition_penalty: 1.5, ..greedy };
    assert_eq!(sampled(&logits, repeated, &[0, 1, 0, 0], None, (0, 1)), (2, 1));
    let frequent = SampleParams { frequency_penalty: 0.2, ..greedy };
    assert_eq!(sampled(&logits, frequent, &[0, 2, 0, 0], None, (0, 1)).0, 1);
    assert_eq!(sampled(&logits, frequent, &[0, 3, 0, 0], None, (0, 1)).0, 2);
}

#[test]
fn a_draw_depends_on_the_position_and_not_on_the_pass() {
    let logits = noise(3, 500);
    let params = SampleParams { temperature: 1.5, ..SampleParams::GREEDY }.with_seed(77);
    let draw = |step, advance| sampled(&logits, params, &[0; 500], None, (step, advance)).0;
    for position in 1..30 {
        assert_eq!(draw(position, 1), draw(0, position as usize + 1));
    }
    let mut tokens: Vec<u32> = (0..30).map(|position| draw(position, 1)).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert!(tokens.len() > 10, "{tokens:?}");
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    let device = device(1);
    let mut enc = device.encoder("test").expect("an encoder");
    let x = alloc(&device, &[4, 8]);
    let short = alloc(&device, &[7]);
    let step = words(&device, &[0]);
    let out = alloc(&device, &[4, 8]);
    let q = alloc(&device, &[4, 3, 8]);
    let (k, v) = (alloc(&device, &[2, 16, 8]), alloc(&device, &[2, 16, 8]));
    let whole = device.alloc(DType::I32, &[4, 8]).expect("memory");
    let options = AttentionOptions::causal(1.0);
    let results = [
        ("weight", dacapo_ops::rms_norm(&mut enc, &x, Some(&short), &out, 1e-6)),
        ("out", dacapo_ops::rms_norm(&mut enc, &x, None, &short, 1e-6)),
        ("x", dacapo_ops::rms_norm(&mut enc, &whole, None, &out, 1e-6)),
        ("bias", dacapo_ops::layer_norm(&mut enc, &x, &alloc(&device, &[8]), Some(&short), &out, 1e-6)),
        ("up", dacapo_ops::gated(&mut enc, &x, &short, &out, ActivationFn::Silu)),
        ("b", dacapo_ops::add_bias(&mut enc, &x, &short)),
        ("x", dacapo_ops::rope(&mut enc, &x, &short, &step, RopeOptions::default())),
        ("inv_freq", dacapo_ops::rope(&mut enc, &q, &short, &step, RopeOptions::default())),
        ("step", dacapo_ops::rope(&mut enc, &q, &alloc(&device, &[4]), &short, RopeOptions::default())),
        ("k_cache", dacapo_ops::kv_write(&mut enc, &q, &q, &step, &k, &v)),
        ("q", dacapo_ops::attention(&mut enc, &q, &k, &v, &step, None, &q, options)),
        (
            "out",
            dacapo_ops::attention(&mut enc, &alloc(&device, &[4, 2, 8]), &k, &v, &step, None, &x, options),
        ),
        ("out", dacapo_ops::argmax(&mut enc, &x, &out)),
        ("values", dacapo_ops::top_k(&mut enc, &x, &alloc(&device, &[4, 9]), &step)),
        ("out", dacapo_ops::copy(&mut enc, &x, &whole)),
        ("params", dacapo_ops::sample(&mut enc, &x, &step, &step, None, &step, &step, 1)),
    ];
    for (i, (name, result)) in results.into_iter().enumerate() {
        match result {
            Err(Error::Argument { argument, .. }) => assert_eq!(argument, name, "case {i}"),
            other => panic!("case {i}: expected an error about {name}, got {other:?}"),
        }
    }
}
