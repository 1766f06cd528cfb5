//! Qwen2-MoE and Qwen1.5-MoE (Yang et al., 2024): Qwen2's layers with experts in the place of the MLP, and one more that every
//! token goes through, behind a gate. Some layers may have a plain MLP.

use crate::error::Result;
use crate::model::blocks::Attention;
use crate::model::decoder::{Decoder, FeedForward, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let attention = Attention::load(loader, &format!("{path}.self_attn"), i, &ropes)?;
        let mlp = FeedForward::load(loader, &format!("{path}.mlp"), i)?;
        Layer::pre_norm(loader, path, attention, mlp)
    })
}
