//! The GPU twins of the RMS norms.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, REDUCE, plan_rows};

/// The root mean square of a row; needs `INVOCATION` and `REDUCE`.
pub(crate) const ROW: &str = include_str!("row.wgsl");

macro_rules! twin {
    ($name:ident, $label:literal, $bindings:literal) => {
        pub(super) static $name: GpuTwin = GpuTwin {
            variants: &[Wgsl::new(
                $label,
                &[include_str!($bindings), INVOCATION, REDUCE, ROW, include_str!("rms_norm.wgsl")],
            )],
            plan,
        };
    };
}
twin!(WEIGHTED, "weighted", "weighted.wgsl");
twin!(UNIT, "unit", "unit.wgsl");
twin!(ADD, "add", "add.wgsl");
twin!(IN_PLACE, "in_place", "in_place.wgsl");
twin!(UNIT_IN_PLACE, "unit_in_place", "unit_in_place.wgsl");

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    plan_rows(context, 0, context.params::<Params>().dim as usize)
}
