//! RMSNorm of a token's heads with their rotation.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, CpuTwin, Dispatch, FuseMatch, Kernel, OpKind};

use crate::ops::rms_norm::{self, cpu::norm_in_place, gpu::ROW};
use crate::ops::rope::{self, cpu::angles, cpu::rotate, gpu::PAIRS};
use crate::simd::Level;
use crate::wgsl::{ANGLE, INVOCATION, REDUCE, WIDE, plan_rows};

/// Parameters of the kernels that rotate what they have normalized.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub rope: rope::Params,
    pub eps: f32,
}

/// `rms_norm_in_place`, `rope`.
pub static RMS_NORM_ROPE: Kernel = Kernel {
    name: "rms_norm_rope",
    kind: OpKind::Rope,
    bindings: &[
        Binding::read_write("x"),
        Binding::read("weight"),
        Binding::read("inv_freq"),
        Binding::read("step"),
    ],
    cpu: CpuTwin { plan, run },
    gpu: Some(&GPU),
};

/// The replacement of `rms_norm_in_place`, `rope` of one token, if both see the same heads. With many tokens nothing is
/// gained.
pub(crate) fn build(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let (norm, rope) = (found.params::<rms_norm::Params>(0)?, found.params::<rope::Params>(1)?);
    let one = found.buffer(1, 0)?.shape().first() == Some(&1);
    (one && norm.dim == rope.dim).then_some(())?;
    let dispatch = Dispatch::new(&RMS_NORM_ROPE).buffer(&found.buffer(1, 0)?).buffer(&found.buffer(0, 1)?);
    let dispatch = dispatch.buffer(&found.buffer(1, 1)?).buffer(&found.buffer(1, 2)?);
    Some(dispatch.bytes(&Params { rope, eps: norm.eps }))
}

fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    CpuPlan::new(1, 1).split(0, Split::whole()).scratch(2 * ctx.len(2))
}

fn run(tile: &Tile<'_>) {
    let Params { rope, eps } = tile.params();
    let dim = rope.dim as usize;
    let inv_freq = tile.read::<f32>(2);
    let (cos, sin) = tile.scratch()[..2 * inv_freq.len()].split_at_mut(inv_freq.len());
    let mut heads = tile.write::<f32>(0);
    let heads = heads.slice();
    norm_in_place(Level::best(), heads, Some(tile.read(1)), dim, eps);
    angles(tile.read::<u32>(3)[0], inv_freq, rope.attention_factor, cos, sin);
    for head in heads.chunks_exact_mut(dim) {
        rotate(head, cos, sin, rope.interleaved != 0);
    }
}

static GPU: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "norm_rope",
        &[include_str!("norm_rope.wgsl"), ROW, PAIRS, INVOCATION, REDUCE, WIDE, ANGLE],
    )],
    plan: gpu_plan,
};

fn gpu_plan(context: &GpuContext<'_>) -> GpuPlan {
    plan_rows(context, 0, context.params::<Params>().rope.dim as usize)
}
