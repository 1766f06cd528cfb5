//! Causal depthwise convolution over time, as gated delta nets have it before their heads (Yang et al., 2024).

mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

/// Most taps: the tokens that one output sees, its own included.
pub const MOST_TAPS: usize = 8;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    taps: u32,
    channels: u32,
}

/// A convolution of each channel with what it was before, and SiLU.
pub static DEPTHWISE_CONV: Kernel = Kernel {
    name: "depthwise_conv",
    kind: OpKind::Other,
    bindings: &[
        Binding::read("x"),
        Binding::read("weight"),
        Binding::read("step"),
        Binding::read_write("state"),
        Binding::write("out"),
    ],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::TWIN),
};

/// `out[t, c] = silu(sum_j weight[j, c] * x[t - K + 1 + j, c])` for j from 0 to K-1: each channel of T tokens with those
/// before them.
///
/// `x` and `out` are F32 `[T, C]`, `weight` is F32 `[K, C]`, `state` F32 `[K-1, C]`: the last K-1 tokens before the first of
/// `x`, the latest last. The kernel replaces them by the last of those and `x`. `step` is U32 with the position of the first
/// token in its first element: at position 0 a text begins, and what the state holds counts as zeros.
///
/// # Errors
/// An element type or a shape that does not fit; fewer than 2 taps or more than [`MOST_TAPS`]; no token.
pub fn depthwise_conv(
    enc: &mut CommandEncoder,
    x: &Buffer,
    weight: &Buffer,
    step: &Buffer,
    state: &Buffer,
    out: &Buffer,
) -> Result<()> {
    let name = DEPTHWISE_CONV.name;
    let &[taps, channels] = weight.shape() else {
        let found = format!("{:?}", weight.shape());
        return Err(Error::argument(name, "weight", "shape [K, C]", found));
    };
    if !(2..=MOST_TAPS).contains(&taps) {
        return Err(Error::argument(name, "weight", format!("2 to {MOST_TAPS} taps"), taps));
    }
    let tokens = x.shape().first().copied().unwrap_or(0);
    if tokens == 0 || channels == 0 {
        return Err(Error::argument(name, "x", "at least 1 token and channel", format!("{:?}", x.shape())));
    }
    check::shape(name, "x", x, &[tokens, channels])?;
    check::shape(name, "weight", weight, &[taps, channels])?;
    check::step(name, step)?;
    check::shape(name, "state", state, &[taps - 1, channels])?;
    check::shape(name, "out", out, &[tokens, channels])?;
    let params = Params { taps: taps as u32, channels: check::dim(name, "x", channels)? };
    let dispatch = Dispatch::new(&DEPTHWISE_CONV).buffer(x).buffer(weight).buffer(step).buffer(state);
    enc.dispatch(dispatch.buffer(out).bytes(&params))
}

#[cfg(test)]
mod tests {
    use dacapo::DType;

    use super::depthwise_conv;
    use crate::testing::{device, normal};

    /// The definition, with everything before the first token zero.
    fn definition(x: &[f32], weight: &[f32], channels: usize) -> Vec<f64> {
        let (taps, tokens) = (weight.len() / channels, x.len() / channels);
        let mut out = Vec::with_capacity(x.len());
        for t in 0..tokens {
            for c in 0..channels {
                let seen = (0..taps).filter(|j| t + j + 1 >= taps);
                let sum: f64 = seen
                    .map(|j| {
                        f64::from(weight[j * channels + c]) * f64::from(x[(t + j + 1 - taps) * channels + c])
                    })
                    .sum();
                out.push(sum / (1.0 + (-sum).exp()));
            }
        }
        out
    }

    #[test]
    fn passes_of_any_length_are_the_definition() {
        for (tokens, channels, taps) in
            [(1, 1, 2), (5, 3, 4), (40, 70, 4), (9, 200, 8), (3, 33, 7), (17, 16, 3)]
        {
            let (x, weight) = (normal(1, tokens * channels), normal(2, taps * channels));
            let want = definition(&x, &weight, channels);
            for (threads, part) in [(1, tokens), (3, tokens), (2, 1), (3, 2), (2, 3)] {
                let device = device(threads);
                let w = device.upload(&weight, &[taps, channels]).unwrap();
                // What is there before a text begins does not count.
                let state =
                    device.upload(&vec![7.0f32; (taps - 1) * channels], &[taps - 1, channels]).unwrap();
                let mut found = Vec::new();
                for (i, x) in x.chunks(part * channels).enumerate() {
                    let shape = [x.len() / channels, channels];
                    let x = device.upload(x, &shape).unwrap();
                    let out = device.alloc(DType::F32, &shape).unwrap();
                    let step = device.upload(&[(i * part) as u32], &[1]).unwrap();
                    let mut enc = device.encoder("test").unwrap();
                    depthwise_conv(&mut enc, &x, &w, &step, &state, &out).unwrap();
                    enc.commit_and_wait().unwrap();
                    found.extend(out.to_vec::<f32>().unwrap());
                }
                for (i, (want, &got)) in want.iter().zip(&found).enumerate() {
                    let near = (f64::from(got) - want).abs() <= 2e-6 * (1.0 + want.abs());
                    assert!(near, "{tokens} {channels} {taps}, parts of {part}: {i} is {got}, not {want}");
                }
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let device = device(1);
        let f32s = |shape: &[usize]| device.alloc(DType::F32, shape).unwrap();
        let step = device.upload(&[0u32], &[1]).unwrap();
        let refusal = |x: &[usize], weight: &[usize], state: &[usize], out: &[usize]| {
            let mut enc = device.encoder("test").unwrap();
            depthwise_conv(&mut enc, &f32s(x), &f32s(weight), &step, &f32s(state), &f32s(out))
                .expect_err("refused")
                .to_string()
        };
        assert!(refusal(&[2, 5], &[1, 5], &[1, 5], &[2, 5]).contains("2 to 8 taps"));
        assert!(refusal(&[2, 5], &[4, 5], &[4, 5], &[2, 5]).contains("state"));
        assert!(refusal(&[2, 6], &[4, 5], &[3, 5], &[2, 5]).contains(": x: expected shape"));
        assert!(refusal(&[2, 5], &[4, 5], &[3, 5], &[3, 5]).contains("out"));
        assert!(refusal(&[0, 5], &[4, 5], &[3, 5], &[0, 5]).contains("at least 1"));
    }
}
