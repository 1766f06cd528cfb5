//! Mistral (Jiang et al., 2023): Llama's layers, where a token may see a window of recent positions only.

use dacapo::Buffer;

use super::Architecture;
use crate::error::Result;
use crate::model::blocks::{Attention, Linear, PreNormLayer};
use crate::model::load::Loader;
use crate::model::pass::Pass;

/// `logits = head(norm(layers(embed(tokens))))`
pub(super) struct Mistral {
    /// `[V, D]`.
    embed: Linear,
    layers: Vec<PreNormLayer>,
    /// F32 `[D]`.
    norm: Buffer,
    /// `[V, D]`; the embedding itself if they are tied.
    head: Linear,
}

impl Mistral {
    pub fn load(loader: &mut Loader<'_>) -> Result<Self> {
        let (embed, head) = loader.embedding_and_head()?;
        let rope = loader.rope()?;
        let layers = (0..loader.config().layers).map(|i| {
            let path = format!("model.layers.{i}");
            let attention = Attention::load(loader, &format!("{path}.self_attn"), i, &rope)?;
            PreNormLayer::load(loader, &path, attention)
        });
        let layers = layers.collect::<Result<_>>()?;
        Ok(Mistral { embed, layers, norm: loader.norm("model.norm")?, head })
    }
}

impl Architecture for Mistral {
    fn forward(&self, pass: &mut Pass<'_>) -> Result<()> {
        pass.embed(&self.embed)?;
        for (i, layer) in self.layers.iter().enumerate() {
            layer.forward(pass, i)?;
        }
        pass.logits(&self.norm, &self.head)
    }
}
