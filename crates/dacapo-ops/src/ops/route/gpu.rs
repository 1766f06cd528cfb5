//! GPU twins of the choice of experts.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, MATH, ORDER, REDUCE, row_workgroup};

/// Experts that an invocation goes over as quickly as a barrier takes.
const FEW: usize = 8;

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
    let (experts, limits) = (params.experts as usize, context.limits());
    // Alone a subgroup finds the largest without barriers.
    let alone = limits.subgroup_size as usize * FEW >= experts;
    let workgroup = if alone { limits.subgroup_size } else { row_workgroup(limits, experts, 1) };
    GpuPlan::linear(context.len(0) / experts)
        .constant("WORKGROUP", workgroup)
        .constant("SIGMOID", params.scoring)
        .constant("CHOSEN", params.chosen)
}
