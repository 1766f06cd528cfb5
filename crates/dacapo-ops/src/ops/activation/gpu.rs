//! The GPU twins of the activation functions.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{EACH, INVOCATION, MATH, each};

/// The activation functions; needs `MATH`.
pub(crate) const FUNCTIONS: &str = include_str!("functions.wgsl");

pub(super) static ACTIVATE: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("activate", &[include_str!("activate.wgsl"), FUNCTIONS, INVOCATION, MATH, EACH])],
    plan,
};

pub(super) static GATED: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("gated", &[include_str!("gated.wgsl"), FUNCTIONS, INVOCATION, MATH, EACH])],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let Params { function } = context.params();
    each(context.limits(), context.len(0)).constant("FUNCTION", function)
}
