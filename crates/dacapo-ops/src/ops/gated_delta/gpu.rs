//! The GPU twin of the gated delta rule.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, MATH};

/// Rows of the memory that an invocation has at most; `MOST_ROWS` in the text.
const MOST_ROWS: u32 = 32;
/// Invocations of a workgroup at most: half of `WORKERS` in the text.
const WORKGROUP: u32 = 128;
/// Columns of a workgroup at most.
const MOST_COLUMNS: u32 = 32;

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("gated_delta", &[include_str!("gated_delta.wgsl"), INVOCATION, MATH]).unrolled()],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let p: Params = context.params();
    let parts = p.key_dim.div_ceil(MOST_ROWS).next_power_of_two();
    let columns = (context.limits().workgroup_size.min(WORKGROUP) / parts).min(MOST_COLUMNS);
    GpuPlan::linear((p.value_heads * p.value_dim.div_ceil(columns)) as usize)
        .constant("WORKGROUP", parts * columns)
        .constant("PARTS", parts)
        .constant("COLUMNS", columns)
        .constant("ROWS", p.key_dim.div_ceil(parts))
}
