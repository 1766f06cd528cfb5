//! BERT (Devlin et al., 2018): an encoder, whose tokens see each other in both directions.
//!
//! Embeddings of tokens, positions and kinds of text are added and normalized. Norms, with a bias and about the mean, stand
//! behind what attention and MLP give and what went into them. There is no head: the states of the last layer are the
//! result.

use dacapo::{Buffer, DType};
use dacapo_ops::{ActivationFn, AttentionOptions};

use super::Architecture;
use crate::error::Result;
use crate::model::blocks::{Attention, Linear};
use crate::model::decoder::activation;
use crate::model::load::Loader;
use crate::model::pass::Pass;

/// `states = layers(norm(words[tokens] + types[0] + positions[0..T]))`
pub(super) struct Bert {
    /// `[V, D]`.
    words: Linear,
    /// `[P, D]`, a row for each position.
    positions: Linear,
    /// `[S, D]`, a row for each kind of text; the first is that of a text alone.
    types: Linear,
    norm: LayerNorm,
    layers: Vec<Layer>,
    /// U32 `[P]`: 0, 1, ..
    counting: Buffer,
    /// U32 `[P]`: zeros.
    first_type: Buffer,
}

/// `(x - mean) / sqrt(var + eps) * weight + bias`
pub(super) struct LayerNorm {
    /// F32 `[D]`.
    weight: Buffer,
    /// F32 `[D]`.
    bias: Buffer,
}

/// `h = norm(x + attention(x))`, `y = norm(h + down(act(up(h))))`
struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    /// `[I, D]`.
    up: Linear,
    /// `[D, I]`.
    down: Linear,
    norm: LayerNorm,
    act: ActivationFn,
}

impl LayerNorm {
    fn load(loader: &mut Loader<'_>, path: &str) -> Result<Self> {
        Ok(LayerNorm {
            weight: loader.vector(&format!("{path}.weight"))?,
            bias: loader.vector(&format!("{path}.bias"))?,
        })
    }
}

impl Bert {
    pub fn load(loader: &mut Loader<'_>) -> Result<Self> {
        let c = loader.config();
        let (d, context) = (c.hidden_size, c.context_length);
        let counting: Vec<u32> = (0..context as u32).collect();
        Ok(Bert {
            words: loader.embedding("embeddings.word_embeddings", c.vocab_size, d)?,
            positions: loader.embedding("embeddings.position_embeddings", context, d)?,
            types: loader.embedding("embeddings.token_type_embeddings", c.token_types, d)?,
            norm: LayerNorm::load(loader, "embeddings.LayerNorm")?,
            layers: (0..c.layers)
                .map(|i| Layer::load(loader, &format!("encoder.layer.{i}")))
                .collect::<Result<_>>()?,
            counting: loader.device().upload(&counting, &[context])?,
            first_type: loader.device().alloc(DType::U32, &[context])?,
        })
    }
}

impl Architecture for Bert {
    fn forward(&self, pass: &mut Pass<'_>) -> Result<()> {
        let words = pass.tokens_of(&self.words)?;
        let types = pass.rows_of(&self.types, &self.first_type)?;
        let positions = pass.rows_of(&self.positions, &self.counting)?;
        let sum = pass.sum(&words, &types)?;
        let sum = pass.sum(&sum, &positions)?;
        let mut x = pass.layer_norm(&sum, &self.norm.weight, &self.norm.bias)?;
        for (i, layer) in self.layers.iter().enumerate() {
            x = layer.forward(pass, &x, i)?;
        }
        pass.states(&x)
    }
}

impl Layer {
    fn load(loader: &mut Loader<'_>, path: &str) -> Result<Self> {
        let c = loader.config();
        let (d, inner) = (c.hidden_size, c.intermediate_size);
        let at = |part: &str| format!("{path}.{part}");
        let attention = Attention {
            q: loader.linear(&at("attention.self.query"), d, d, true)?,
            k: loader.linear(&at("attention.self.key"), d, d, true)?,
            v: loader.linear(&at("attention.self.value"), d, d, true)?,
            gate: None,
            o: loader.linear(&at("attention.output.dense"), d, d, true)?,
            q_norm: None,
            k_norm: None,
            sinks: None,
            rope: None,
            options: AttentionOptions { causal: false, ..AttentionOptions::causal(c.attention_scale as f32) },
        };
        Ok(Layer {
            attention,
            attention_norm: LayerNorm::load(loader, &at("attention.output.LayerNorm"))?,
            up: loader.linear(&at("intermediate.dense"), inner, d, true)?,
            down: loader.linear(&at("output.dense"), d, inner, true)?,
            norm: LayerNorm::load(loader, &at("output.LayerNorm"))?,
            act: activation(c.hidden_act),
        })
    }

    /// `[T, D]` to `[T, D]`.
    fn forward(&self, pass: &mut Pass<'_>, x: &Buffer, layer: usize) -> Result<Buffer> {
        let attended = self.attention.forward(pass, x, layer)?;
        let sum = pass.sum(&attended, x)?;
        let h = pass.layer_norm(&sum, &self.attention_norm.weight, &self.attention_norm.bias)?;
        let input = pass.activation(&h, &[&self.up])?;
        let inner = pass.linear(&input, &self.up)?;
        let inner = pass.activate(&inner, self.act)?;
        let inner = pass.activation(&inner, &[&self.down])?;
        let out = pass.linear(&inner, &self.down)?;
        let sum = pass.sum(&out, &h)?;
        pass.layer_norm(&sum, &self.norm.weight, &self.norm.bias)
    }
}
