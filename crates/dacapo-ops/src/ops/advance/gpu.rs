//! The GPU twin of moving on.

use dacapo::gpu::{GpuPlan, GpuTwin, Wgsl};

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("advance", &[include_str!("advance.wgsl")])],
    plan: |_| GpuPlan::new([1, 1, 1]),
};
