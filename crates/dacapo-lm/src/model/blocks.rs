//! What the architectures have in common: attention and MLP, as functions of a [`Pass`].

use std::sync::Arc;

use dacapo::Buffer;
use dacapo_ops::{ActivationFn, Weight};

use super::delta_net::DeltaNet;
use super::pass::Pass;
use super::rope::Rope;
use crate::error::Result;

/// A linear layer: `y = x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[N, K]`.
    pub weight: Arc<Weight>,
    /// F32 `[N]`.
    pub bias: Option<Buffer>,
}

/// Grouped-query attention.
#[derive(Debug)]
pub(crate) struct Attention {
    /// To queries, `[H * hd, D]`.
    pub q: Linear,
    /// To keys, `[KVH * hd, D]`.
    pub k: Linear,
    /// To values, `[KVH * hd, D]`.
    pub v: Linear,
    /// To the gates of what the heads give, `[H * hd, D]`, if there are any.
    pub gate: Option<Linear>,
    /// Back to the residual stream, `[D, H * hd]`.
    pub o: Linear,
    /// RMSNorm of the queries: over each head, F32 `[hd]`, or over all of them together, F32 `[H * hd]`.
    pub q_norm: Option<Buffer>,
    /// The same of the keys, F32 `[hd]` or `[KVH * hd]`.
    pub k_norm: Option<Buffer>,
    /// Rotation of queries and keys by their positions; `None` is none.
    pub rope: Option<Arc<Rope>>,
    /// Scores without values that take part in the softmax, F32 `[H]` (gpt-oss).
    pub sinks: Option<Buffer>,
    /// Scale, window and cap of the scores.
    pub options: dacapo_ops::AttentionOptions,
}

/// How the tokens of a layer hear of each other.
#[derive(Debug)]
pub(crate) enum Mixer {
    Attention(Attention),
    DeltaNet(DeltaNet),
}

impl From<Attention> for Mixer {
    fn from(attention: Attention) -> Self {
        Mixer::Attention(attention)
    }
}

impl Mixer {
    /// `x [T, D]` to `[T, D]`, with what `layer` has in the cache.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Buffer, layer: usize) -> Result<Buffer> {
        match self {
            Mixer::Attention(attention) => attention.forward(pass, x, layer),
            Mixer::DeltaNet(net) => net.forward(pass, x, layer),
        }
    }
}

impl Attention {
    /// `x [T, D]` to `[T, D]`, with the keys and values of `layer` in the cache.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Buffer, layer: usize) -> Result<Buffer> {
        let x = pass.activation(x, &[&self.q, &self.k, &self.v])?;
        let gate = self.gate.as_ref().map(|gate| pass.linear(&x, gate)).transpose()?;
        let q = pass.linear(&x, &self.q)?;
        let k = pass.linear(&x, &self.k)?;
        let v = pass.linear(&x, &self.v)?;
        let v = pass.heads(&v)?;
        let q = pass.normed_heads(&q, self.q_norm.as_ref())?;
        let k = pass.normed_heads(&k, self.k_norm.as_ref())?;
        if let Some(rope) = &self.rope {
            pass.rope(&q, rope)?;
            pass.rope(&k, rope)?;
        }
        pass.kv_write(&k, &v, layer)?;
        let mut attended = pass.attention(&q, layer, self.sinks.as_ref(), self.options)?;
        if let Some(gate) = gate {
            attended = pass.gated(&gate, &attended, ActivationFn::Sigmoid)?;
        }
        let attended = pass.activation(&attended, &[&self.o])?;
        pass.linear(&attended, &self.o)
    }
}

/// A gated MLP: `down(act(gate(x)) * up(x))`.
#[derive(Debug)]
pub(crate) struct Mlp {
    /// `[I, D]`.
    pub gate: Linear,
    /// `[I, D]`.
    pub up: Linear,
    /// `[D, I]`.
    pub down: Linear,
    /// Activation of the gate.
    pub act: ActivationFn,
}

impl Mlp {
    /// `x [T, D]` to `[T, D]`.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Buffer) -> Result<Buffer> {
        let x = pass.activation(x, &[&self.gate, &self.up])?;
        let gate = pass.linear(&x, &self.gate)?;
        let up = pass.linear(&x, &self.up)?;
        let inner = pass.gated(&gate, &up, self.act)?;
        let inner = pass.activation(&inner, &[&self.down])?;
        pass.linear(&inner, &self.down)
    }
}
