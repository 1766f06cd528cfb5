//! The GPU twins of sampling.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use crate::wgsl::{BINS, DIGITS, DIGITS_SMALL, FLOAT, INVOCATION, ORDER, REDUCE, SELECT, WIDE, selecting};

macro_rules! text {
    ($name:literal, $bindings:literal, $digits:expr) => {
        Wgsl::new(
            $name,
            &[
                include_str!($bindings),
                include_str!("sample.wgsl"),
                include_str!("weight.wgsl"),
                include_str!("philox.wgsl"),
                $digits,
                INVOCATION,
                REDUCE,
                FLOAT,
                WIDE,
                ORDER,
                BINS,
                SELECT,
            ],
        )
    };
}

pub(super) static PLAIN: GpuTwin = GpuTwin {
    variants: &[text!("plain", "plain.wgsl", DIGITS), text!("plain_small", "plain.wgsl", DIGITS_SMALL)],
    plan,
};
pub(super) static BIASED: GpuTwin = GpuTwin {
    variants: &[text!("biased", "biased.wgsl", DIGITS), text!("biased_small", "biased.wgsl", DIGITS_SMALL)],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    selecting(context.limits(), 1, context.len(0))
}
