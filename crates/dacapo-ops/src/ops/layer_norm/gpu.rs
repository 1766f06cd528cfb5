//! The GPU twins of layer normalization.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, REDUCE, plan_rows};

const NORM: &str = include_str!("layer_norm.wgsl");

pub(super) static PLAIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("plain", &[include_str!("plain.wgsl"), INVOCATION, REDUCE, NORM])],
    plan,
};

pub(super) static BIASED: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("biased", &[include_str!("biased.wgsl"), INVOCATION, REDUCE, NORM])],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    plan_rows(context, 0, context.params::<Params>().dim as usize)
}
