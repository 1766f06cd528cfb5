//! The GPU twins of copy.

use dacapo::DType;
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use crate::wgsl::{EACH, FLOAT, INVOCATION, each};

const WORDS: &str = include_str!("words.wgsl");

pub(super) static WHOLE_WORDS: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("copy", &[include_str!("copy.wgsl"), WORDS, INVOCATION, FLOAT, EACH])],
    plan,
};

pub(super) static SHARED_WORDS: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "shared_words",
        &[include_str!("shared_words.wgsl"), WORDS, INVOCATION, FLOAT, EACH],
    )],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let (from, to) = (context.dtype(0), context.dtype(1));
    let code = |dtype| match dtype {
        _ if from == to => 3_u32,
        DType::F32 => 0,
        DType::F16 => 1,
        _ => 2,
    };
    let words = (context.misalignment(1) as usize % 4 + context.len(1) * to.size()).div_ceil(4);
    each(context.limits(), words)
        .constant("FROM", code(from))
        .constant("TO", code(to))
        .constant("FROM_SIZE", from.size() as u32)
        .constant("TO_SIZE", to.size() as u32)
}
