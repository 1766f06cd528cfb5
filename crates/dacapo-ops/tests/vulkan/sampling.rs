//! Sampling: the same token and the same counts.

use dacapo_ops::SampleParams;

use super::{Bench, Rng, both, both_least, same_words};

#[derive(Debug, Clone, Copy)]
struct Case {
    logits: usize,
    /// What logits are multiplied by.
    spread: f32,
    params: SampleParams,
    biased: bool,
    /// Logits that are NaN or minus infinity, one in so many.
    odd: usize,
}

/// Draws at some positions, one after the other, so that counts grow.
fn work(bench: &Bench, case: &Case) -> (Vec<u32>, Vec<u32>) {
    let len = case.logits;
    let mut rng = Rng(len as u64 + (case.spread * 8.0) as u64);
    let mut logits: Vec<f32> = rng.normals(len).iter().map(|x| x * case.spread).collect();
    for i in (0..len).step_by(case.odd.max(1)).skip(1) {
        logits[i] = if i % 2 == 0 { f32::NAN } else { f32::NEG_INFINITY };
    }
    let bias: Vec<f32> = (0..len).map(|i| (i % 7) as f32 * 0.11).collect();
    let counts: Vec<u32> = (0..len).map(|_| (rng.below(5) as u32).saturating_sub(2)).collect();
    let (logits, counts) = (bench.upload(&logits, &[len]), bench.upload(&counts, &[len]));
    let bias = case.biased.then(|| bench.upload(&bias, &[len]));
    let params = bench.upload(&case.params.words(), &[SampleParams::WORDS]);
    let token = bench.alloc::<u32>(&[1]);
    let mut tokens = Vec::new();
    let draws: u32 = if len > 100_000 { 3 } else { 12 };
    for position in 0..draws {
        let step = bench.upload(&[position * 37], &[1]);
        bench.run(|enc| {
            dacapo_ops::sample(
                enc,
                &logits,
                &params,
                &step,
                bias.as_ref(),
                &counts,
                &token,
                1 + position as usize,
            )
        });
        tokens.extend(token.to_vec::<u32>().unwrap());
    }
    (tokens, counts.to_vec::<u32>().unwrap())
}

fn check(cases: Vec<Case>) {
    let compare = |case: &Case, want: (Vec<u32>, Vec<u32>), got: (Vec<u32>, Vec<u32>)| {
        same_words(case, &want.0, &got.0);
        same_words(case, &want.1, &got.1);
    };
    both(cases.clone(), work, compare);
    // With little workgroup memory another text draws.
    both_least(cases, work, compare);
}

const SIZES: [usize; 6] = [1, 2, 33, 1000, 4099, 32_000];

#[test]
fn the_largest_after_bias_and_penalties_wins() {
    let mut cases = Vec::new();
    for logits in SIZES.into_iter().chain([151_936]) {
        for biased in [false, true] {
            for (repetition_penalty, frequency_penalty, presence_penalty) in
                [(1.0, 0.0, 0.0), (1.3, 0.0, 0.0), (1.1, 0.37, 0.21), (0.7, -0.1, 0.3)]
            {
                let params = SampleParams {
                    repetition_penalty,
                    frequency_penalty,
                    presence_penalty,
                    ..SampleParams::GREEDY
                };
                cases.push(Case { logits, spread: 2.0, params, biased, odd: 5 });
            }
        }
    }
    check(cases);
}

#[test]
fn every_filter_keeps_the_same_tokens() {
    let mut cases = Vec::new();
    for (i, logits) in SIZES.into_iter().cycle().take(42).enumerate() {
        let pick = |values: [f32; 4], by: usize| values[i / by % 4];
        let params = SampleParams {
            temperature: pick([1.0, 0.7, 1.9, 0.05], 1),
            top_k: [0, 1, 40, 2000][i / 2 % 4],
            top_p: pick([1.0, 0.9, 0.3, 0.999], 3),
            min_p: pick([0.0, 0.05, 0.0, 0.4], 5),
            repetition_penalty: pick([1.0, 1.0, 1.2, 0.9], 7),
            frequency_penalty: pick([0.0, 0.0, 0.3, 0.01], 4),
            presence_penalty: pick([0.0, 0.2, 0.0, 0.1], 6),
            ..SampleParams::GREEDY
        };
        let params = params.with_seed(i as u64 * 0x1234_5678_9abc);
        cases.push(Case {
            logits,
            spread: pick([3.0, 1.0, 0.1, 8.0], 6),
            params,
            biased: i % 3 == 0,
            odd: 50,
        });
    }
    check(cases);
}

#[test]
fn a_whole_vocabulary() {
    let base = SampleParams { temperature: 0.8, ..SampleParams::GREEDY }.with_seed(99);
    let all = [
        base,
        SampleParams { top_k: 50, top_p: 0.95, ..base },
        SampleParams { top_p: 0.9, min_p: 0.02, ..base },
        SampleParams { min_p: 0.1, repetition_penalty: 1.1, ..base },
    ];
    let case = |params| Case { logits: 151_936, spread: 3.0, params, biased: false, odd: 1000 };
    check(all.map(case).to_vec());
}

#[test]
fn equal_logits_and_degenerate_ones() {
    let base = SampleParams { temperature: 1.0, ..SampleParams::GREEDY }.with_seed(5);
    let mut cases = Vec::new();
    for params in [
        base,
        SampleParams { top_k: 100, ..base },
        SampleParams { top_p: 0.5, ..base },
        SampleParams { top_p: 0.0, ..base },
        SampleParams { top_p: f32::NAN, min_p: f32::NAN, ..base },
        SampleParams { temperature: f32::NAN, ..base },
        SampleParams { temperature: f32::INFINITY, ..base },
        SampleParams { temperature: -1.0, ..base },
        SampleParams { min_p: 1.0, ..base },
        SampleParams { min_p: 7.0, top_k: u32::MAX, ..base },
    ] {
        // All equal; all NaN or minus infinity but the first; some.
        for (spread, odd) in [(0.0, 10_000), (1.0, 1), (0.0, 3)] {
            cases.push(Case { logits: 5000, spread, params, biased: false, odd });
        }
    }
    check(cases);
}
