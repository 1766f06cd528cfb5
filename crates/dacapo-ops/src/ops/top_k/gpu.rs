//! The GPU twin of top-k.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{BINS, INVOCATION, ORDER, SELECT, WIDE, row_workgroup};

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("top_k", &[include_str!("top_k.wgsl"), INVOCATION, WIDE, ORDER, BINS, SELECT])],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let Params { dim, k } = context.params();
    let workgroup = row_workgroup(context.limits(), dim as usize, 8);
    GpuPlan::linear(context.len(1) / k.max(1) as usize).constant("WORKGROUP", workgroup)
}
