//! The choice of experts, products with them, and their weighted sums.

use dacapo_ops::quant::{Float, Format, Fp, Ggml};
use dacapo_ops::{Activation, Experts, Int8Buffers, RouteOptions, Routed, Scoring};

use super::weights::random_weight;
use super::{Bench, Rng, both, close, same, same_words};

#[derive(Debug, Clone, Copy)]
struct Choice {
    tokens: usize,
    experts: usize,
    k: usize,
    scoring: Scoring,
    bias: bool,
    normalized: bool,
}

/// Few different logits, so that many are equal, where `experts` is odd.
fn logits(case: &Choice) -> Vec<f32> {
    let mut rng = Rng(case.experts as u64);
    let coarse = |x: f32| if case.experts % 2 == 1 { x.round() } else { x };
    rng.normals(case.tokens * case.experts).into_iter().map(coarse).collect()
}

#[test]
fn experts_are_chosen_alike() {
    let shapes = [(1, 4, 2), (3, 60, 4), (2, 128, 8), (5, 33, 33), (1, 300, 6), (1, 1, 1)];
    let cases = shapes.into_iter().enumerate().flat_map(|(i, (tokens, experts, k))| {
        [(Scoring::Softmax, false), (Scoring::Sigmoid, false), (Scoring::Sigmoid, true)]
            .map(|(scoring, bias)| Choice { tokens, experts, k, scoring, bias, normalized: i % 2 == 0 })
    });
    let work = |bench: &Bench, case: &Choice| {
        let x = bench.upload(&logits(case), &[case.tokens, case.experts]);
        // Far from each other, so that the last bit of a score decides nothing.
        let far: Vec<f32> = (0..case.experts).map(|i| ((i * 7) % case.experts) as f32 * 2.0).collect();
        let bias = case.bias.then(|| bench.upload(&far, &[case.experts]));
        let shape = [case.tokens, case.k];
        let (ids, weights) = (bench.alloc::<u32>(&shape), bench.f32s(&shape));
        let options = RouteOptions { scoring: case.scoring, normalized: case.normalized, scale: 1.5 };
        bench.run(|enc| dacapo_ops::route(enc, &x, bias.as_ref(), &ids, &weights, options));
        (ids.to_vec::<u32>().unwrap(), weights.to_vec::<f32>().unwrap())
    };
    both(cases, work, |case, want: (Vec<u32>, Vec<f32>), got| {
        same_words(case, &want.0, &got.0);
        close(case, &want.1, &got.1, 2e-6, 1e-30);
    });
}

#[derive(Debug, Clone, Copy)]
struct Case {
    format: Format,
    n: usize,
    k: usize,
    tokens: usize,
    experts: usize,
    chosen: usize,
    /// Whether each expert's row has activations of its own.
    own: bool,
    int8: bool,
}

/// `chosen` different experts for each token.
fn ids(case: &Case) -> Vec<u32> {
    let mut rng = Rng(case.tokens as u64);
    let mut all: Vec<u32> = (0..case.experts as u32).collect();
    let mut token = || {
        for i in 0..case.chosen {
            all.swap(i, i + rng.below((case.experts - i) as u64) as usize);
        }
        all[..case.chosen].to_vec()
    };
    (0..case.tokens).flat_map(|_| token()).collect()
}

fn products(bench: &Bench, case: &Case) -> Vec<f32> {
    let &Case { format, n, k, tokens, experts: count, chosen, own, int8 } = case;
    let experts = Experts::new(&bench.device, format, count, n, k).expect("memory");
    for i in 0..count {
        experts.put(i, &random_weight(bench, format, n, k, 5 + i as u64)).expect("fits");
    }
    let rows = if own { tokens * chosen } else { tokens };
    let x = bench.upload(&Rng((n + k + rows) as u64).normals(rows * k), &[rows, k]);
    let ids = bench.upload(&ids(case), &[tokens, chosen]);
    let out = bench.f32s(&[tokens * chosen, n]);
    let room = Int8Buffers::new(&bench.device, x.len().next_multiple_of(32)).expect("memory");
    bench.run(|enc| {
        let x = if int8 { Activation::quantize(enc, &x, &room)? } else { Activation::exact(&x) };
        let routed = Routed::new(enc, &ids, count, false)?;
        dacapo_ops::matmul_experts(enc, &x, &experts, &routed, &out)
    });
    out.to_vec().unwrap()
}

/// Fails unless all elements are near, measured by the root of their mean square.
fn near(case: &Case, want: &[f32], got: &[f32]) {
    assert_eq!(want.len(), got.len(), "{case:?}");
    let square: f64 = want.iter().map(|&v| f64::from(v).powi(2)).sum();
    let rms = (square / want.len() as f64).sqrt();
    for (i, (&want, &got)) in want.iter().zip(got).enumerate() {
        let error = f64::from(want - got).abs() / rms;
        assert!(error <= 1e-5, "{case:?}: element {i} is {got:e}, not {want:e}");
    }
}

/// Rows that fill no panel, experts that nobody takes, one token, few, and so many that they are grouped.
#[test]
fn products_with_experts_agree() {
    let four_bits = Format::Affine { bits: 4, group: 64, float: Float::BF16 };
    let formats = [
        (four_bits, 192),
        (Format::Affine { bits: 6, group: 32, float: Float::F16 }, 96),
        (Format::Ggml(Ggml::Q4_K), 256),
        (Format::Ggml(Ggml::Q6_K), 256),
        (Format::Fp(Fp::MxFp4), 64),
        (Format::Dense(Float::F32), 45),
        (Format::Dense(Float::BF16), 64),
    ];
    let mut cases = vec![];
    for (format, k) in formats {
        for (tokens, own) in [(1, false), (1, true), (3, false), (21, false), (11, true)] {
            for int8 in [false, true] {
                if int8 && matches!(format, Format::Dense(_)) {
                    continue;
                }
                cases.push(Case { format, n: 37, k, tokens, experts: 7, chosen: 3, own, int8 });
            }
        }
    }
    // More rows of an expert than a workgroup takes, more rows of weights, more experts than invocations that count them.
    let more =
        Case { format: four_bits, n: 130, k: 64, tokens: 90, experts: 2, chosen: 2, own: false, int8: true };
    cases.push(more);
    cases.push(Case { tokens: 9, n: 16, experts: 150, chosen: 4, ..more });
    // Too large for the texts of small weights, of both kinds of devices.
    cases.push(Case { tokens: 2, n: 300, k: 4096, chosen: 1, ..more });
    cases.push(Case { tokens: 1, n: 4099, k: 1024, chosen: 1, ..more });
    both(cases, products, |case, want, got| near(case, &want, &got));
}

#[test]
fn biases_of_experts_agree() {
    let work = |bench: &Bench, &(tokens, width): &(usize, usize)| {
        let mut rng = Rng(width as u64);
        let bias = bench.upload(&rng.normals(5 * width), &[5, width]);
        let y = bench.upload(&rng.normals(2 * tokens * width), &[2 * tokens, width]);
        // Some are no experts.
        let ids: Vec<u32> = (0..2 * tokens as u32).map(|i| i * 3 % 7).collect();
        let ids = bench.upload(&ids, &[tokens, 2]);
        bench.run(|enc| {
            let routed = Routed::new(enc, &ids, 5, false)?;
            dacapo_ops::experts_bias(enc, &y, &bias, &routed)
        });
        y.to_vec::<f32>().unwrap()
    };
    both([(1, 1), (1, 70), (9, 33)], work, |case, want, got| same(case, &want, &got));
}

#[test]
fn clamped_gates_agree() {
    let work = |bench: &Bench, &len: &usize| {
        let mut rng = Rng(len as u64);
        let mut values = |at: usize| {
            let mut values: Vec<f32> = rng.normals(len).into_iter().map(|v| 5.0 * v).collect();
            values[at % len] = f32::NAN;
            bench.upload(&values, &[len])
        };
        let (gate, up, out) = (values(3), values(5), bench.f32s(&[len]));
        bench.run(|enc| dacapo_ops::gated_clamped(enc, &gate, &up, &out, 1.702, 7.0));
        out.to_vec::<f32>().unwrap()
    };
    both([9, 64, 1000], work, |case, want, got| close(case, &want, &got, 2e-6, 1e-6));
}

#[test]
fn weighted_sums_of_experts_agree() {
    let cases = [(1, 1, 1), (1, 8, 70), (5, 2, 33), (3, 4, 1000)];
    let cases = cases.into_iter().flat_map(|case| [(case, false), (case, true)]);
    let work = |bench: &Bench, &((tokens, chosen, width), shared): &((usize, usize, usize), bool)| {
        let mut rng = Rng(width as u64);
        let y = bench.upload(&rng.normals(tokens * chosen * width), &[tokens * chosen, width]);
        let weights = bench.upload(&rng.normals(tokens * chosen), &[tokens, chosen]);
        let extra = bench.upload(&rng.normals(tokens * width), &[tokens, width]);
        let gate = bench.upload(&rng.normals(tokens), &[tokens, 1]);
        let out = bench.f32s(&[tokens, width]);
        let shared = shared.then_some((&extra, &gate));
        bench.run(|enc| dacapo_ops::experts_sum(enc, &y, &weights, shared, &out));
        out.to_vec::<f32>().unwrap()
    };
    both(cases, work, |case, want, got| close(case, &want, &got, 1e-6, 1e-6));
}
