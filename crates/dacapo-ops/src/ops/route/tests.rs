//! The choice of experts against plain f64 arithmetic.

use dacapo::DType;
use proptest::prelude::*;

use super::cpu::token;
use super::{Params, RouteOptions, Scoring, route};
use crate::simd::Level;
use crate::testing::{device, normal};

/// Numbers of experts and their weights, by the definition.
fn expected(logits: &[f32], bias: Option<&[f32]>, k: usize, options: RouteOptions) -> (Vec<u32>, Vec<f64>) {
    let x: Vec<f64> = logits.iter().map(|&v| f64::from(v)).collect();
    let scores: Vec<f64> = match options.scoring {
        Scoring::Sigmoid => x.iter().map(|v| 1.0 / (1.0 + (-v).exp())).collect(),
        Scoring::Softmax => {
            let sum: f64 = x.iter().map(|v| v.exp()).sum();
            x.iter().map(|v| v.exp() / sum).collect()
        }
    };
    let by = |i: usize| bias.map_or(x[i], |bias| scores[i] + f64::from(bias[i]));
    let mut order: Vec<usize> = (0..x.len()).collect();
    order.sort_by(|&a, &b| by(b).total_cmp(&by(a)));
    order.truncate(k);
    let sum: f64 = order.iter().map(|&i| scores[i]).sum();
    let factor = f64::from(options.scale) / if options.normalized { sum } else { 1.0 };
    (order.iter().map(|&i| i as u32).collect(), order.iter().map(|&i| scores[i] * factor).collect())
}

fn options(which: usize, normalized: bool) -> RouteOptions {
    let scoring = [Scoring::Softmax, Scoring::Sigmoid][which];
    RouteOptions { scoring, normalized, scale: if which == 0 { 1.0 } else { 2.5 } }
}

proptest! {
    #[test]
    fn agrees_with_the_definition_at_every_level(
        (experts, k) in (1usize..70).prop_flat_map(|e| (Just(e), 1..=e.min(9))),
        which in 0usize..2,
        normalized in any::<bool>(),
        biased in any::<bool>(),
        seed: u64,
    ) {
        let options = options(which, normalized);
        let logits: Vec<f32> = normal(seed, experts).iter().map(|v| 2.0 * v).collect();
        let bias: Option<Vec<f32>> = biased.then(|| normal(seed ^ 1, experts));
        let (ids, weights) = expected(&logits, bias.as_deref(), k, options);
        for level in Level::available() {
            let params = Params {
                experts: experts as u32,
                chosen: k as u32,
                scale: options.scale,
                normalized: u32::from(normalized),
                scoring: which as u32,
            };
            let (mut found, mut found_weights) = (vec![u32::MAX; k], vec![f32::NAN; k]);
            let (mut scores, mut choice) = (vec![0.0; experts], vec![0.0; experts]);
            let out = (&mut found[..], &mut found_weights[..]);
            token(level, params, &logits, bias.as_deref(), [&mut scores, &mut choice], out);
            prop_assert_eq!(&found, &ids);
            for (found, want) in found_weights.iter().zip(&weights) {
                prop_assert!((f64::from(*found) - want).abs() <= 2e-6 * want, "{found}, not {want}");
            }
        }
    }
}

#[test]
fn equal_logits_go_to_the_lower_number_whatever_the_threads() {
    let mut logits = vec![0.5f32; 40 * 16];
    for row in logits.chunks_exact_mut(16) {
        row[11] = 2.0;
        row[3] = f32::NAN;
    }
    for threads in [1, 3] {
        let device = device(threads);
        let x = device.upload(&logits, &[40, 16]).expect("uploads");
        let (ids, weights) = (device.alloc(DType::U32, &[40, 4]), device.alloc(DType::F32, &[40, 4]));
        let (ids, weights) = (ids.expect("memory"), weights.expect("memory"));
        let mut enc = device.encoder("test").expect("opens");
        route(&mut enc, &x, None, &ids, &weights, options(1, true)).expect("fits");
        enc.commit_and_wait().expect("runs");
        let ids: Vec<u32> = ids.to_vec().expect("reads");
        assert!(ids.chunks_exact(4).all(|ids| ids == [11, 0, 1, 2]), "{ids:?}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let device = device(1);
    let buffer = |dtype, shape: &[usize]| device.alloc(dtype, shape).expect("memory");
    let (x, ids, weights) =
        (buffer(DType::F32, &[3, 8]), buffer(DType::U32, &[3, 2]), buffer(DType::F32, &[3, 2]));
    let mut enc = device.encoder("test").expect("opens");
    let o = options(0, true);
    assert!(route(&mut enc, &x, None, &buffer(DType::F32, &[3, 2]), &weights, o).is_err());
    assert!(route(&mut enc, &x, None, &buffer(DType::U32, &[2, 2]), &weights, o).is_err());
    assert!(route(&mut enc, &x, None, &ids, &buffer(DType::F32, &[3, 9]), o).is_err());
    assert!(route(&mut enc, &x, Some(&buffer(DType::F32, &[7])), &ids, &weights, o).is_err());
    assert!(route(&mut enc, &buffer(DType::F32, &[1, 5000]), None, &ids, &weights, o).is_err());
    route(&mut enc, &x, None, &ids, &weights, o).expect("fits");
    enc.commit_and_wait().expect("runs");
}
