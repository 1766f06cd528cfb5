//! The GPU twin of the quantization of activations.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use crate::quant::panel::BLOCK;
use crate::wgsl::{BLOCK_Q8, FLOAT, INVOCATION};

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("quantize_q8", &[include_str!("quantize_q8.wgsl"), INVOCATION, FLOAT, BLOCK_Q8])],
    plan,
};

/// Eight blocks for each workgroup.
pub(crate) fn plan(context: &GpuContext<'_>) -> GpuPlan {
    const BLOCKS_OF_WORKGROUP: usize = 8;
    GpuPlan::linear((context.len(0) / BLOCK).div_ceil(BLOCKS_OF_WORKGROUP))
}
