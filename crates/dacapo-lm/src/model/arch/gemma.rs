//! Gemma 2 (Gemma Team, 2024) and the text part of Gemma 3 (2025).
//!
//! Norms before and behind attention and MLP, whose weights are one more than what folders hold; embeddings times the root
//! of their width; GELU in the MLP. Layers with a sliding window alternate with layers that see everything: one by one in
//! Gemma 2, five to one in Gemma 3. Gemma 2 caps scores and logits. Gemma 3 normalizes heads of queries and keys instead,
//! and rotates slower in the layers that see everything.

use crate::error::Result;
use crate::model::blocks::{Attention, Mlp};
use crate::model::decoder::{Decoder, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>, head_norms: bool) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let at = format!("{path}.self_attn");
        let mut attention = Attention::load(loader, &at, i, &ropes)?;
        if head_norms {
            attention = attention.with_head_norms(loader, &at)?;
        }
        Ok(Layer {
            before_attention: Some(loader.norm(&format!("{path}.input_layernorm"))?),
            attention: attention.into(),
            after_attention: Some(loader.norm(&format!("{path}.post_attention_layernorm"))?),
            before_mlp: Some(loader.norm(&format!("{path}.pre_feedforward_layernorm"))?),
            mlp: Mlp::load(loader, &format!("{path}.mlp"))?.into(),
            after_mlp: Some(loader.norm(&format!("{path}.post_feedforward_layernorm"))?),
        })
    })
}
