//! gpt-oss (OpenAI, 2025): experts with biases and a clamped gate in every layer, a sink beside the scores of each head, and a window
//! in every other layer.

use dacapo_ops::{RouteOptions, Scoring};

use crate::error::Result;
use crate::model::blocks::Attention;
use crate::model::decoder::{Decoder, FeedForward, Layer};
use crate::model::load::Loader;
use crate::model::moe::{Moe, Unit};
use crate::model::rope::Ropes;

/// Slope of the gate's sigmoid, and the bound of gate and up.
const UNIT: Unit = Unit::Clamped { alpha: 1.702, limit: 7.0 };

/// The softmax of the chosen logits.
const ROUTING: RouteOptions = RouteOptions { scoring: Scoring::Softmax, normalized: true, scale: 1.0 };

pub(super) fn load(loader: &mut Loader<'_>) -> Result<Decoder> {
    let ropes = Ropes::load(loader)?;
    Decoder::load(loader, |loader, i, path| {
        let at = format!("{path}.self_attn");
        let mut attention = Attention::load(loader, &at, i, &ropes)?;
        attention.sinks = Some(loader.sinks(&at)?);
        let experts = experts(loader, &format!("{path}.mlp"))?;
        Layer::pre_norm(loader, path, attention, FeedForward::Moe(Box::new(experts)))
    })
}

fn experts(loader: &mut Loader<'_>, path: &str) -> Result<Moe> {
    let c = loader.config();
    let experts = c.experts.as_ref().expect("the family has experts");
    let (d, width, count) = (c.hidden_size, experts.width, experts.count);
    Ok(Moe {
        router: loader.linear(&format!("{path}.router"), count, d, true)?,
        options: ROUTING,
        chosen: experts.chosen,
        gate: loader.experts(path, "gate_proj", width, d)?,
        up: loader.experts(path, "up_proj", width, d)?,
        down: loader.experts(path, "down_proj", d, width)?,
        unit: UNIT,
        biases: Some([
            loader.experts_bias(path, "gate_proj", width)?,
            loader.experts_bias(path, "up_proj", width)?,
            loader.experts_bias(path, "down_proj", d)?,
        ]),
        shared: None,
    })
}
