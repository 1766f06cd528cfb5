//! Argmax and top-k: exact.

use super::{Bench, Rng, both, both_least, same, same_words};

/// What rows are made of.
#[derive(Debug, Clone, Copy)]
enum Values {
    Normal,
    /// Few different ones, so that many are equal; NaN, infinities and both zeros are among them.
    Few,
    Equal,
    Nan,
}

fn row(values: Values, len: usize, seed: u64) -> Vec<f32> {
    const FEW: [f32; 9] = [f32::NAN, f32::NEG_INFINITY, -7.5, -0.0, 0.0, 1.0, 1.5, 3e38, f32::INFINITY];
    let mut rng = Rng(seed);
    (0..len)
        .map(|_| match values {
            Values::Normal => rng.normal() * 3.0,
            Values::Few => FEW[rng.below(if seed.is_multiple_of(2) { 9 } else { 5 }) as usize],
            Values::Equal => 0.25,
            Values::Nan => f32::NAN,
        })
        .collect()
}

type Case = (Values, usize, usize);

fn rows(case: &Case) -> Vec<f32> {
    (0..case.1).flat_map(|r| row(case.0, case.2, (r + case.2) as u64)).collect()
}

const KINDS: [Values; 4] = [Values::Normal, Values::Few, Values::Equal, Values::Nan];

#[test]
fn the_largest_is_found() {
    let shapes = [(1, 1), (2, 7), (33, 64), (1, 1000), (3, 8191), (1, 32_000), (2, 151_936)];
    let cases = KINDS.into_iter().flat_map(|kind| shapes.map(|(rows, dim)| (kind, rows, dim)));
    let work = |bench: &Bench, case: &Case| {
        let x = bench.upload(&rows(case), &[case.1, case.2]);
        let out = bench.alloc::<u32>(&[case.1]);
        bench.run(|enc| dacapo_ops::argmax(enc, &x, &out));
        out.to_vec::<u32>().unwrap()
    };
    both(cases, work, |case, want, got| same_words(case, &want, &got));
}

#[test]
fn the_largest_are_found_in_order() {
    let shapes = [
        (1, 1, 1),
        (2, 7, 3),
        (3, 64, 64),
        (2, 1000, 20),
        (1, 5000, 5000),
        (2, 8191, 1025),
        (1, 151_936, 40),
    ];
    let cases = || KINDS.into_iter().flat_map(|kind| shapes.map(|(rows, dim, k)| ((kind, rows, dim), k)));
    let work = |bench: &Bench, (case, k): &(Case, usize)| {
        let x = bench.upload(&rows(case), &[case.1, case.2]);
        let (values, indices) = (bench.f32s(&[case.1, *k]), bench.alloc::<u32>(&[case.1, *k]));
        bench.run(|enc| dacapo_ops::top_k(enc, &x, &values, &indices));
        (values.to_vec::<f32>().unwrap(), indices.to_vec::<u32>().unwrap())
    };
    let compare = |case: &(Case, usize), want: (Vec<f32>, Vec<u32>), got: (Vec<f32>, Vec<u32>)| {
        same_words(case, &want.1, &got.1);
        same(case, &want.0, &got.0);
    };
    both(cases(), work, compare);
    both_least(cases(), work, compare);
}
