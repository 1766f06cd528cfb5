//! Products with experts against products with each expert's weight alone, bit for bit, and the sums behind them.

use dacapo::{Buffer, DType, Device};
use proptest::prelude::*;

use super::{Experts, Routed, experts_sum, matmul_experts};
use crate::ops::matmul::matmul;
use crate::ops::quantize::{Activation, Int8Buffers};
use crate::quant::{Float, Format, Fp, Ggml};
use crate::testing::{Rng, Sample, device, normal, upload};
use crate::weight::Weight;

/// Some of every kind: dense, affine, with minima, symmetric, of small floats.
const FORMATS: [Format; 7] = [
    Format::Dense(Float::F32),
    Format::Dense(Float::BF16),
    Format::Affine { bits: 4, group: 64, float: Float::BF16 },
    Format::Affine { bits: 3, group: 32, float: Float::F16 },
    Format::Ggml(Ggml::Q4_K),
    Format::Ggml(Ggml::Q8_0),
    Format::Fp(Fp::MxFp4),
];

/// Weights of experts, together and alone.
struct Layer {
    device: Device,
    experts: Experts,
    alone: Vec<Weight>,
}

impl Layer {
    fn new(threads: usize, format: Format, count: usize, n: usize, k: usize) -> Self {
        let device = device(threads);
        let experts = Experts::new(&device, format, count, n, k).expect("memory");
        let alone: Vec<Weight> = (0..count)
            .map(|i| {
                let sample = Sample::new(format, n, k, 91 + i as u64);
                Weight::load(&device, &upload(&device, &sample)).expect("loads")
            })
            .collect();
        alone.iter().enumerate().for_each(|(i, weight)| experts.put(i, weight).expect("fits"));
        Layer { device, experts, alone }
    }

    fn activation(&self, enc: &mut dacapo::CommandEncoder, x: &Buffer, int8: bool) -> Activation {
        if !int8 {
            return Activation::exact(x);
        }
        let room = Int8Buffers::new(&self.device, x.len().next_multiple_of(32)).expect("memory");
        Activation::quantize(enc, x, &room).expect("encodes")
    }

    /// Products of `x` `[rows, k]` with the experts of `ids` `[tokens, chosen]`.
    fn products(&self, x: &[f32], ids: &[u32], chosen: usize, int8: bool) -> Vec<f32> {
        let (n, k) = (self.experts.n(), self.experts.k());
        let x = self.device.upload(x, &[x.len() / k, k]).expect("memory");
        let ids = self.device.upload(ids, &[ids.len() / chosen, chosen]).expect("memory");
        let out = self.device.alloc(DType::F32, &[ids.len(), n]).expect("memory");
        let mut enc = self.device.encoder("test").expect("opens");
        let x = self.activation(&mut enc, &x, int8);
        let routed = Routed::new(&mut enc, &ids, self.experts.count(), false).expect("encodes");
        matmul_experts(&mut enc, &x, &self.experts, &routed, &out).expect("encodes");
        enc.commit_and_wait().expect("runs");
        out.to_vec().expect("reads")
    }

    /// The same, a row at a time.
    fn one_by_one(&self, x: &[f32], ids: &[u32], int8: bool) -> Vec<f32> {
        let (n, k) = (self.experts.n(), self.experts.k());
        let per = ids.len() / (x.len() / k);
        let row = |(i, &id): (usize, &u32)| {
            let x = self.device.upload(&x[i / per * k..][..k], &[1, k]).expect("memory");
            let out = self.device.alloc(DType::F32, &[1, n]).expect("memory");
            let mut enc = self.device.encoder("test").expect("opens");
            let x = self.activation(&mut enc, &x, int8);
            matmul(&mut enc, &x, &self.alone[id as usize], None, &out).expect("encodes");
            enc.commit_and_wait().expect("runs");
            out.to_vec::<f32>().expect("reads")
        };
        ids.iter().enumerate().flat_map(row).collect()
    }
}

/// `chosen` different experts for each token, some of which nobody takes.
fn ids(seed: u64, tokens: usize, experts: usize, chosen: usize) -> Vec<u32> {
    let mut rng = Rng(seed);
    let mut all: Vec<u32> = (0..experts as u32).collect();
    (0..tokens)
        .flat_map(|_| {
            for i in 0..chosen {
                all.swap(i, i + (rng.next_u64() as usize) % (experts - i));
            }
            all[..chosen].to_vec()
        })
        .collect()
}

fn assert_same(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    let differs = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
    assert!(differs.is_none(), "{what}: element {differs:?}");
}

#[test]
fn rows_are_those_of_each_experts_own_product() {
    for format in FORMATS {
        for threads in [1, 3] {
            // Rows that fill no panel, which no expert may take from the next.
            let layer = Layer::new(threads, format, 5, 37, 256);
            for tokens in [1, 2, 9] {
                let ids = ids(7, tokens, 5, 2);
                for (rows, int8) in [(tokens, false), (tokens, true), (2 * tokens, false), (2 * tokens, true)]
                {
                    let x = normal(3, rows * 256);
                    let int8_used = int8 && layer.experts.takes_int8();
                    let found = layer.products(&x, &ids, 2, int8);
                    let what =
                        format!("{format} {tokens} tokens, {rows} rows, int8 {int8}, {threads} threads");
                    assert_same(&found, &layer.one_by_one(&x, &ids, int8_used), &what);
                }
            }
        }
    }
}

/// More rows of one expert than are packed at a time, and experts without any.
#[test]
fn one_expert_may_have_nearly_all_rows() {
    let layer = Layer::new(2, Format::Ggml(Ggml::Q4_0), 6, 48, 64);
    let x = normal(4, 150 * 64);
    let mut ids = vec![4; 150];
    (ids[17], ids[80]) = (0, 5);
    assert_same(&layer.products(&x, &ids, 1, true), &layer.one_by_one(&x, &ids, true), "skewed");
    let beyond: Vec<u32> = ids.iter().map(|&id| if id == 5 { 1000 } else { id }).collect();
    assert_same(&layer.products(&x, &beyond, 1, true), &layer.one_by_one(&x, &ids, true), "no such expert");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_shape_agrees(
        which in 0..FORMATS.len(),
        n in 1usize..80,
        (experts, chosen) in (1usize..9).prop_flat_map(|e| (Just(e), 1..=e)),
        tokens in 1usize..30,
        down in any::<bool>(),
        seed: u64,
    ) {
        let layer = Layer::new(2, FORMATS[which], experts, n, 256);
        let ids = ids(seed, tokens, experts, chosen);
        let x = normal(seed ^ 5, if down { tokens * chosen } else { tokens } * 256);
        let int8 = layer.experts.takes_int8();
        assert_same(&layer.products(&x, &ids, chosen, int8), &layer.one_by_one(&x, &ids, int8), "a shape");
    }

    #[test]
    fn weighted_sums_agree_with_f64(
        tokens in 1usize..9,
        chosen in 1usize..5,
        width in 1usize..70,
        shared in any::<bool>(),
        seed: u64,
    ) {
        let device = device(2);
        let up = |seed: u64, shape: &[usize]| {
            let values = normal(seed, shape.iter().product());
            (device.upload(&values, shape).expect("memory"), values)
        };
        let (y, y_values) = up(seed, &[tokens * chosen, width]);
        let (weights, w) = up(seed ^ 1, &[tokens, chosen]);
        let (extra, extra_values) = up(seed ^ 2, &[tokens, width]);
        let (gate, gates) = up(seed ^ 3, &[tokens]);
        let out = device.alloc(DType::F32, &[tokens, width]).expect("memory");
        let mut enc = device.encoder("test").expect("opens");
        experts_sum(&mut enc, &y, &weights, shared.then_some((&extra, &gate)), &out).expect("encodes");
        enc.commit_and_wait().expect("runs");
        for (i, found) in out.to_vec::<f32>().expect("reads").into_iter().enumerate() {
            let (t, d) = (i / width, i % width);
            let term = |j: usize| f64::from(w[t * chosen + j]) * f64::from(y_values[(t * chosen + j) * width + d]);
            let sigmoid = 1.0 / (1.0 + (-f64::from(gates[t])).exp());
            let mut want: f64 = (0..chosen).map(term).sum();
            if shared {
                want += sigmoid * f64::from(extra_values[i]);
            }
            prop_assert!((f64::from(found) - want).abs() < 1e-5, "{found}, not {want}");
        }
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let layer = Layer::new(1, Format::Ggml(Ggml::Q8_0), 3, 32, 64);
    let d = &layer.device;
    let buffer = |dtype, shape: &[usize]| d.alloc(dtype, shape).expect("memory");
    let mut enc = d.encoder("test").expect("opens");
    let ids = buffer(DType::U32, &[2, 2]);
    assert!(Routed::new(&mut enc, &buffer(DType::F32, &[2, 2]), 3, false).is_err());
    assert!(Routed::new(&mut enc, &buffer(DType::U32, &[4]), 3, false).is_err());
    assert!(Routed::new(&mut enc, &buffer(DType::U32, &[2, 4]), 3, false).is_err());
    let routed = Routed::new(&mut enc, &ids, 3, false).expect("fits");
    let others = Routed::new(&mut enc, &ids, 4, false).expect("fits");
    let x = |rows: usize| Activation::exact(&buffer(DType::F32, &[rows, 64]));
    let out = buffer(DType::F32, &[4, 32]);
    assert!(matmul_experts(&mut enc, &x(3), &layer.experts, &routed, &out).is_err());
    assert!(matmul_experts(&mut enc, &x(2), &layer.experts, &others, &out).is_err());
    assert!(matmul_experts(&mut enc, &x(2), &layer.experts, &routed, &buffer(DType::F32, &[2, 32])).is_err());
    matmul_experts(&mut enc, &x(2), &layer.experts, &routed, &out).expect("fits");
    matmul_experts(&mut enc, &x(4), &layer.experts, &routed, &out).expect("fits");
    enc.commit_and_wait().expect("runs");

    let other =
        Weight::load(d, &upload(d, &Sample::new(Format::Ggml(Ggml::Q4_0), 32, 64, 1))).expect("loads");
    assert!(layer.experts.put(0, &other).is_err());
    assert!(layer.experts.put(3, &layer.alone[0]).is_err());
    assert!(Experts::new(d, Format::Ggml(Ggml::Q8_0), 0, 32, 64).is_err());
    assert!(Experts::new(d, Format::Ggml(Ggml::Q8_0), 2, 32, 65).is_err());
}
