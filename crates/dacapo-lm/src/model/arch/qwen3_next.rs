//! Qwen3-Next (2025) and the text part of Qwen3.5 (2026): most layers have a gated delta net in the place of attention. Where there
//! is attention, each head's result is gated, a part of each head is rotated, and heads of queries and keys are normalized.

use std::ops::Range;

use crate::error::Result;
use crate::model::blocks::{Attention, Linear, Mixer};
use crate::model::decoder::{Decoder, FeedForward, Layer};
use crate::model::delta_net::DeltaNet;
use crate::model::load::Loader;
use crate::model::rope::Ropes;

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let is_net = |nets: &crate::checkpoint::DeltaNets| nets.layers[i];
        let mixer = match loader.config().delta_nets.as_ref().filter(|nets| is_net(nets)) {
            Some(nets) => Mixer::DeltaNet(DeltaNet::load(loader, &format!("{path}.linear_attn"), nets)?),
            None => gated_attention(loader, &format!("{path}.self_attn"), i, &ropes)?.into(),
        };
        let mlp = FeedForward::load(loader, &format!("{path}.mlp"), i)?;
        Layer::pre_norm(loader, path, mixer, mlp)
    })
}

/// Attention whose file has the rows of each head's queries and those of its gate one behind the other.
fn gated_attention(loader: &mut Loader<'_>, path: &str, layer: usize, ropes: &Ropes) -> Result<Attention> {
    let c = loader.config();
    let (d, hd) = (c.hidden_size, c.head_dim);
    let part = |which: usize| -> Vec<Range<usize>> {
        (0..c.heads).map(|head| (2 * head + which) * hd..(2 * head + which + 1) * hd).collect()
    };
    let [q, gate] =
        loader.linear_pieces(&format!("{path}.q_proj"), 2 * c.heads * hd, d, [part(0), part(1)])?;
    let kv = |loader: &mut Loader<'_>, which: &str| -> Result<Linear> {
        loader.linear(&format!("{path}.{which}_proj"), c.kv_heads * hd, d, c.attention_bias)
    };
    let projections = [q, kv(loader, "k")?, kv(loader, "v")?];
    let attention = Attention::around(loader, path, layer, ropes, projections)?;
    Attention { gate: Some(gate), ..attention }.with_head_norms(loader, path)
}
