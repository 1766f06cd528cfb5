//! Which experts a token goes to, and with what weights.

mod cpu;
mod gpu;
#[cfg(test)]
mod tests;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

/// How a router's logits become scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scoring {
    /// The softmax over all experts (Shazeer et al., 2017).
    Softmax,
    /// Each expert's own `1 / (1 + e^-logit)` (DeepSeek-V3, 2024).
    Sigmoid,
}

/// What [`route`] computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouteOptions {
    /// How logits become scores.
    pub scoring: Scoring,
    /// Whether the weights of a token are its scores divided by their sum. With softmax these are the softmax of the chosen
    /// logits alone.
    pub normalized: bool,
    /// What weights are multiplied by.
    pub scale: f32,
}

/// Most experts: what the 32 invocations that every GPU has can keep in mind.
const MOST_EXPERTS: usize = 4096;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    experts: u32,
    chosen: u32,
    scale: f32,
    normalized: u32,
    /// 0 softmax, 1 sigmoid.
    scoring: u32,
}

/// Choice by logits.
pub static ROUTE: Kernel = Kernel {
    name: "route",
    kind: OpKind::Sample,
    bindings: &[Binding::read("logits"), Binding::write("ids"), Binding::write("weights")],
    cpu: CpuTwin { plan: cpu::plan::<1>, run: cpu::run },
    gpu: Some(&gpu::ROUTE),
};

/// Choice by scores with a bias.
pub static ROUTE_BIAS: Kernel = Kernel {
    name: "route_bias",
    kind: OpKind::Sample,
    bindings: &[
        Binding::read("logits"),
        Binding::read("bias"),
        Binding::write("ids"),
        Binding::write("weights"),
    ],
    cpu: CpuTwin { plan: cpu::plan::<2>, run: cpu::run_bias },
    gpu: Some(&gpu::ROUTE_BIAS),
};

/// The `k` experts of each token with the largest logits, or with a bias the largest sums of score and bias; and their
/// weights, made of scores without it. The largest comes first; of equal ones that with the lower number, NaN last.
///
/// `logits` is F32 `[T, E]`, `bias` F32 `[E]`, `ids` U32 `[T, k]`, `weights` F32 `[T, k]`, `1 <= k <= E`.
///
/// # Errors
/// [`Error::Argument`] if a shape or type does not fit; whatever [`CommandEncoder::dispatch`] finds.
pub fn route(
    enc: &mut CommandEncoder,
    logits: &Buffer,
    bias: Option<&Buffer>,
    ids: &Buffer,
    weights: &Buffer,
    options: RouteOptions,
) -> Result<()> {
    let name = ROUTE.name;
    let experts = check::row_len(name, "logits", logits)?;
    if experts == 0 || experts > MOST_EXPERTS {
        return Err(Error::argument(name, "logits", format!("rows of 1 to {MOST_EXPERTS} experts"), experts));
    }
    let chosen = check::row_len(name, "weights", weights)?;
    if chosen == 0 || chosen > experts {
        return Err(Error::argument(name, "weights", format!("rows of 1 to {experts} experts"), chosen));
    }
    let len = logits.len() / experts * chosen;
    check::f32s(name, "weights", weights, len)?;
    check::dtype(name, "ids", ids, DType::U32)?;
    check::elements(name, "ids", ids, len)?;
    let params = Params {
        experts: check::dim(name, "logits", experts)?,
        chosen: chosen as u32,
        scale: options.scale,
        normalized: u32::from(options.normalized),
        scoring: options.scoring as u32,
    };
    if len == 0 {
        return Ok(());
    }
    let dispatch = match bias {
        None => Dispatch::new(&ROUTE).buffer(logits),
        Some(bias) => {
            check::f32s(name, "bias", bias, experts)?;
            Dispatch::new(&ROUTE_BIAS).buffer(logits).buffer(bias)
        }
    };
    enc.dispatch(dispatch.buffer(ids).buffer(weights).bytes(&params))
}
