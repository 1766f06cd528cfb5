//! The GPU twin of rotary position embedding.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{ANGLE, INVOCATION, WIDE, row_workgroup};

/// Pairs of a head's elements, and their rotation.
pub(crate) const PAIRS: &str = include_str!("pairs.wgsl");

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("rope", &[include_str!("rope.wgsl"), PAIRS, INVOCATION, WIDE, ANGLE])],
    plan,
};

/// Workgroups beyond which heads share the computation of an angle.
const ENOUGH: usize = 1024;

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let Params { heads, dim, .. } = context.params();
    let pairs = context.len(1);
    let tokens = context.len(0) / (heads as usize * dim as usize).max(1);
    let workgroup = row_workgroup(context.limits(), pairs, 1).min(256);
    let head_groups = (ENOUGH / tokens.max(1)).clamp(1, heads.max(1) as usize);
    let parts = pairs.div_ceil(workgroup as usize);
    GpuPlan::new([parts as u32, tokens.min(32768) as u32, head_groups.min(32768) as u32])
        .constant("WORKGROUP", workgroup)
}
