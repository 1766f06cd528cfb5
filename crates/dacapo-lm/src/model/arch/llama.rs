//! Llama (Touvron et al., 2023; Grattafiori et al., 2024): Llama 2 and 3 and the many models of the same shape.
//!
//! Pre-norm layers, rotary positions, grouped-query attention, SwiGLU. Llama 3.1 scales the rotary frequencies for long
//! contexts. Families that differ only in what the configuration says are the same: Mistral (Jiang et al., 2023), whose
//! tokens may see a window of recent positions only; Qwen2 and Qwen2.5 (Yang et al., 2024), which have biases on queries,
//! keys and values; SmolLM 3 (2025), which does not rotate in every fourth layer; Granite 3 (2024), which multiplies
//! embeddings, scores, what is added to the residual stream, and logits by factors of its own.

use crate::error::Result;
use crate::model::blocks::{Attention, Mlp};
use crate::model::decoder::{Decoder, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let attention = Attention::load(loader, &format!("{path}.self_attn"), i, &ropes)?;
        let mlp = Mlp::load(loader, &format!("{path}.mlp"))?;
        Layer::pre_norm(loader, path, attention, mlp)
    })
}
