//! Qwen3-MoE (Yang et al., 2025): Qwen3's layers with experts in the place of the MLP. Some layers may have a plain MLP.

use crate::error::Result;
use crate::model::blocks::Attention;
use crate::model::decoder::{Decoder, FeedForward, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let at = format!("{path}.self_attn");
        let attention = Attention::load(loader, &at, i, &ropes)?.with_head_norms(loader, &at)?;
        let mlp = FeedForward::load(loader, &format!("{path}.mlp"), i)?;
        Layer::pre_norm(loader, path, attention, mlp)
    })
}
