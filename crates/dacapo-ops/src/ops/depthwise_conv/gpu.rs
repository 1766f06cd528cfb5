//! The GPU twin of the depthwise convolution.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{EACH, INVOCATION, MATH, each};

/// Tokens of a channel that an invocation takes; `PART` in the text.
const PART: usize = 16;

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("depthwise_conv", &[include_str!("depthwise_conv.wgsl"), INVOCATION, MATH, EACH])],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let channels = context.params::<Params>().channels as usize;
    let tokens = context.len(0) / channels.max(1);
    each(context.limits(), tokens.div_ceil(PART) * channels)
}
