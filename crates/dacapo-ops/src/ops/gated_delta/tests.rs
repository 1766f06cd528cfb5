//! The gated delta rule against its definition.

use dacapo::{DType, Device};

use super::{DeltaInputs, gated_delta};
use crate::testing::{device, normal};

/// Heads of keys and values, their widths, and whether value heads go around the key heads.
#[derive(Debug, Clone, Copy)]
struct Shape {
    key_heads: usize,
    heads: usize,
    key_dim: usize,
    value_dim: usize,
    tiled: bool,
}

impl Shape {
    fn width(&self) -> usize {
        2 * self.key_heads * self.key_dim + self.heads * self.value_dim
    }

    fn values(&self) -> usize {
        self.heads * self.value_dim
    }

    /// qkv, a, b, rate, dt_bias.
    fn inputs(&self, tokens: usize) -> [Vec<f32>; 5] {
        let rate = normal(4, self.heads).iter().map(|x| (x - 1.0).exp()).collect();
        [
            normal(1, tokens * self.width()),
            normal(2, tokens * self.heads),
            normal(3, tokens * self.heads),
            rate,
            normal(5, self.heads),
        ]
    }
}

/// The definition, one number after the other.
fn definition(shape: Shape, [qkv, a, b, rate, bias]: &[Vec<f32>; 5]) -> (Vec<f64>, Vec<f64>) {
    let Shape { key_heads, heads, key_dim, value_dim, tiled } = shape;
    let tokens = a.len() / heads;
    let mut out = vec![0.0; tokens * shape.values()];
    let mut states = vec![0.0; heads * key_dim * value_dim];
    let unit = |x: &[f32]| -> Vec<f64> {
        let sum: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
        x.iter().map(|&v| f64::from(v) / (sum + 1e-6).sqrt()).collect()
    };
    for head in 0..heads {
        let shared = if tiled { head % key_heads } else { head / (heads / key_heads) };
        let state = &mut states[head * key_dim * value_dim..][..key_dim * value_dim];
        for t in 0..tokens {
            let token = &qkv[t * shape.width()..][..shape.width()];
            let q = unit(&token[shared * key_dim..][..key_dim]);
            let k = unit(&token[(key_heads + shared) * key_dim..][..key_dim]);
            let v = &token[2 * key_heads * key_dim + head * value_dim..][..value_dim];
            let [a, b] = [a, b].map(|x| f64::from(x[t * heads + head]));
            let decay = (-f64::from(rate[head]) * (a + f64::from(bias[head])).exp().ln_1p()).exp();
            let share = 1.0 / (1.0 + (-b).exp());
            for c in 0..value_dim {
                let recalled: f64 = (0..key_dim).map(|i| decay * state[i * value_dim + c] * k[i]).sum();
                let change = share * (f64::from(v[c]) - recalled);
                let mut read = 0.0;
                for i in 0..key_dim {
                    let s = &mut state[i * value_dim + c];
                    *s = decay * *s + change * k[i];
                    read += *s * q[i];
                }
                out[t * shape.values() + head * value_dim + c] = read / (key_dim as f64).sqrt();
            }
        }
    }
    (out, states)
}

/// What the kernel makes of tokens in parts of so many: results, and the state behind the last.
fn run(device: &Device, shape: Shape, inputs: &[Vec<f32>; 5], part: usize) -> (Vec<f32>, Vec<f32>) {
    let Shape { heads, key_dim, value_dim, .. } = shape;
    let [qkv, a, b, rate, bias] = inputs;
    let up = |values: &[f32], shape: &[usize]| device.upload(values, shape).unwrap();
    let (rate, bias) = (up(rate, &[heads]), up(bias, &[heads]));
    // What is there before a text begins does not count.
    let state = up(&normal(9, heads * key_dim * value_dim), &[heads, key_dim, value_dim]);
    let (mut found, mut position) = (Vec::new(), 0u32);
    for (qkv, (a, b)) in
        qkv.chunks(part * shape.width()).zip(a.chunks(part * heads).zip(b.chunks(part * heads)))
    {
        let tokens = a.len() / heads;
        let (qkv, a, b) =
            (up(qkv, &[tokens, shape.width()]), up(a, &[tokens, heads]), up(b, &[tokens, heads]));
        let out = device.alloc(DType::F32, &[tokens, shape.values()]).unwrap();
        let step = device.upload(&[position], &[1]).unwrap();
        let inputs = DeltaInputs {
            qkv: &qkv,
            a: &a,
            b: &b,
            rate: &rate,
            dt_bias: &bias,
            key_heads: shape.key_heads,
            tiled: shape.tiled,
        };
        let mut enc = device.encoder("test").unwrap();
        gated_delta(&mut enc, &inputs, &step, &state, &out).unwrap();
        enc.commit_and_wait().unwrap();
        found.extend(out.to_vec::<f32>().unwrap());
        position += tokens as u32;
    }
    (found, state.to_vec().unwrap())
}

const SHAPES: [Shape; 6] = [
    Shape { key_heads: 1, heads: 1, key_dim: 1, value_dim: 1, tiled: false },
    Shape { key_heads: 2, heads: 4, key_dim: 16, value_dim: 16, tiled: false },
    Shape { key_heads: 2, heads: 4, key_dim: 16, value_dim: 16, tiled: true },
    Shape { key_heads: 2, heads: 6, key_dim: 24, value_dim: 37, tiled: true },
    Shape { key_heads: 1, heads: 2, key_dim: 128, value_dim: 128, tiled: false },
    Shape { key_heads: 3, heads: 3, key_dim: 40, value_dim: 100, tiled: false },
];

#[test]
fn heads_follow_the_definition() {
    for shape in SHAPES {
        for tokens in [1, 3, 70] {
            let inputs = shape.inputs(tokens);
            let (out, state) = run(&device(2), shape, &inputs, tokens);
            let want = definition(shape, &inputs);
            for (what, want, found) in [("result", want.0, out), ("state", want.1, state)] {
                for (i, (want, found)) in want.iter().zip(found).enumerate() {
                    let near = (f64::from(found) - want).abs() <= 1e-6 * (1.0 + want.abs());
                    assert!(near, "{shape:?}, {tokens} tokens: {what} {i} is {found}, not {want}");
                }
            }
        }
    }
}

#[test]
fn passes_and_threads_change_no_bit() {
    for shape in SHAPES {
        let inputs = shape.inputs(37);
        let whole = run(&device(1), shape, &inputs, 37);
        for (threads, part) in [(3, 37), (2, 1), (1, 3), (2, 16), (3, 33)] {
            let found = run(&device(threads), shape, &inputs, part);
            assert!(found == whole, "{shape:?}: {threads} threads, parts of {part}");
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let device = device(1);
    let f32s = |shape: &[usize]| device.alloc(DType::F32, shape).unwrap();
    let step = device.upload(&[0u32], &[1]).unwrap();
    let refusal = |qkv: &[usize], a: &[usize], state: &[usize], key_heads| {
        let (qkv, a, b, rate, dt_bias) = (f32s(qkv), f32s(a), f32s(&[3, 4]), f32s(&[4]), f32s(&[4]));
        let inputs =
            DeltaInputs { qkv: &qkv, a: &a, b: &b, rate: &rate, dt_bias: &dt_bias, key_heads, tiled: false };
        let mut enc = device.encoder("test").unwrap();
        gated_delta(&mut enc, &inputs, &step, &f32s(state), &f32s(&[3, 32])).expect_err("refused").to_string()
    };
    assert!(refusal(&[3, 64], &[3, 4], &[4, 8, 8], 3).contains("a divisor of 4"));
    assert!(refusal(&[3, 63], &[3, 4], &[4, 8, 8], 2).contains("qkv"));
    assert!(refusal(&[3, 64], &[3, 5], &[4, 8, 8], 2).contains(": a: expected shape"));
    assert!(refusal(&[3, 64], &[3, 4], &[4, 300, 8], 2).contains("DK <= 256"));
    assert!(refusal(&[3, 64], &[3, 4], &[4, 8], 2).contains("state"));
}
