//! The GPU twin of softmax.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, MATH, REDUCE, plan_rows};

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("softmax", &[include_str!("softmax.wgsl"), INVOCATION, REDUCE, MATH])],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    plan_rows(context, 0, context.params::<Params>().dim as usize)
}
