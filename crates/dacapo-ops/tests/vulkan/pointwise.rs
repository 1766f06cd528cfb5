//! Elementwise arithmetic, activations, rotary embeddings.

use dacapo_ops::{ActivationFn, RopeOptions};

use super::{Bench, Rng, both, close, same};

const SHAPES: [(usize, usize); 8] =
    [(1, 1), (2, 3), (7, 33), (33, 64), (1, 1024), (2, 4097), (512, 300), (1, 100_003)];

#[test]
fn sums_products_and_scalings_are_exact() {
    let work = |bench: &Bench, &(rows, dim): &(usize, usize)| {
        let len = rows * dim;
        let (a, b) = (Rng(1).normals(len), Rng(2).normals(len));
        let upload = |values: &[f32]| bench.upload(values, &[rows, dim]);
        let (x, y, bias) = (upload(&a), upload(&b), bench.upload(&b[..dim], &[dim]));
        let [sum, product, scaled] = std::array::from_fn(|_| bench.f32s(&[rows, dim]));
        let (plus, biased, shrunk) = (upload(&a), upload(&a), upload(&a));
        bench.run(|enc| {
            dacapo_ops::add(enc, &x, &y, &sum)?;
            dacapo_ops::mul(enc, &x, &y, &product)?;
            dacapo_ops::scale(enc, &x, &scaled, 0.3)?;
            dacapo_ops::add_in_place(enc, &plus, &y)?;
            dacapo_ops::add_bias(enc, &biased, &bias)?;
            dacapo_ops::scale_in_place(enc, &shrunk, -1.7)
        });
        [sum, product, scaled, plus, biased, shrunk].map(|out| out.to_vec::<f32>().unwrap())
    };
    both(SHAPES, work, |case, want, got| {
        for (which, (want, got)) in want.iter().zip(&got).enumerate() {
            same(&(case, which), want, got);
        }
    });
}

#[test]
fn caps_are_soft() {
    let work = |bench: &Bench, &(rows, dim): &(usize, usize)| {
        let mut values = Rng(1).normals(rows * dim);
        values.iter_mut().enumerate().for_each(|(i, x)| *x *= 10f32.powi(i as i32 % 7 - 3));
        let (x, out) = (bench.upload(&values, &[rows, dim]), bench.f32s(&[rows, dim]));
        let in_place = bench.upload(&values, &[rows, dim]);
        bench.run(|enc| {
            dacapo_ops::softcap(enc, &x, &out, 30.0)?;
            dacapo_ops::softcap_in_place(enc, &in_place, 50.0)
        });
        [out, in_place].map(|out| out.to_vec::<f32>().unwrap())
    };
    both(SHAPES, work, |case, want, got| {
        close(case, &want[0], &got[0], 1e-6, 0.0);
        close(case, &want[1], &got[1], 1e-6, 0.0);
    });
}

#[test]
fn activations() {
    let work = |bench: &Bench, &(rows, dim): &(usize, usize)| {
        let mut values = Rng(1).normals(rows * dim);
        values.iter_mut().for_each(|x| *x *= 4.0);
        let far = [-1e30, -200.0, -60.0, 60.0, 200.0, 1e10, 0.0, -0.0, f32::NAN, 1e-30];
        let len = values.len().min(far.len());
        values[..len].copy_from_slice(&far[..len]);
        let up = Rng(2).normals(rows * dim);
        let (x, up) = (bench.upload(&values, &[rows, dim]), bench.upload(&up, &[rows, dim]));
        let functions =
            [ActivationFn::Silu, ActivationFn::Gelu, ActivationFn::GeluTanh, ActivationFn::Sigmoid];
        let outs = functions.map(|function| (function, bench.f32s(&[rows, dim]), bench.f32s(&[rows, dim])));
        bench.run(|enc| {
            outs.iter().try_for_each(|(function, plain, gated)| {
                dacapo_ops::activate(enc, &x, plain, *function)?;
                dacapo_ops::gated(enc, &x, &up, gated, *function)
            })
        });
        outs.map(|(_, plain, gated)| [plain, gated].map(|out| out.to_vec::<f32>().unwrap()))
    };
    both(SHAPES, work, |case, want, got| {
        for (which, (want, got)) in want.iter().flatten().zip(got.iter().flatten()).enumerate() {
            // Far below zero GELU is the difference of numbers near 1.
            close(&(case, which), want, got, 2e-6, 4e-7);
        }
    });
}

#[derive(Debug, Clone, Copy)]
struct Rotation {
    tokens: usize,
    heads: usize,
    dim: usize,
    pairs: usize,
    position: u32,
}

#[test]
fn rotations() {
    let mut cases = Vec::new();
    for position in [0, 1, 100, 4095, 32_768, 200_000] {
        for (tokens, heads, dim, pairs) in [
            (1, 32, 128, 64),
            (2, 3, 64, 32),
            (7, 2, 10, 3),
            (33, 8, 128, 64),
            (1, 1, 512, 256),
            (3, 2, 700, 300),
        ] {
            cases.push(Rotation { tokens, heads, dim, pairs, position });
        }
    }
    let work = |bench: &Bench, case: &Rotation| {
        let &Rotation { tokens, heads, dim, pairs, position } = case;
        let values = Rng(u64::from(position)).normals(tokens * heads * dim);
        let shape = [tokens, heads, dim];
        let inv_freq: Vec<f32> = (0..pairs).map(|i| 10_000f32.powf(-(i as f32) / pairs as f32)).collect();
        let inv_freq = bench.upload(&inv_freq, &[pairs]);
        let step = bench.upload(&[position], &[1]);
        let (halves, neighbours) = (bench.upload(&values, &shape), bench.upload(&values, &shape));
        bench.run(|enc| {
            dacapo_ops::rope(enc, &halves, &inv_freq, &step, RopeOptions::default())?;
            let options = RopeOptions { interleaved: true, attention_factor: 1.25 };
            dacapo_ops::rope(enc, &neighbours, &inv_freq, &step, options)
        });
        [halves, neighbours].map(|out| out.to_vec::<f32>().unwrap())
    };
    // Cosine and sine are within 1.5e-7, the elements within 6.
    both(cases, work, |case, want, got| {
        close(case, &want[0], &got[0], 0.0, 2e-6);
        close(case, &want[1], &got[1], 0.0, 2e-6);
    });
}

/// Angles of both signs and all sizes, against double precision.
#[test]
fn angles_are_accurate_however_large() {
    let frequencies: Vec<f32> =
        (0..500).map(|i| 10f32.powf(i as f32 / 70.0 - 6.0) * if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let work = |bench: &Bench, &position: &u32| {
        let pairs = frequencies.len();
        let values: Vec<f32> = (0..2 * pairs).map(|i| if i < pairs { 1.0 } else { 0.0 }).collect();
        let (x, inv_freq) = (bench.upload(&values, &[1, 1, 2 * pairs]), bench.upload(&frequencies, &[pairs]));
        let step = bench.upload(&[position], &[1]);
        bench.run(|enc| dacapo_ops::rope(enc, &x, &inv_freq, &step, RopeOptions::default()));
        x.to_vec::<f32>().unwrap()
    };
    both([1, 3, 77, 1000, 32_767, 1_000_000], work, |position, _, got| {
        let (cosines, sines) = got.split_at(frequencies.len());
        for ((f, cos), sin) in frequencies.iter().zip(cosines).zip(sines) {
            let (s, c) = f64::from(*position as f32 * f).sin_cos();
            let worst = (f64::from(*cos) - c).abs().max((f64::from(*sin) - s).abs());
            assert!(worst < 1.5e-7, "{position} * {f}: off by {worst:e}");
        }
    });
}
