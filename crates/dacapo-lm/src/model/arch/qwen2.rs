//! Qwen2 and Qwen2.5 (Yang et al., 2024): Llama's layers with biases on queries, keys and values, which are loaded where
//! the checkpoint has them. Upper layers may see a window of recent positions only.

use dacapo::Buffer;

use super::Architecture;
use crate::error::Result;
use crate::model::blocks::{Attention, Linear, PreNormLayer};
use crate::model::load::Loader;
use crate::model::pass::Pass;

/// `logits = head(norm(layers(embed(tokens))))`
pub(super) struct Qwen2 {
    /// `[V, D]`.
    embed: Linear,
    layers: Vec<PreNormLayer>,
    /// F32 `[D]`.
    norm: Buffer,
    /// `[V, D]`; the embedding itself if they are tied.
    head: Linear,
}

impl Qwen2 {
    pub fn load(loader: &mut Loader<'_>) -> Result<Self> {
        let (embed, head) = loader.embedding_and_head()?;
        let rope = loader.rope()?;
        let layers = (0..loader.config().layers).map(|i| {
            let path = format!("model.layers.{i}");
            let attention = Attention::load(loader, &format!("{path}.self_attn"), i, &rope)?;
            PreNormLayer::load(loader, &path, attention)
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Qwen2 { embed, layers, norm: loader.norm("model.norm")?, head })
    }
}

impl Architecture for Qwen2 {
    fn forward(&self, pass: &mut Pass<'_>) -> Result<()> {
        pass.embed(&self.embed)?;
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(pass, i)?;
        }
        pass.logits(&self.norm, &self.head)
    }
}
