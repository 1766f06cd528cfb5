//! The decoder that the architectures are variations of: an embedding, layers around a residual stream, a head.
//!
//! An architecture's file says how its layers are put together, from these parts or its own.

use dacapo::Buffer;
use dacapo_ops::AttentionOptions;

use super::arch::Architecture;
use super::blocks::{Attention, Linear, Mixer, Mlp};
use super::load::Loader;
use super::moe::Moe;
use super::pass::Pass;
use super::rope::Ropes;
use crate::checkpoint::Activation;
use crate::error::Result;

/// `logits = head(norm(layers(embed(tokens))))`
#[derive(Debug)]
pub(crate) struct Decoder {
    /// `[V, D]`.
    embed: Linear,
    layers: Vec<Layer>,
    /// RMSNorm behind the last layer, F32 `[D]`.
    norm: Buffer,
    /// `[V, D]`; the embedding itself if they are tied.
    head: Linear,
}

/// Attention and MLP, each added to the residual stream: `x += after(block(before(x)))`. Most families normalize what goes
/// into a block, some what comes out, some both.
#[derive(Debug)]
pub(crate) struct Layer {
    /// RMSNorm before the attention, F32 `[D]`.
    pub before_attention: Option<Buffer>,
    /// Attention, or what stands in its place.
    pub attention: Mixer,
    /// RMSNorm behind it, F32 `[D]`.
    pub after_attention: Option<Buffer>,
    /// RMSNorm before the MLP, F32 `[D]`.
    pub before_mlp: Option<Buffer>,
    pub mlp: FeedForward,
    /// RMSNorm behind it, F32 `[D]`.
    pub after_mlp: Option<Buffer>,
}

/// What follows the attention in a layer.
#[derive(Debug)]
pub(crate) enum FeedForward {
    Mlp(Box<Mlp>),
    /// Experts in the place of an MLP.
    Moe(Box<Moe>),
}

impl From<Mlp> for FeedForward {
    fn from(mlp: Mlp) -> Self {
        FeedForward::Mlp(Box::new(mlp))
    }
}

impl FeedForward {
    /// What the configuration has in this layer, at the module path: experts, or an MLP.
    pub fn load(loader: &mut Loader<'_>, path: &str, layer: usize) -> Result<Self> {
        let experts = loader.config().experts.as_ref();
        if experts.is_some_and(|experts| experts.layers.get(layer).copied().unwrap_or(true)) {
            return Ok(FeedForward::Moe(Box::new(Moe::load(loader, path)?)));
        }
        Ok(Mlp::load(loader, path)?.into())
    }

    /// `x [T, D]` to `[T, D]`.
    fn forward(&self, pass: &mut Pass<'_>, x: &Buffer) -> Result<Buffer> {
        match self {
            FeedForward::Mlp(mlp) => mlp.forward(pass, x),
            FeedForward::Moe(moe) => moe.forward(pass, x),
        }
    }
}

impl Decoder {
    /// Embedding, final norm and head, around layers that `layer` loads from module paths such as `model.layers.0`.
    pub fn load(
        loader: &mut Loader<'_>,
        mut layer: impl FnMut(&mut Loader<'_>, usize, &str) -> Result<Layer>,
    ) -> Result<Self> {
        let (embed, head) = loader.embedding_and_head()?;
        let layers = (0..loader.config().layers).map(|i| layer(loader, i, &format!("model.layers.{i}")));
        let layers = layers.collect::<Result<_>>()?;
        Ok(Decoder { embed, layers, norm: loader.norm("model.norm")?, head })
    }
}

impl Architecture for Decoder {
    fn forward(&self, pass: &mut Pass<'_>) -> Result<()> {
        pass.embed(&self.embed)?;
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(pass, i)?;
        }
        pass.logits(&self.norm, &self.head)
    }
}

impl Layer {
    /// A layer that normalizes what goes into its blocks, as Llama and its kin do, at the module path.
    pub fn pre_norm(
        loader: &mut Loader<'_>,
        path: &str,
        attention: impl Into<Mixer>,
        mlp: impl Into<FeedForward>,
    ) -> Result<Self> {
        Ok(Layer {
            before_attention: Some(loader.norm(&format!("{path}.input_layernorm"))?),
            attention: attention.into(),
            after_attention: None,
            before_mlp: Some(loader.norm(&format!("{path}.post_attention_layernorm"))?),
            mlp: mlp.into(),
            after_mlp: None,
        })
    }

    /// Adds to the residual stream what the layer makes of it.
    fn forward(&self, pass: &mut Pass<'_>, layer: usize) -> Result<()> {
        let x = pass.stream_or_norm(self.before_attention.as_ref())?;
        let attended = self.attention.forward(pass, &x, layer)?;
        pass.add_block(attended, self.after_attention.as_ref())?;
        let x = pass.stream_or_norm(self.before_mlp.as_ref())?;
        let out = self.mlp.forward(pass, &x)?;
        pass.add_block(out, self.after_mlp.as_ref())
    }
}

impl Attention {
    /// The attention of a layer, at the module path: rotation, window, scale and cap are those of the configuration, and
    /// there are no norms.
    pub fn load(loader: &mut Loader<'_>, path: &str, layer: usize, ropes: &Ropes) -> Result<Self> {
        let c = loader.config();
        let (d, q, kv) = (c.hidden_size, c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let projections = [
            loader.linear(&format!("{path}.q_proj"), q, d, c.attention_bias)?,
            loader.linear(&format!("{path}.k_proj"), kv, d, c.attention_bias)?,
            loader.linear(&format!("{path}.v_proj"), kv, d, c.attention_bias)?,
        ];
        Self::around(loader, path, layer, ropes, projections)
    }

    /// The same around projections to queries, keys and values that are loaded already.
    pub fn around(
        loader: &mut Loader<'_>,
        path: &str,
        layer: usize,
        ropes: &Ropes,
        [q, k, v]: [Linear; 3],
    ) -> Result<Self> {
        let c = loader.config();
        let o = loader.linear(
            &format!("{path}.o_proj"),
            c.hidden_size,
            c.heads * c.head_dim,
            c.attention_output_bias,
        )?;
        let options = AttentionOptions {
            window: c.sliding_windows.get(layer).copied().flatten(),
            softcap: c.attention_softcap.map(|cap| cap as f32),
            ..AttentionOptions::causal(c.attention_scale as f32)
        };
        let rope = ropes.of_layer(c, layer);
        Ok(Attention { q, k, v, gate: None, o, q_norm: None, k_norm: None, rope, sinks: None, options })
    }

    /// With an RMSNorm over each head of queries and keys.
    pub fn with_head_norms(mut self, loader: &mut Loader<'_>, path: &str) -> Result<Self> {
        let width = loader.config().head_dim;
        self.q_norm = Some(loader.norm_of(&format!("{path}.q_norm"), width)?);
        self.k_norm = Some(loader.norm_of(&format!("{path}.k_norm"), width)?);
        Ok(self)
    }
}

impl Mlp {
    /// The gated MLP at the module path.
    pub fn load(loader: &mut Loader<'_>, path: &str) -> Result<Self> {
        let width = loader.config().intermediate_size;
        Self::load_width(loader, path, width)
    }

    /// The same of another width inside.
    pub fn load_width(loader: &mut Loader<'_>, path: &str, width: usize) -> Result<Self> {
        let (d, bias) = (loader.config().hidden_size, loader.config().mlp_bias);
        let gate = loader.linear(&format!("{path}.gate_proj"), width, d, bias)?;
        let up = loader.linear(&format!("{path}.up_proj"), width, d, bias)?;
        Self::around(loader, path, gate, up)
    }

    /// The same around projections that are loaded already.
    pub fn around(loader: &mut Loader<'_>, path: &str, gate: Linear, up: Linear) -> Result<Self> {
        let c = loader.config();
        let down = loader.linear(&format!("{path}.down_proj"), c.hidden_size, gate.weight.n(), c.mlp_bias)?;
        Ok(Mlp { gate, up, down, act: activation(c.hidden_act) })
    }
}

/// The kernel's name of an activation.
pub(crate) fn activation(function: Activation) -> dacapo_ops::ActivationFn {
    match function {
        Activation::Silu => dacapo_ops::ActivationFn::Silu,
        Activation::Gelu => dacapo_ops::ActivationFn::Gelu,
        Activation::GeluTanh => dacapo_ops::ActivationFn::GeluTanh,
    }
}
