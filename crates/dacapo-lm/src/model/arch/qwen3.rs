//! Qwen3 (Yang et al., 2025): Llama's layers with an RMSNorm over each head of queries and keys before the rotation.

use crate::error::Result;
use crate::model::blocks::{Attention, Mlp};
use crate::model::decoder::{Decoder, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let at = format!("{path}.self_attn");
        let attention = Attention::load(loader, &at, i, &ropes)?.with_head_norms(loader, &at)?;
        let mlp = Mlp::load(loader, &format!("{path}.mlp"))?;
        Layer::pre_norm(loader, path, attention, mlp)
    })
}
