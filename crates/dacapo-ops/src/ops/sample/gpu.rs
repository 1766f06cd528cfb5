//! The GPU twins of sampling.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use crate::wgsl::{BINS, FLOAT, INVOCATION, ORDER, REDUCE, SELECT, WIDE, row_workgroup};

macro_rules! twin {
    ($name:ident, $label:literal, $bindings:literal) => {
        pub(super) static $name: GpuTwin = GpuTwin {
            variants: &[Wgsl::new(
                $label,
                &[
                    include_str!($bindings),
                    include_str!("sample.wgsl"),
                    include_str!("weight.wgsl"),
                    include_str!("philox.wgsl"),
                    INVOCATION,
                    REDUCE,
                    FLOAT,
                    WIDE,
                    ORDER,
                    BINS,
                    SELECT,
                ],
            )],
            plan,
        };
    };
}
twin!(PLAIN, "plain", "plain.wgsl");
twin!(BIASED, "biased", "biased.wgsl");

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    GpuPlan::new([1, 1, 1]).constant("WORKGROUP", row_workgroup(context.limits(), context.len(0), 8))
}
