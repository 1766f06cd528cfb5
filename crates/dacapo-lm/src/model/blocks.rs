//! What the architectures have in common: attention and MLP, as functions of a [`Pass`].

use std::sync::Arc;

use dacapo::Buffer;
use dacapo_ops::{ActivationFn, RopeOptions, Weight};

use super::pass::Pass;
use crate::error::Result;

/// A linear layer: `y = x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[N, K]`.
    pub weight: Arc<Weight>,
    /// F32 `[N]`.
    pub bias: Option<Buffer>,
}

/// Rotary position embedding, shared by all layers.
#[derive(Debug)]
pub(crate) struct Rope {
    /// F32 `[R/2]`, radians per position.
    pub inv_freq: Buffer,
    /// Pairing of elements, factor of cosine and sine.
    pub options: RopeOptions,
}

/// Grouped-query attention with rotary positions.
#[derive(Debug)]
pub(crate) struct Attention {
    /// To queries, `[H * hd, D]`.
    pub q: Linear,
    /// To keys, `[KVH * hd, D]`.
    pub k: Linear,
    /// To values, `[KVH * hd, D]`.
    pub v: Linear,
    /// Back to the residual stream, `[D, H * hd]`.
    pub o: Linear,
    /// RMSNorm over each head of the queries, F32 `[hd]` (Qwen3).
    pub q_norm: Option<Buffer>,
    /// RMSNorm over each head of the keys, F32 `[hd]` (Qwen3).
    pub k_norm: Option<Buffer>,
    /// Positions that a token sees, itself included; `None` is all.
    pub window: Option<usize>,
    /// Shared by all layers.
    pub rope: Arc<Rope>,
}

impl Attention {
    /// `x [T, D]` to `[T, D]`, with the keys and values of `layer` in the cache.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Buffer, layer: usize) -> Result<Buffer> {
        let x = pass.activation(x, &[&self.q, &self.k, &self.v])?;
        let q = pass.linear(&x, &self.q)?;
        let k = pass.linear(&x, &self.k)?;
        let v = pass.linear(&x, &self.v)?;
        let [q, k, v] = [pass.heads(&q)?, pass.heads(&k)?, pass.heads(&v)?];
        if let Some(weight) = &self.q_norm {
            pass.rms_norm_in_place(&q, weight)?;
        }
        if let Some(weight) = &self.k_norm {
            pass.rms_norm_in_place(&k, weight)?;
        }
        pass.rope(&q, &self.rope)?;
        pass.rope(&k, &self.rope)?;
        pass.kv_write(&k, &v, layer)?;
        let attended = pass.attention(&q, layer, self.window)?;
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

/// A layer that normalizes what goes into attention and MLP, and adds what comes out (Llama and its kin).
#[derive(Debug)]
pub(crate) struct PreNormLayer {
    /// RMSNorm before the attention, F32 `[D]`.
    pub input_norm: Buffer,
    /// `h = x + attention(norm(x))`.
    pub attention: Attention,
    /// RMSNorm before the MLP, F32 `[D]`.
    pub post_attention_norm: Buffer,
    /// `y = h + mlp(norm(h))`.
    pub mlp: Mlp,
}

impl PreNormLayer {
    /// Adds to the residual stream what the layer makes of it.
    pub fn forward(&self, pass: &mut Pass<'_>, layer: usize) -> Result<()> {
        let x = pass.norm(&self.input_norm)?;
        let attended = self.attention.forward(pass, &x, layer)?;
        pass.add(&attended)?;
        let h = pass.norm(&self.post_attention_norm)?;
        let out = self.mlp.forward(pass, &h)?;
        pass.add(&out)
    }
}
