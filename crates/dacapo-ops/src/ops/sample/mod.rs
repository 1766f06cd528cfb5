//! Sampling of the next token, on the device.

mod chain;
mod cpu;
mod gpu;
mod philox;
mod weight;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

/// How the next token is chosen; the content of the `params` buffer of [`sample`].
///
/// As a struct of 4-byte words it can be uploaded as U32 (see [`SampleParams::words`]) and changed between replays
/// of a recorded graph.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SampleParams {
    /// Lower half of the seed.
    pub seed_low: u32,
    /// Upper half of the seed.
    pub seed_high: u32,
    /// What logits are divided by; 0 means the most likely token.
    pub temperature: f32,
    /// How many of the most likely tokens are kept; 0 means all.
    pub top_k: u32,
    /// The most likely tokens are kept until their probabilities sum to this; 1 means all.
    pub top_p: f32,
    /// Tokens are kept whose probability is at least this part of the most likely one's; 0 means all.
    pub min_p: f32,
    /// A counted token's logit is divided by this if positive, else multiplied by it; 1 means no change.
    pub repetition_penalty: f32,
    /// Subtracted from a token's logit for each time it was counted; 0 means no change.
    pub frequency_penalty: f32,
    /// Subtracted from a counted token's logit once; 0 means no change.
    pub presence_penalty: f32,
}

impl SampleParams {
    /// Words of 4 bytes.
    pub const WORDS: usize = size_of::<SampleParams>() / 4;

    /// Always the most likely token.
    pub const GREEDY: SampleParams = SampleParams {
        seed_low: 0,
        seed_high: 0,
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
    };

    /// These parameters with another seed.
    pub fn with_seed(self, seed: u64) -> Self {
        SampleParams { seed_low: seed as u32, seed_high: (seed >> 32) as u32, ..self }
    }

    /// The words to upload.
    pub fn words(&self) -> [u32; Self::WORDS] {
        bytemuck::cast(*self)
    }
}

impl Default for SampleParams {
    fn default() -> Self {
        Self::GREEDY
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    advance: u32,
}

/// Sampling.
pub static SAMPLE: Kernel = Kernel {
    name: "sample",
    kind: OpKind::Sample,
    bindings: &[
        Binding::read("logits"),
        Binding::read("params"),
        Binding::read("step"),
        Binding::read_write("counts"),
        Binding::write("token"),
    ],
    cpu: CpuTwin { plan: cpu::plan::<3>, run: cpu::run },
    gpu: Some(&gpu::PLAIN),
};

/// Sampling with logit bias.
pub static SAMPLE_BIAS: Kernel = Kernel {
    name: "sample_bias",
    kind: OpKind::Sample,
    bindings: &[
        Binding::read("logits"),
        Binding::read("params"),
        Binding::read("step"),
        Binding::read("bias"),
        Binding::read_write("counts"),
        Binding::write("token"),
    ],
    cpu: CpuTwin { plan: cpu::plan::<4>, run: cpu::run_bias },
    gpu: Some(&gpu::BIASED),
};

/// Chooses the token at position `step[0] + advance` from the logits that the position before it gave.
///
/// In this order, which is llama.cpp's: the bias is added; penalties are applied, where `counts` says how often each
/// token was used; the `top_k` largest logits are kept; of these, the most likely until their probabilities sum to
/// `top_p`; of these, those with at least `min_p` times the largest probability; logits are divided by the
/// temperature; one is drawn. Probabilities for `top_p` and `min_p` are those before the temperature. At least one
/// token is always kept, ties fall to the lower index, and NaN is never chosen unless all is NaN.
///
/// The draw is a function of the seed and the position alone: Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, 2011)
/// with the seed as key and the position as counter, so that the same seed and prompt give the same text however
/// the prompt was split. At temperature 0 the largest logit after bias and penalties wins. Probabilities are computed and
/// summed as whole numbers, so that the token does not depend on the device either.
///
/// `logits` is F32 with V elements, `params` U32 with [`SampleParams::WORDS`] elements, `step` U32 with the position of the
/// forward pass's first token in its first element, `bias` F32 `[V]` or absent, `counts` U32 `[V]`: the chosen
/// token's count grows by one. `token` is U32 with one element. `advance` is the number of tokens in the forward pass:
/// 1 in generation.
///
/// # Errors
/// An element type or a length that does not fit, no logits, or 2^20 of them and more.
#[allow(clippy::too_many_arguments)] // What the operation has.
pub fn sample(
    enc: &mut CommandEncoder,
    logits: &Buffer,
    params: &Buffer,
    step: &Buffer,
    bias: Option<&Buffer>,
    counts: &Buffer,
    token: &Buffer,
    advance: usize,
) -> Result<()> {
    let kernel = if bias.is_some() { &SAMPLE_BIAS } else { &SAMPLE };
    let name = kernel.name;
    check::dtype(name, "logits", logits, DType::F32)?;
    if logits.is_empty() {
        return Err(Error::argument(name, "logits", "at least 1 element", 0));
    }
    if logits.len() >= weight::MOST_LOGITS {
        let expected = format!("fewer than {} elements", weight::MOST_LOGITS);
        return Err(Error::argument(name, "logits", expected, logits.len()));
    }
    check::dtype(name, "params", params, DType::U32)?;
    check::elements(name, "params", params, SampleParams::WORDS)?;
    check::step(name, step)?;
    check::dtype(name, "counts", counts, DType::U32)?;
    check::elements(name, "counts", counts, logits.len())?;
    check::dtype(name, "token", token, DType::U32)?;
    check::elements(name, "token", token, 1)?;
    let mut dispatch = Dispatch::new(kernel).buffer(logits).buffer(params).buffer(step);
    if let Some(bias) = bias {
        check::f32s(name, "bias", bias, logits.len())?;
        dispatch = dispatch.buffer(bias);
    }
    let params = Params { advance: check::dim(name, "advance", advance)? };
    enc.dispatch(dispatch.buffer(counts).buffer(token).bytes(&params))
}
