//! Experts: MLPs of which each token goes through a few, as a function of a [`Pass`].

use dacapo::Buffer;
use dacapo_ops::{Activation, ActivationFn, Experts, RouteOptions, Routed, Scoring};

use super::blocks::{Linear, Mlp};
use super::decoder::activation;
use super::load::Loader;
use super::pass::Pass;
use crate::error::Result;

/// A mixture of experts: `sum_j w_j down_j(act(gate_j(x)) * up_j(x))` over the experts j that the router chooses, each token
/// its own.
#[derive(Debug)]
pub(crate) struct Moe {
    /// To a logit for each expert, `[E, D]`.
    pub router: Linear,
    /// How logits become weights.
    pub options: RouteOptions,
    /// Experts that a token goes through.
    pub chosen: usize,
    /// E times `[I, D]`.
    pub gate: Experts,
    /// E times `[I, D]`.
    pub up: Experts,
    /// E times `[D, I]`.
    pub down: Experts,
    /// What becomes of gate and up.
    pub unit: Unit,
    /// Biases of gate, up and down, F32 `[E, N]` each (gpt-oss).
    pub biases: Option<[Buffer; 3]>,
    /// An expert that every token goes through.
    pub shared: Option<Shared>,
}

/// The unit between an expert's products.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    /// `act(gate) * up`.
    Gated(ActivationFn),
    /// `min(gate, limit)` through a sigmoid of slope `alpha`, times `up + 1` between limits.
    Clamped { alpha: f32, limit: f32 },
}

/// The expert that every token goes through: `sigmoid(g(x)) mlp(x)`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub mlp: Mlp,
    /// To the logit of its gate, `[1, D]`.
    pub gate: Linear,
}

impl Moe {
    /// The experts of the configuration, at the module path.
    pub fn load(loader: &mut Loader<'_>, path: &str) -> Result<Self> {
        let c = loader.config();
        let experts = c.experts.as_ref().expect("layers with experts are those of their configuration");
        let (d, width) = (c.hidden_size, experts.width);
        let shared = match experts.shared_width {
            None => None,
            Some(width) => Some(Shared {
                mlp: Mlp::load_width(loader, &format!("{path}.shared_expert"), width)?,
                gate: loader.linear(&format!("{path}.shared_expert_gate"), 1, d, false)?,
            }),
        };
        Ok(Moe {
            router: loader.linear(&format!("{path}.gate"), experts.count, d, false)?,
            options: RouteOptions { scoring: Scoring::Softmax, normalized: experts.normalized, scale: 1.0 },
            chosen: experts.chosen,
            gate: loader.experts(path, "gate_proj", width, d)?,
            up: loader.experts(path, "up_proj", width, d)?,
            down: loader.experts(path, "down_proj", d, width)?,
            unit: Unit::Gated(activation(c.hidden_act)),
            biases: None,
            shared,
        })
    }

    /// `x [T, D]` to `[T, D]`.
    pub fn forward(&self, pass: &mut Pass<'_>, x: &Buffer) -> Result<Buffer> {
        // A rounded activation could turn a choice.
        let logits = pass.exact_linear(x, &self.router)?;
        let (routed, weights) = pass.route(&logits, self.chosen, self.options)?;
        let rounded = pass.experts_activation(x, &[&self.gate, &self.up])?;
        let gate = self.product(pass, &rounded, &self.gate, 0, &routed)?;
        let up = self.product(pass, &rounded, &self.up, 1, &routed)?;
        let inner = match self.unit {
            Unit::Gated(act) => pass.gated(&gate, &up, act)?,
            Unit::Clamped { alpha, limit } => pass.gated_clamped(&gate, &up, alpha, limit)?,
        };
        let inner = pass.experts_activation(&inner, &[&self.down])?;
        let out = self.product(pass, &inner, &self.down, 2, &routed)?;
        let Some(shared) = &self.shared else { return pass.experts_sum(&out, &weights, None) };
        let gate = pass.exact_linear(x, &shared.gate)?;
        let always = shared.mlp.forward(pass, x)?;
        pass.experts_sum(&out, &weights, Some((&always, &gate)))
    }
    /// The products of one projection, with the bias of that number if there are any.
    fn product(
        &self,
        pass: &mut Pass<'_>,
        x: &Activation,
        experts: &Experts,
        bias: usize,
        routed: &Routed,
    ) -> Result<Buffer> {
        let out = pass.experts(x, experts, routed)?;
        if let Some(biases) = &self.biases {
            pass.experts_bias(&out, &biases[bias], routed)?;
        }
        Ok(out)
    }
}
