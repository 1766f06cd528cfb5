//! The GPU twins of elementwise arithmetic.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use crate::wgsl::{EACH, INVOCATION, MATH, each};

const FUNCTIONS: &str = include_str!("functions.wgsl");
const BINARY: &[Wgsl] = &[Wgsl::new("binary", &[include_str!("binary.wgsl"), INVOCATION, EACH])];
const UPDATE: &[Wgsl] = &[Wgsl::new("update", &[include_str!("update.wgsl"), INVOCATION, EACH])];
const UNARY: &[Wgsl] =
    &[Wgsl::new("unary", &[include_str!("unary.wgsl"), FUNCTIONS, INVOCATION, MATH, EACH])];
const IN_PLACE: &[Wgsl] =
    &[Wgsl::new("in_place", &[include_str!("in_place.wgsl"), FUNCTIONS, INVOCATION, MATH, EACH])];

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    each(context.limits(), context.len(0))
}

fn plan_product(context: &GpuContext<'_>) -> GpuPlan {
    plan(context).constant("PRODUCT", 1)
}

fn plan_rows(context: &GpuContext<'_>) -> GpuPlan {
    plan(context).constant("ROWS", 1)
}

fn plan_cap(context: &GpuContext<'_>) -> GpuPlan {
    plan(context).constant("CAP", 1)
}

pub(super) static ADD: GpuTwin = GpuTwin { variants: BINARY, plan };
pub(super) static MUL: GpuTwin = GpuTwin { variants: BINARY, plan: plan_product };
pub(super) static ADD_IN_PLACE: GpuTwin = GpuTwin { variants: UPDATE, plan };
pub(super) static ADD_BIAS: GpuTwin = GpuTwin { variants: UPDATE, plan: plan_rows };
pub(super) static SCALE: GpuTwin = GpuTwin { variants: UNARY, plan };
pub(super) static SCALE_IN_PLACE: GpuTwin = GpuTwin { variants: IN_PLACE, plan };
pub(super) static SOFTCAP: GpuTwin = GpuTwin { variants: UNARY, plan: plan_cap };
pub(super) static SOFTCAP_IN_PLACE: GpuTwin = GpuTwin { variants: IN_PLACE, plan: plan_cap };
