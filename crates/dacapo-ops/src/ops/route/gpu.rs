//! GPU twins of the choice of experts.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, MATH, ORDER, REDUCE, row_workgroup};

const MAIN: &str = include_str!("route.wgsl");

pub(super) static ROUTE: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("route", &[include_str!("bind.wgsl"), MAIN, INVOCATION, REDUCE, ORDER, MATH])],
    plan,
};

pub(super) static ROUTE_BIAS: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "route_bias",
        &[include_str!("bind_bias.wgsl"), MAIN, INVOCATION, REDUCE, ORDER, MATH],
    )],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let params: Params = context.params();
    let experts = params.experts as usize;
    GpuPlan::linear(context.len(0) / experts)
        .constant("WORKGROUP", row_workgroup(context.limits(), experts, 1))
        .constant("SIGMOID", params.scoring)
        .constant("CHOSEN", params.chosen)
}
