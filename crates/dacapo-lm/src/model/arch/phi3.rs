//! Phi-3 (Abdin et al., 2024) and Phi-4-mini (2025): Llama's layers, whose file has queries, keys and values in one matrix,
//! and gate and up projection in another. LongRoPE has two lists of frequencies: which one counts depends on the length of
//! the context. Phi-4-mini rotates a part of each head only.

use crate::error::Result;
use crate::model::blocks::{Attention, Mlp};
use crate::model::decoder::{Decoder, Layer};
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let c = loader.config();
        let (d, q, kv) = (c.hidden_size, c.heads * c.head_dim, c.kv_heads * c.head_dim);
        let at = format!("{path}.self_attn");
        let projections = loader.linear_parts(&format!("{at}.qkv_proj"), [q, kv, kv], d)?;
        let attention = Attention::around(loader, &at, i, &ropes, projections)?;
        let at = format!("{path}.mlp");
        let [gate, up] = loader.linear_parts(&format!("{at}.gate_up_proj"), [c.intermediate_size; 2], d)?;
        let mlp = Mlp::around(loader, &at, gate, up)?;
        Layer::pre_norm(loader, path, attention, mlp)
    })
}
