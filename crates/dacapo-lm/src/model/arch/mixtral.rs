//! Mixtral (Jiang et al., 2024): Mistral's layers with experts in the place of the MLP.

use crate::error::Result;
use crate::model::blocks::Attention;
use crate::model::decoder::{Decoder, FeedForward, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let attention = Attention::load(loader, &format!("{path}.self_attn"), i, &ropes)?;
        let experts = FeedForward::load(loader, &format!("{path}.block_sparse_moe"), i)?;
        Layer::pre_norm(loader, path, attention, experts)
    })
}
