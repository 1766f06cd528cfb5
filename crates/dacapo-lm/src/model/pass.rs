//! A forward pass being recorded: the operations that architectures are written in.

use dacapo::{Buffer, CommandEncoder, DType};
use dacapo_ops::{
    Activation, ActivationFn, AttentionOptions, DeltaInputs, Experts, Int8Buffers, RouteOptions, Routed,
};

use super::blocks::Linear;
use super::cache::KvCache;
use super::rope::Rope;
use crate::checkpoint::ModelConfig;
use crate::error::Result;

/// Which positions get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Output {
    /// None: the pass only fills the cache.
    None,
    /// The last one: one row.
    Last,
    /// All: a row for each token.
    All,
    /// All, but what they get is their states: a row of the model's width, as the head would have it.
    States,
}

/// What a forward pass works on, beside its weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Io<'a> {
    /// Keys and values of the positions so far.
    pub cache: &'a KvCache,
    /// U32: the position of the first token.
    pub step: &'a Buffer,
    /// U32 `[T]`.
    pub tokens: &'a Buffer,
    /// F32, a row of the vocabulary for each position that gets logits, or of the model's width for states.
    pub logits: &'a Buffer,
    /// Which those are.
    pub output: Output,
    /// F32 `[R/2]`: the frequencies of rotations that depend on the length of the context.
    pub frequencies: Option<&'a Buffer>,
}

/// A forward pass over some tokens. Its values are transient: the graph's memory pass places them.
pub(crate) struct Pass<'a> {
    encoder: &'a mut CommandEncoder,
    config: &'a ModelConfig,
    /// Products take no quantized activations.
    exact: bool,
    io: Io<'a>,
    /// The residual stream, `[T, D]`; there once the tokens are embedded.
    stream: Option<Buffer>,
    /// What is to be added to it before it is read again.
    pending: Option<Buffer>,
}

impl<'a> Pass<'a> {
    pub fn new(encoder: &'a mut CommandEncoder, config: &'a ModelConfig, exact: bool, io: Io<'a>) -> Self {
        Pass { encoder, config, exact, io, stream: None, pending: None }
    }

    /// A value of the pass, F32 `[T, width]`.
    fn value(&self, width: usize) -> Result<Buffer> {
        self.rows(self.io.tokens.len(), width)
    }

    /// A value of the pass, F32 `[rows, width]`.
    fn rows(&self, rows: usize, width: usize) -> Result<Buffer> {
        Ok(self.encoder.device().transient(DType::F32, &[rows, width])?)
    }

    fn stream(&self) -> Buffer {
        self.stream.clone().expect("an architecture embeds its tokens first")
    }

    /// Starts the residual stream: `[T, D]`, the tokens' rows of the embedding.
    pub fn embed(&mut self, embedding: &Linear) -> Result<()> {
        let x = self.value(self.config.hidden_size)?;
        dacapo_ops::embed(
            self.encoder,
            self.io.tokens,
            &embedding.weight,
            &x,
            self.config.embedding_scale as f32,
        )?;
        self.stream = Some(x);
        Ok(())
    }

    /// Adds to the residual stream what a block has made of it, `[T, D]`: normalized if there is a weight, and scaled as
    /// the configuration has it.
    pub fn add_block(&mut self, x: Buffer, norm: Option<&Buffer>) -> Result<()> {
        let x = match norm {
            None => x,
            Some(weight) => {
                let out = self.value(self.config.hidden_size)?;
                dacapo_ops::rms_norm(self.encoder, &x, Some(weight), &out, self.config.rms_eps)?;
                out
            }
        };
        if self.config.residual_scale != 1.0 {
            dacapo_ops::scale_in_place(self.encoder, &x, self.config.residual_scale as f32)?;
        }
        self.add(&x)
    }

    /// The input of a block, `[T, D]`: the residual stream, normalized if there is a weight.
    pub fn stream_or_norm(&mut self, norm: Option<&Buffer>) -> Result<Buffer> {
        if let Some(weight) = norm {
            return self.norm(weight);
        }
        if let Some(added) = self.pending.take() {
            let sum = self.value(self.config.hidden_size)?;
            dacapo_ops::add(self.encoder, &self.stream(), &added, &sum)?;
            self.stream = Some(sum);
        }
        Ok(self.stream())
    }

    /// Adds `[T, D]` to the residual stream.
    pub fn add(&mut self, x: &Buffer) -> Result<()> {
        if let Some(earlier) = self.pending.take() {
            dacapo_ops::add_in_place(self.encoder, &self.stream(), &earlier)?;
        }
        if self.io.tokens.len() == 1 && self.encoder.device().info().gpu.is_some() {
            // A GPU's product of one token does it on the way.
            let sum = self.value(self.config.hidden_size)?;
            dacapo_ops::add(self.encoder, &self.stream(), x, &sum)?;
            self.stream = Some(sum);
        } else {
            // Left to the next norm, which does both in one dispatch.
            self.pending = Some(x.clone());
        }
        Ok(())
    }

    /// RMSNorm of the residual stream, `[T, D]`.
    pub fn norm(&mut self, weight: &Buffer) -> Result<Buffer> {
        let out = self.value(self.config.hidden_size)?;
        let (x, eps) = (self.stream(), self.config.rms_eps);
        match self.pending.take() {
            None => dacapo_ops::rms_norm(self.encoder, &x, Some(weight), &out, eps)?,
            Some(added) => {
                let sum = self.value(self.config.hidden_size)?;
                dacapo_ops::rms_norm_add(self.encoder, &added, &x, weight, &sum, &out, eps)?;
                self.stream = Some(sum);
            }
        }
        Ok(out)
    }

    /// `x [T, K]` as the input of these layers: quantized once for all that can take it so.
    pub fn activation(&mut self, x: &Buffer, layers: &[&Linear]) -> Result<Activation> {
        self.rounded(x, layers.iter().any(|layer| layer.weight.takes_int8()))
    }

    /// `x` quantized where that is `wanted` and passes do so.
    fn rounded(&mut self, x: &Buffer, wanted: bool) -> Result<Activation> {
        if self.exact || !wanted {
            return Ok(Activation::exact(x));
        }
        let int8 = Int8Buffers::transient(self.encoder.device(), x.len())?;
        Ok(Activation::quantize(self.encoder, x, &int8)?)
    }

    /// `x W^T + b`, `[T, N]`.
    pub fn linear(&mut self, x: &Activation, layer: &Linear) -> Result<Buffer> {
        let out = self.value(layer.weight.n())?;
        dacapo_ops::matmul(self.encoder, x, &layer.weight, layer.bias.as_ref(), &out)?;
        Ok(out)
    }

    /// `[T, N * hd]` as `[T, N, hd]`.
    pub fn heads(&self, x: &Buffer) -> Result<Buffer> {
        let dim = self.config.head_dim;
        Ok(x.reshape(&[self.io.tokens.len(), x.shape()[1] / dim, dim])?)
    }

    /// `[T, N * hd]` as `[T, N, hd]`, normalized in place if there is a weight: each head if the weight is as long as one,
    /// otherwise all of a token's together.
    pub fn normed_heads(&mut self, x: &Buffer, weight: Option<&Buffer>) -> Result<Buffer> {
        let heads = self.heads(x)?;
        if let Some(weight) = weight {
            let rows = if weight.len() == self.config.head_dim { &heads } else { x };
            dacapo_ops::rms_norm_in_place(self.encoder, rows, Some(weight), self.config.rms_eps)?;
        }
        Ok(heads)
    }

    /// Rotates `[T, N, hd]` in place.
    pub fn rope(&mut self, x: &Buffer, rope: &Rope) -> Result<()> {
        let inv_freq = self.io.frequencies.filter(|_| rope.by_length).unwrap_or(&rope.inv_freq);
        Ok(dacapo_ops::rope(self.encoder, x, inv_freq, self.io.step, rope.options)?)
    }

    /// Puts keys and values, `[T, KVH, hd]`, into the layer's cache.
    pub fn kv_write(&mut self, k: &Buffer, v: &Buffer, layer: usize) -> Result<()> {
        let (k_cache, v_cache) = self.io.cache.layer(layer);
        Ok(dacapo_ops::kv_write(self.encoder, k, v, self.io.step, k_cache, v_cache)?)
    }

    /// Causal attention of the queries `[T, H, hd]` over the layer's cache, `[T, H * hd]`.
    pub fn attention(
        &mut self,
        q: &Buffer,
        layer: usize,
        sinks: Option<&Buffer>,
        options: AttentionOptions,
    ) -> Result<Buffer> {
        let (k_cache, v_cache) = self.io.cache.layer(layer);
        let out = self.value(self.config.heads * self.config.head_dim)?;
        let heads = self.heads(&out)?;
        dacapo_ops::attention(self.encoder, q, k_cache, v_cache, self.io.step, sinks, &heads, options)?;
        Ok(out)
    }

    /// `x W^T + b`, `[T, N]`, of activations as they are.
    pub fn exact_linear(&mut self, x: &Buffer, layer: &Linear) -> Result<Buffer> {
        self.linear(&Activation::exact(x), layer)
    }

    /// The `k` experts of each token that a router's logits `[T, E]` choose, and their weights, `[T, k]`.
    pub fn route(&mut self, logits: &Buffer, k: usize, options: RouteOptions) -> Result<(Routed, Buffer)> {
        let weights = self.value(k)?;
        let ids = self.encoder.device().transient(DType::U32, weights.shape())?;
        dacapo_ops::route(self.encoder, logits, None, &ids, &weights, options)?;
        let routed = Routed::new(self.encoder, &ids, logits.shape()[1], true)?;
        Ok((routed, weights))
    }

    /// `x` as the input of these experts, as [`activation`](Self::activation) gives it to layers.
    pub fn experts_activation(&mut self, x: &Buffer, experts: &[&Experts]) -> Result<Activation> {
        self.rounded(x, experts.iter().any(|experts| experts.takes_int8()))
    }

    /// The products with the experts of each token, `[T * k, N]`: of `x` `[T, K]`, or of a row for each of them, `[T * k, K]`.
    pub fn experts(&mut self, x: &Activation, experts: &Experts, routed: &Routed) -> Result<Buffer> {
        let out = self.rows(routed.ids().len(), experts.n())?;
        dacapo_ops::matmul_experts(self.encoder, x, experts, routed, &out)?;
        Ok(out)
    }

    /// Adds the bias of each row's expert, `[E, N]`, to `[T * k, N]`.
    pub fn experts_bias(&mut self, y: &Buffer, bias: &Buffer, routed: &Routed) -> Result<()> {
        Ok(dacapo_ops::experts_bias(self.encoder, y, bias, routed)?)
    }

    /// gpt-oss's gated unit, of as many rows.
    pub fn gated_clamped(&mut self, gate: &Buffer, up: &Buffer, alpha: f32, limit: f32) -> Result<Buffer> {
        let out = self.rows(gate.shape()[0], gate.shape()[1])?;
        dacapo_ops::gated_clamped(self.encoder, gate, up, &out, alpha, limit)?;
        Ok(out)
    }

    /// What the experts of each token give, `[T * k, D]`, weighted and added up, `[T, D]`; and what an expert of all tokens
    /// gives, `[T, D]`, behind its gate, `[T, 1]`.
    pub fn experts_sum(
        &mut self,
        y: &Buffer,
        weights: &Buffer,
        shared: Option<(&Buffer, &Buffer)>,
    ) -> Result<Buffer> {
        let out = self.value(y.shape()[1])?;
        dacapo_ops::experts_sum(self.encoder, y, weights, shared, &out)?;
        Ok(out)
    }

    /// The convolution over time of `[T, C]`, with what the layer has seen before.
    pub fn convolution(&mut self, x: &Buffer, weight: &Buffer, layer: usize) -> Result<Buffer> {
        let out = self.value(x.shape()[1])?;
        let state = &self.io.cache.state(layer).convolution;
        dacapo_ops::depthwise_conv(self.encoder, x, weight, self.io.step, state, &out)?;
        Ok(out)
    }

    /// What the heads of a gated delta net read in the layer's memory, `[T, HV * DV]`, as the tokens change it.
    pub fn delta(&mut self, inputs: &DeltaInputs<'_>, layer: usize) -> Result<Buffer> {
        let state = &self.io.cache.state(layer).memory;
        let &[heads, _, width] = state.shape() else { unreachable!("a matrix for each head") };
        let out = self.value(heads * width)?;
        dacapo_ops::gated_delta(self.encoder, inputs, self.io.step, state, &out)?;
        Ok(out)
    }

    /// RMSNorm of `[T, N * W]` in rows of the weight's width.
    pub fn normed_rows(&mut self, x: &Buffer, weight: &Buffer) -> Result<Buffer> {
        let out = self.value(x.shape()[1])?;
        let rows = [x.len() / weight.len(), weight.len()];
        let (x, to) = (x.reshape(&rows)?, out.reshape(&rows)?);
        dacapo_ops::rms_norm(self.encoder, &x, Some(weight), &to, self.config.rms_eps)?;
        Ok(out)
    }

    /// `act(gate) * up`, of as many rows.
    pub fn gated(&mut self, gate: &Buffer, up: &Buffer, act: ActivationFn) -> Result<Buffer> {
        let out = self.rows(gate.shape()[0], gate.shape()[1])?;
        dacapo_ops::gated(self.encoder, gate, up, &out, act)?;
        Ok(out)
    }

    /// The tokens' rows of an embedding, `[T, D]`.
    pub fn tokens_of(&mut self, embedding: &Linear) -> Result<Buffer> {
        self.rows_of(embedding, self.io.tokens)
    }

    /// The rows of an embedding that the first T of these ids name, `[T, D]`.
    pub fn rows_of(&mut self, embedding: &Linear, ids: &Buffer) -> Result<Buffer> {
        let out = self.value(embedding.weight.k())?;
        let ids = ids.slice_view(0, &[self.io.tokens.len()])?;
        dacapo_ops::embed(self.encoder, &ids, &embedding.weight, &out, 1.0)?;
        Ok(out)
    }

    /// `a + b`, `[T, D]`.
    pub fn sum(&mut self, a: &Buffer, b: &Buffer) -> Result<Buffer> {
        let out = self.value(a.shape()[1])?;
        dacapo_ops::add(self.encoder, a, b, &out)?;
        Ok(out)
    }

    /// LayerNorm of `[T, D]`.
    pub fn layer_norm(&mut self, x: &Buffer, weight: &Buffer, bias: &Buffer) -> Result<Buffer> {
        let out = self.value(x.shape()[1])?;
        dacapo_ops::layer_norm(self.encoder, x, weight, Some(bias), &out, self.config.rms_eps)?;
        Ok(out)
    }

    /// `act(x)`, `[T, I]`.
    pub fn activate(&mut self, x: &Buffer, act: ActivationFn) -> Result<Buffer> {
        let out = self.value(x.shape()[1])?;
        dacapo_ops::activate(self.encoder, x, &out, act)?;
        Ok(out)
    }

    /// Ends the pass with the states `[T, D]` as its result.
    pub fn states(&mut self, x: &Buffer) -> Result<()> {
        let out = self.io.logits.slice_view(0, x.shape())?;
        Ok(dacapo_ops::copy(self.encoder, x, &out)?)
    }

    /// Ends the pass: the final norm and the head, for the positions that get logits.
    pub fn logits(&mut self, norm: &Buffer, head: &Linear) -> Result<()> {
        if self.io.output == Output::None {
            return Ok(());
        }
        let mut normed = self.norm(norm)?;
        if self.io.output == Output::States {
            return self.states(&normed);
        }
        if self.io.output == Output::Last {
            let &[tokens, width] = normed.shape() else { unreachable!("a norm has two dimensions") };
            normed = normed.slice_view((tokens - 1) * width, &[1, width])?;
        }
        let x = self.activation(&normed, &[head])?;
        let logits = self.io.logits.slice_view(0, &[normed.shape()[0], self.config.vocab_size])?;
        dacapo_ops::matmul(self.encoder, &x, &head.weight, head.bias.as_ref(), &logits)?;
        if self.config.logit_scale != 1.0 {
            dacapo_ops::scale_in_place(self.encoder, &logits, self.config.logit_scale as f32)?;
        }
        if let Some(cap) = self.config.logit_softcap {
            dacapo_ops::softcap_in_place(self.encoder, &logits, cap as f32)?;
        }
        Ok(())
    }
}
