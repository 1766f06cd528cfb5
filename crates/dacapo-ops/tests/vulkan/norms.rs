//! Norms and softmax. They differ by the order of summation, and by the device's square root and division: some 2e-6 of
//! a value. Subtracting a mean adds an error relative to the mean.

use super::{Bench, Rng, both, close, same};

/// Rows and their length.
const SHAPES: [(usize, usize); 14] = [
    (1, 1),
    (1, 7),
    (3, 31),
    (7, 64),
    (33, 128),
    (2, 130),
    (1, 1000),
    (2, 1024),
    (1, 4096),
    (2, 4100),
    (1, 8192),
    (1, 9001),
    (2, 20_000),
    (40_000, 2),
];

fn input(case: &(usize, usize), seed: u64, mean: f32) -> Vec<f32> {
    let mut rng = Rng(seed + case.1 as u64);
    (0..case.0 * case.1).map(|i| rng.normal() * (1.0 + (i / case.1 % 5) as f32) + mean).collect()
}

#[test]
fn rms_norms() {
    let work = |bench: &Bench, case: &(usize, usize)| {
        let shape = [case.0, case.1];
        let x = bench.upload(&input(case, 1, 0.0), &shape);
        let residual = bench.upload(&input(case, 2, 0.1), &shape);
        let weight = bench.upload(&Rng(3).normals(case.1), &[case.1]);
        let [weighted, unit, sum, added] = std::array::from_fn(|_| bench.f32s(&shape));
        let (copy, unit_copy) =
            (bench.upload(&input(case, 1, 0.0), &shape), bench.upload(&input(case, 1, 0.0), &shape));
        bench.run(|enc| {
            dacapo_ops::rms_norm(enc, &x, Some(&weight), &weighted, 1e-6)?;
            dacapo_ops::rms_norm(enc, &x, None, &unit, 1e-5)?;
            dacapo_ops::rms_norm_add(enc, &x, &residual, &weight, &sum, &added, 1e-6)?;
            dacapo_ops::rms_norm_in_place(enc, &copy, Some(&weight), 1e-6)?;
            dacapo_ops::rms_norm_in_place(enc, &unit_copy, None, 1e-6)
        });
        [sum, weighted, unit, added, copy, unit_copy].map(|out| out.to_vec::<f32>().unwrap())
    };
    both(SHAPES, work, |case, want, got| {
        same(&(case, "sum"), &want[0], &got[0]);
        for (which, (want, got)) in want.iter().zip(&got).enumerate() {
            close(&(case, which), want, got, 2e-6, 0.0);
        }
    });
}

#[test]
fn layer_norms() {
    let work = |bench: &Bench, case: &(usize, usize)| {
        let shape = [case.0, case.1];
        let x = bench.upload(&input(case, 1, 3.0), &shape);
        let (weight, bias) = (Rng(3).normals(case.1), Rng(4).normals(case.1));
        let (weight, bias) = (bench.upload(&weight, &[case.1]), bench.upload(&bias, &[case.1]));
        let (plain, biased) = (bench.f32s(&shape), bench.f32s(&shape));
        bench.run(|enc| {
            dacapo_ops::layer_norm(enc, &x, &weight, None, &plain, 1e-5)?;
            dacapo_ops::layer_norm(enc, &x, &weight, Some(&bias), &biased, 1e-5)
        });
        [plain, biased].map(|out| out.to_vec::<f32>().unwrap())
    };
    // Rows of two elements may lie so close together that the mean's rounding shows.
    let shapes = SHAPES.into_iter().filter(|shape| shape.1 != 2);
    both(shapes, work, |case, want, got| {
        for (which, (want, got)) in want.iter().zip(&got).enumerate() {
            close(&(case, which), want, got, 2e-6, 6e-6);
        }
    });
}

#[test]
fn softmaxes() {
    let work = |bench: &Bench, case: &(usize, usize)| {
        let shape = [case.0, case.1];
        let mut values = input(case, 1, 0.0);
        values.iter_mut().for_each(|x| *x *= 6.0);
        // Masked elements, and rows of nothing else.
        values.iter_mut().step_by(17).for_each(|x| *x = f32::NEG_INFINITY);
        let (x, out) = (bench.upload(&values, &shape), bench.f32s(&shape));
        bench.run(|enc| dacapo_ops::softmax(enc, &x, &out, 0.7));
        out.to_vec::<f32>().unwrap()
    };
    both(SHAPES, work, |case, want, got| close(case, &want, &got, 1e-5, 1e-35));
}
