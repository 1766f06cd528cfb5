//! The GPU twin of argmax.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, ORDER, REDUCE, row_workgroup};

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("argmax", &[include_str!("argmax.wgsl"), INVOCATION, REDUCE, ORDER])],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let Params { dim } = context.params();
    let workgroup = row_workgroup(context.limits(), dim as usize, 8);
    GpuPlan::linear(context.len(1)).constant("WORKGROUP", workgroup)
}
