//! A forward pass being encoded: the operations that architectures are written in, and the memory they share.

use dacapo::{Buffer, CommandEncoder, DType, Device};
use dacapo_ops::{Activation, ActivationFn, AttentionOptions, Int8Buffers};

use super::blocks::{Linear, Rope, Slot};
use super::cache::KvCache;
use crate::checkpoint::ModelConfig;
use crate::error::Result;

/// Which positions get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// None: the pass only fills the cache.
    None,
    /// The last one: one row.
    Last,
    /// All: a row for each token.
    All,
}

/// Memory for the activations of up to a number of tokens, used again by every layer.
#[derive(Debug)]
pub(crate) struct Activations {
    /// The residual stream, `[T, D]`: adding to it writes the other one.
    stream: [Buffer; 2],
    /// Normalized stream, `[T, D]`.
    normed: Buffer,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    /// What attention gathers, `[T, H * hd]`.
    attended: Buffer,
    out: Buffer,
    gate: Buffer,
    up: Buffer,
    /// Product of the MLP's halves, `[T, I]`.
    inner: Buffer,
    /// Input of products in int8; `None` if they are to be exact.
    int8: Option<Int8Buffers>,
}

impl Activations {
    /// Memory for up to `tokens` tokens. With `exact`, products take no quantized input.
    pub fn new(device: &Device, config: &ModelConfig, tokens: usize, exact: bool) -> Result<Self> {
        let (d, inner) = (config.hidden_size, config.intermediate_size);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let alloc = |width: usize| device.alloc(DType::F32, &[tokens, width]);
        let int8 = || Int8Buffers::new(device, (tokens * d.max(q).max(inner)).next_multiple_of(32));
        Ok(Activations {
            stream: [alloc(d)?, alloc(d)?],
            normed: alloc(d)?,
            q: alloc(q)?,
            k: alloc(kv)?,
            v: alloc(kv)?,
            attended: alloc(q)?,
            out: alloc(d)?,
            gate: alloc(inner)?,
            up: alloc(inner)?,
            inner: alloc(inner)?,
            int8: if exact { None } else { Some(int8()?) },
        })
    }
}

/// A forward pass over some tokens.
pub(crate) struct Pass<'a> {
    pub encoder: &'a mut CommandEncoder,
    pub config: &'a ModelConfig,
    pub activations: &'a Activations,
    pub cache: &'a KvCache,
    /// U32: the position of the first token.
    pub step: &'a Buffer,
    /// U32 `[T]`.
    pub tokens: &'a Buffer,
    /// F32, a row of the vocabulary for each position that gets logits.
    pub logits: &'a Buffer,
    pub output: Output,
    /// Which buffer holds the residual stream.
    stream: usize,
    /// What is to be added to it before it is read again.
    pending: Option<Buffer>,
}

impl<'a> Pass<'a> {
    #[allow(clippy::too_many_arguments, reason = "the parts of a pass; named at the one call")]
    pub fn new(
        encoder: &'a mut CommandEncoder,
        config: &'a ModelConfig,
        activations: &'a Activations,
        cache: &'a KvCache,
        step: &'a Buffer,
        tokens: &'a Buffer,
        logits: &'a Buffer,
        output: Output,
    ) -> Self {
        Pass { encoder, config, activations, cache, step, tokens, logits, output, stream: 0, pending: None }
    }

    /// Tokens in the pass.
    fn count(&self) -> usize {
        self.tokens.len()
    }

    /// The first rows of a `[max, width]` buffer, one for each token.
    fn rows(&self, buffer: &Buffer) -> Result<Buffer> {
        let width = buffer.shape()[1];
        Ok(buffer.slice_view(0, &[self.count(), width])?)
    }

    /// Starts the residual stream: `[T, D]`, the tokens' rows of the embedding.
    pub fn embed(&mut self, embedding: &Linear) -> Result<()> {
        let x = self.rows(&self.activations.stream[self.stream])?;
        Ok(dacapo_ops::embed(self.encoder, self.tokens, &embedding.weight, &x, 1.0)?)
    }

    /// Adds `[T, D]` to the residual stream.
    pub fn add(&mut self, x: &Buffer) -> Result<()> {
        self.settle()?;
        self.pending = Some(x.clone());
        Ok(())
    }

    /// RMSNorm of the residual stream, `[T, D]`.
    pub fn norm(&mut self, weight: &Buffer) -> Result<Buffer> {
        let out = self.rows(&self.activations.normed)?;
        let x = self.rows(&self.activations.stream[self.stream])?;
        let eps = self.config.rms_eps;
        match self.pending.take() {
            None => dacapo_ops::rms_norm(self.encoder, &x, Some(weight), &out, eps)?,
            Some(added) => {
                self.stream = 1 - self.stream;
                let sum = self.rows(&self.activations.stream[self.stream])?;
                dacapo_ops::rms_norm_add(self.encoder, &added, &x, weight, &sum, &out, eps)?;
            }
        }
        Ok(out)
    }

    /// Carries out an addition that no norm has taken along.
    fn settle(&mut self) -> Result<()> {
        if let Some(added) = self.pending.take() {
            let x = self.rows(&self.activations.stream[self.stream])?;
            dacapo_ops::add_in_place(self.encoder, &x, &added)?;
        }
        Ok(())
    }

    /// `x [T, K]` as the input of these layers: quantized once for all that can take it so.
    pub fn activation(&mut self, x: &Buffer, layers: &[&Linear]) -> Result<Activation> {
        match &self.activations.int8 {
            Some(int8) if layers.iter().any(|layer| layer.weight.takes_int8()) => {
                Ok(Activation::quantize(self.encoder, x, int8)?)
            }
            _ => Ok(Activation::exact(x)),
        }
    }

    /// `x W^T + b`, `[T, N]`.
    pub fn linear(&mut self, x: &Activation, layer: &Linear, slot: Slot) -> Result<Buffer> {
        let a = self.activations;
        let out = self.rows(match slot {
            Slot::Q => &a.q,
            Slot::K => &a.k,
            Slot::V => &a.v,
            Slot::Out => &a.out,
            Slot::Gate => &a.gate,
            Slot::Up => &a.up,
        })?;
        dacapo_ops::matmul(self.encoder, x, &layer.weight, layer.bias.as_ref(), &out)?;
        Ok(out)
    }

    /// `[T, N * hd]` as `[T, N, hd]`.
    pub fn heads(&self, x: &Buffer) -> Result<Buffer> {
        let dim = self.config.head_dim;
        Ok(x.reshape(&[self.count(), x.shape()[1] / dim, dim])?)
    }

    /// RMSNorm of each row of the innermost dimension, in place.
    pub fn rms_norm_in_place(&mut self, x: &Buffer, weight: &Buffer) -> Result<()> {
        Ok(dacapo_ops::rms_norm_in_place(self.encoder, x, Some(weight), self.config.rms_eps)?)
    }

    /// Rotates `[T, N, hd]` in place.
    pub fn rope(&mut self, x: &Buffer, rope: &Rope) -> Result<()> {
        Ok(dacapo_ops::rope(self.encoder, x, &rope.inv_freq, self.step, rope.options)?)
    }

    /// Puts keys and values, `[T, KVH, hd]`, into the layer's cache.
    pub fn kv_write(&mut self, k: &Buffer, v: &Buffer, layer: usize) -> Result<()> {
        let (k_cache, v_cache) = self.cache.layer(layer);
        Ok(dacapo_ops::kv_write(self.encoder, k, v, self.step, k_cache, v_cache)?)
    }

    /// Causal attention of the queries `[T, H, hd]` over the layer's cache, `[T, H * hd]`.
    pub fn attention(&mut self, q: &Buffer, layer: usize, window: Option<usize>) -> Result<Buffer> {
        let (k_cache, v_cache) = self.cache.layer(layer);
        let out = self.rows(&self.activations.attended)?;
        let scale = 1.0 / (self.config.head_dim as f32).sqrt();
        let options = AttentionOptions { scale, causal: true, window, softcap: None };
        let heads = self.heads(&out)?;
        dacapo_ops::attention(self.encoder, q, k_cache, v_cache, self.step, None, &heads, options)?;
        Ok(out)
    }

    /// `act(gate) * up`, `[T, I]`.
    pub fn gated(&mut self, gate: &Buffer, up: &Buffer, act: ActivationFn) -> Result<Buffer> {
        let out = self.rows(&self.activations.inner)?;
        dacapo_ops::gated(self.encoder, gate, up, &out, act)?;
        Ok(out)
    }

    /// Ends the pass: the final norm and the head, for the positions that get logits.
    pub fn logits(&mut self, norm: &Buffer, head: &Linear) -> Result<()> {
        if self.output == Output::None {
            return Ok(());
        }
        let normed = self.norm(norm)?;
        let normed = match self.output {
            Output::All => normed,
            _ => {
                let width = normed.shape()[1];
                normed.slice_view((self.count() - 1) * width, &[1, width])?
            }
        };
        let x = self.activation(&normed, &[head])?;
        let logits = self.logits.slice_view(0, &[normed.shape()[0], self.config.vocab_size])?;
        Ok(dacapo_ops::matmul(self.encoder, &x, &head.weight, head.bias.as_ref(), &logits)?)
    }
}
