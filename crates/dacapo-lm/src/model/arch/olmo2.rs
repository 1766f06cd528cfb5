//! OLMo 2 (OLMo Team, 2024) and OLMo 3 (2025): norms behind attention and MLP only, and an RMSNorm over all queries of a
//! token together, and over all keys, before the rotation. OLMo 3 adds sliding windows, and stretches the rotation of
//! layers without one only.

use crate::error::Result;
use crate::model::blocks::{Attention, Mlp};
use crate::model::decoder::{Decoder, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let at = format!("{path}.self_attn");
        let mut attention = Attention::load(loader, &at, i, &ropes)?;
        let c = loader.config();
        attention.q_norm = Some(loader.norm_of(&format!("{at}.q_norm"), c.heads * c.head_dim)?);
        attention.k_norm = Some(loader.norm_of(&format!("{at}.k_norm"), c.kv_heads * c.head_dim)?);
        Ok(Layer {
            before_attention: None,
            attention: attention.into(),
            after_attention: Some(loader.norm(&format!("{path}.post_attention_layernorm"))?),
            before_mlp: None,
            mlp: Mlp::load(loader, &format!("{path}.mlp"))?.into(),
            after_mlp: Some(loader.norm(&format!("{path}.post_feedforward_layernorm"))?),
        })
    })
}
