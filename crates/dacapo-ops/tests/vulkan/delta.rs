//! What gated delta nets have of their own: the convolution over time, and the memory that is a matrix. They differ from the
//! processor's by the order of summation and by divisions.

use dacapo_ops::DeltaInputs;

use super::{Bench, Rng, both, both_least, close};

/// Tokens of two passes, channels, taps.
const CONVOLUTIONS: [([usize; 2], usize, usize); 6] = [
    ([1, 1], 3, 2),
    ([5, 1], 70, 4),
    ([40, 33], 129, 4),
    ([2, 2], 64, 8),
    ([1, 20], 300, 3),
    ([16, 17], 1000, 4),
];

#[test]
fn convolutions_over_time() {
    let work = |bench: &Bench, &(parts, channels, taps): &([usize; 2], usize, usize)| {
        let weight = bench.upload(&Rng(1).normals(taps * channels), &[taps, channels]);
        let before = Rng(2).normals((taps - 1) * channels);
        let state = bench.upload(&before, &[taps - 1, channels]);
        // The first pass begins a text, the second goes on with it, the third with another.
        let passes = [(parts[0], 0), (parts[1], parts[0] as u32), (3, 77)];
        let mut found = Vec::new();
        for (i, (tokens, position)) in passes.into_iter().enumerate() {
            let x = bench.upload(&Rng(3 + i as u64).normals(tokens * channels), &[tokens, channels]);
            let (step, out) = (bench.upload(&[position], &[1]), bench.f32s(&[tokens, channels]));
            bench.run(|enc| dacapo_ops::depthwise_conv(enc, &x, &weight, &step, &state, &out));
            found.extend([out.to_vec::<f32>().unwrap(), state.to_vec().unwrap()]);
        }
        found
    };
    both(CONVOLUTIONS, work, |case, want, got| {
        for (which, (want, got)) in want.iter().zip(&got).enumerate() {
            close(&(case, which), want, got, 3e-6, 1e-6);
        }
    });
}

/// Heads of keys and of values, their widths, tokens of two passes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    heads: [usize; 2],
    dims: [usize; 2],
    tokens: [usize; 2],
}

const MEMORIES: [Memory; 6] = [
    Memory { heads: [1, 1], dims: [1, 1], tokens: [1, 2] },
    Memory { heads: [2, 4], dims: [16, 16], tokens: [9, 1] },
    Memory { heads: [2, 6], dims: [40, 37], tokens: [1, 12] },
    Memory { heads: [1, 2], dims: [128, 128], tokens: [37, 16] },
    Memory { heads: [2, 2], dims: [256, 20], tokens: [20, 3] },
    Memory { heads: [3, 3], dims: [70, 64], tokens: [70, 2] },
];

fn memories(bench: &Bench, case: &Memory) -> Vec<Vec<f32>> {
    let Memory { heads: [key_heads, heads], dims: [key_dim, value_dim], tokens } = *case;
    let rates: Vec<f32> = Rng(1).normals(heads).iter().map(|x| (x - 1.0).exp()).collect();
    let (rate, dt_bias) = (bench.upload(&rates, &[heads]), bench.upload(&Rng(2).normals(heads), &[heads]));
    let width = 2 * key_heads * key_dim + heads * value_dim;
    let mut found = Vec::new();
    for tiled in [false, true] {
        let state = Rng(3).normals(heads * key_dim * value_dim);
        let state = bench.upload(&state, &[heads, key_dim, value_dim]);
        for (i, (tokens, position)) in [(tokens[0], 0u32), (tokens[1], 9)].into_iter().enumerate() {
            let random = |seed: u64, width: usize| {
                bench.upload(&Rng(4 * i as u64 + seed).normals(tokens * width), &[tokens, width])
            };
            let (qkv, a, b) = (random(11, width), random(12, heads), random(13, heads));
            let (step, out) = (bench.upload(&[position], &[1]), bench.f32s(&[tokens, heads * value_dim]));
            let inputs =
                DeltaInputs { qkv: &qkv, a: &a, b: &b, rate: &rate, dt_bias: &dt_bias, key_heads, tiled };
            bench.run(|enc| dacapo_ops::gated_delta(enc, &inputs, &step, &state, &out));
            found.extend([out.to_vec::<f32>().unwrap(), state.to_vec().unwrap()]);
        }
    }
    found
}

fn compare(case: &Memory, want: Vec<Vec<f32>>, got: Vec<Vec<f32>>) {
    for (which, (want, got)) in want.iter().zip(&got).enumerate() {
        close(&(case, which), want, got, 2e-6, 4e-6);
    }
}

#[test]
fn memories_of_heads() {
    both(MEMORIES, memories, compare);
}

#[test]
fn memories_of_heads_on_the_least_device() {
    both_least([MEMORIES[2], MEMORIES[4]], memories, compare);
}
