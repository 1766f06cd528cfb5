//! The GPU twin of the cache write.

use dacapo::DType;
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{EACH, FLOAT, INVOCATION, each};

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("kv_write", &[include_str!("kv_write.wgsl"), INVOCATION, FLOAT, EACH]),
        Wgsl::new("shared_words", &[include_str!("shared_words.wgsl"), INVOCATION, FLOAT, EACH]),
    ],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let Params { key_dim, value_dim, .. } = context.params();
    let len = context.len(0) + context.len(1);
    let half = context.dtype(3) == DType::F16;
    let even = |x: u32, binding| x.is_multiple_of(2) && context.misalignment(binding).is_multiple_of(4);
    if half && !(even(key_dim, 3) && even(value_dim, 4)) {
        return each(context.limits(), len).variant(1);
    }
    let pack = if half { 2 } else { 1 };
    each(context.limits(), len / pack).constant("PACK", pack as u32)
}
