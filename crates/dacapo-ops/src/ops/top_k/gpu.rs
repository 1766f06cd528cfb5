//! The GPU twin of top-k.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{BINS, DIGITS, DIGITS_SMALL, INVOCATION, ORDER, SELECT, WIDE, selecting};

macro_rules! text {
    ($name:literal, $digits:expr) => {
        Wgsl::new($name, &[include_str!("top_k.wgsl"), $digits, INVOCATION, WIDE, ORDER, BINS, SELECT])
    };
}

pub(super) static TWIN: GpuTwin =
    GpuTwin { variants: &[text!("top_k", DIGITS), text!("top_k_small", DIGITS_SMALL)], plan };

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let Params { dim, k } = context.params();
    selecting(context.limits(), context.len(1) / k.max(1) as usize, dim as usize)
}
