//! The gated delta net (Yang, Kautz and Hatamizadeh, 2024) as Qwen3-Next and Qwen3.5 have it: each head's memory of the text is a
//! matrix of fixed size, which every token decays, corrects and reads.

use std::ops::Range;

use dacapo::Buffer;
use dacapo_ops::ActivationFn;

use super::blocks::Linear;
use super::load::Loader;
use super::pass::Pass;
use crate::checkpoint::DeltaNets;
use crate::error::Result;

/// `out(norm(delta(silu(conv(qkv(x))), a(x), b(x))) * silu(z(x)))`
#[derive(Debug)]
pub(crate) struct DeltaNet {
    /// To queries, keys and values, `[2 * HK * DK + HV * DV, D]`.
    qkv: Linear,
    /// To the gates of what the heads give, `[HV * DV, D]`.
    z: Linear,
    /// To what the heads' decay depends on, `[HV, D]`.
    a: Linear,
    /// To the logits of the heads' corrections, `[HV, D]`.
    b: Linear,
    /// The convolution over time, F32 `[taps, 2 * HK * DK + HV * DV]`.
    convolution: Buffer,
    /// How fast each head forgets, F32 `[HV]`.
    rate: Buffer,
    /// Added to what `a` gives, F32 `[HV]`.
    dt_bias: Buffer,
    /// RMSNorm of each head's result, F32 `[DV]`.
    norm: Buffer,
    /// Back to the residual stream, `[D, HV * DV]`.
    out: Linear,
    /// HK.
    key_heads: usize,
    /// Whether value heads go around the key heads.
    tiled: bool,
}

impl DeltaNet {
    /// The net at the module path.
    pub fn load(loader: &mut Loader<'_>, path: &str, nets: &DeltaNets) -> Result<Self> {
        let at = |part: &str| format!("{path}.{part}");
        let (d, heads, channels) = (loader.config().hidden_size, nets.value_heads, nets.channels());
        let [qkv, z] = if loader.has(&at("in_proj_qkvz.weight")) {
            loader.linear_pieces(&at("in_proj_qkvz"), channels + nets.values(), d, interleaved(nets))?
        } else {
            [
                loader.linear(&at("in_proj_qkv"), channels, d, false)?,
                loader.linear(&at("in_proj_z"), nets.values(), d, false)?,
            ]
        };
        let [b, a] = if loader.has(&at("in_proj_ba.weight")) {
            loader.linear_pieces(&at("in_proj_ba"), 2 * heads, d, alternating(nets))?
        } else {
            [
                loader.linear(&at("in_proj_b"), heads, d, false)?,
                loader.linear(&at("in_proj_a"), heads, d, false)?,
            ]
        };
        // GGUF has minus the rate itself, folders its logarithm.
        let rate = if loader.has(&at("A")) {
            loader.mapped(&at("A"), heads, |minus_rate| -minus_rate)?
        } else {
            loader.mapped(&at("A_log"), heads, f32::exp)?
        };
        Ok(DeltaNet {
            qkv,
            z,
            a,
            b,
            convolution: loader.depthwise(&at("conv1d"), channels, nets.taps)?,
            rate,
            dt_bias: loader.mapped(&at("dt_bias"), heads, |bias| bias)?,
            norm: loader.plain_norm(&at("norm"), nets.value_dim)?,
            out: loader.linear(&at("out_proj"), d, nets.values(), false)?,
            key_heads: nets.key_heads,
            tiled: nets.tiled,
        })
    }

    /// `x [T, D]` to `[T, D]`, with the state of `layer` in the cache.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Buffer, layer: usize) -> Result<Buffer> {
        let x = pass.activation(x, &[&self.qkv, &self.z, &self.a, &self.b])?;
        let qkv = pass.linear(&x, &self.qkv)?;
        let z = pass.linear(&x, &self.z)?;
        let a = pass.linear(&x, &self.a)?;
        let b = pass.linear(&x, &self.b)?;
        let qkv = pass.convolution(&qkv, &self.convolution, layer)?;
        let inputs = dacapo_ops::DeltaInputs {
            qkv: &qkv,
            a: &a,
            b: &b,
            rate: &self.rate,
            dt_bias: &self.dt_bias,
            key_heads: self.key_heads,
            tiled: self.tiled,
        };
        let read = pass.delta(&inputs, layer)?;
        let normed = pass.normed_rows(&read, &self.norm)?;
        let gated = pass.gated(&z, &normed, ActivationFn::Silu)?;
        let gated = pass.activation(&gated, &[&self.out])?;
        pass.linear(&gated, &self.out)
    }
}

/// The rows of queries, keys and values, and those of gates, in a matrix that has for each key head all that belongs to it.
pub(crate) fn interleaved(nets: &DeltaNets) -> [Vec<Range<usize>>; 2] {
    let (key, values) = (nets.key_dim, nets.values() / nets.key_heads);
    let of_head = 2 * (key + values);
    let part = |first: usize, len: usize| {
        (0..nets.key_heads).map(move |head| head * of_head + first..head * of_head + first + len)
    };
    let qkv = part(0, key).chain(part(key, key)).chain(part(2 * key, values));
    [qkv.collect(), part(2 * key + values, values).collect()]
}

/// The same of the heads' corrections and decays, of which a key head has some of each.
fn alternating(nets: &DeltaNets) -> [Vec<Range<usize>>; 2] {
    let share = nets.value_heads / nets.key_heads;
    let part = |which: usize| {
        (0..nets.key_heads).map(|head| (2 * head + which) * share..(2 * head + which + 1) * share).collect()
    };
    [part(0), part(1)]
}
