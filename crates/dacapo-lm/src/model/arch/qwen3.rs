//! Qwen3 (Yang et al., 2025): Llama's layers with an RMSNorm over each head of queries and keys before the rotation.

use dacapo::Buffer;

use super::Architecture;
use crate::error::Result;
use crate::model::blocks::{Attention, Linear, PreNormLayer};
use crate::model::load::Loader;
use crate::model::pass::Pass;

/// `logits = head(norm(layers(embed(tokens))))`
pub(super) struct Qwen3 {
    /// `[V, D]`.
    embed: Linear,
    layers: Vec<PreNormLayer>,
    /// F32 `[D]`.
    norm: Buffer,
    /// `[V, D]`; the embedding itself if they are tied.
    head: Linear,
}

impl Qwen3 {
    pub fn load(loader: &mut Loader<'_>) -> Result<Self> {
        let (embed, head) = loader.embedding_and_head()?;
        let rope = loader.rope()?;
        let layers = (0..loader.config().layers).map(|i| {
            let path = format!("model.layers.{i}");
            let mut attention = Attention::load(loader, &format!("{path}.self_attn"), i, &rope)?;
            attention.q_norm = Some(loader.head_norm(&format!("{path}.self_attn.q_norm"))?);
            attention.k_norm = Some(loader.head_norm(&format!("{path}.self_attn.k_norm"))?);
            PreNormLayer::load(loader, &path, attention)
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Qwen3 { embed, layers, norm: loader.norm("model.norm")?, head })
    }
}

impl Architecture for Qwen3 {
    fn forward(&self, pass: &mut Pass<'_>) -> Result<()> {
        pass.embed(&self.embed)?;
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(pass, i)?;
        }
        pass.logits(&self.norm, &self.head)
    }
}
