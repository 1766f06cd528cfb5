//! RMSNorm, perhaps of a sum, with the quantization behind it.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, CpuTwin, Dispatch, FuseMatch, Kernel, OpKind};

use crate::ops::matmul::codes::META;
use crate::ops::quantize::cpu::quantize;
use crate::ops::rms_norm::cpu::{add, norm};
use crate::ops::rms_norm::{Params, gpu::ROW};
use crate::quant::panel::BLOCK;
use crate::simd::Level;
use crate::wgsl::{BLOCK_Q8, FLOAT, INVOCATION, REDUCE, plan_rows};

/// `rms_norm`, `quantize_q8`.
pub static RMS_NORM_Q8: Kernel = Kernel {
    name: "rms_norm_q8",
    kind: OpKind::Norm,
    bindings: &[Binding::read("x"), Binding::read("weight"), Binding::write("codes"), Binding::write("meta")],
    cpu: CpuTwin { plan: plan::<2>, run },
    gpu: Some(&GPU),
};

/// `rms_norm_add`, `quantize_q8`.
pub static RMS_NORM_ADD_Q8: Kernel = Kernel {
    name: "rms_norm_add_q8",
    kind: OpKind::Norm,
    bindings: &[
        Binding::read("x"),
        Binding::read("residual"),
        Binding::read("weight"),
        Binding::write("sum_out"),
        Binding::write("codes"),
        Binding::write("meta"),
    ],
    cpu: CpuTwin { plan: plan_add, run: run_add },
    gpu: Some(&GPU_ADD),
};

/// The replacement of `rms_norm`, `quantize_q8`.
pub(crate) fn build(found: &FuseMatch<'_>) -> Option<Dispatch> {
    finish(found, Dispatch::new(&RMS_NORM_Q8), &[0, 1], 2)
}

/// The replacement of `rms_norm_add`, `quantize_q8`.
pub(crate) fn build_add(found: &FuseMatch<'_>) -> Option<Dispatch> {
    finish(found, Dispatch::new(&RMS_NORM_ADD_Q8), &[0, 1, 2, 3], 4)
}

/// The buffers that the norm keeps, then codes and meta, if blocks do not reach over rows. `out` is the index of the
/// norm's output.
fn finish(found: &FuseMatch<'_>, dispatch: Dispatch, kept: &[usize], out: usize) -> Option<Dispatch> {
    let params = found.params::<Params>(0)?;
    let quantized = found.buffer(0, out)?.is_same_view(&found.buffer(1, 0)?);
    (quantized && (params.dim as usize).is_multiple_of(BLOCK)).then_some(())?;
    let dispatch =
        kept.iter().try_fold(dispatch, |dispatch, &at| Some(dispatch.buffer(&found.buffer(0, at)?)))?;
    Some(dispatch.buffer(&found.buffer(1, 1)?).buffer(&found.buffer(1, 2)?).bytes(&params))
}

/// Rows of a tile.
fn rows_of_tile(ctx: &PlanContext<'_>, dim: usize) -> usize {
    ctx.chunk(ctx.len(0) / dim, 1, 4).max(1)
}

fn plan<const CODES: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    let dim = (ctx.params::<Params>().dim as usize).max(1);
    let rows = rows_of_tile(ctx, dim);
    CpuPlan::new(1, (ctx.len(0) / dim).div_ceil(rows))
        .split(CODES, Split::rows(dim, rows))
        .split(CODES + 1, Split::rows(dim / BLOCK * META, rows))
        .scratch(dim)
}

fn plan_add(ctx: &PlanContext<'_>) -> CpuPlan {
    let dim = (ctx.params::<Params>().dim as usize).max(1);
    plan::<4>(ctx).split(3, Split::rows(dim, rows_of_tile(ctx, dim)))
}

/// Normalizes and quantizes the rows of `x`, row by row.
fn rows(tile: &Tile<'_>, x: &[f32], weight: &[f32], codes: &mut [i8], meta: &mut [f32]) {
    let Params { dim, eps } = tile.params();
    let dim = dim as usize;
    let normed = &mut tile.scratch()[..dim];
    let outputs = codes.chunks_exact_mut(dim).zip(meta.chunks_exact_mut(dim / BLOCK * META));
    for (x, (codes, meta)) in x.chunks_exact(dim).zip(outputs) {
        norm(Level::best(), x, Some(weight), normed, dim, eps);
        quantize(Level::best(), normed, codes, meta);
    }
}

fn run(tile: &Tile<'_>) {
    let (mut codes, mut meta) = (tile.write::<i8>(2), tile.write::<f32>(3));
    let start = codes.first_row() * tile.params::<Params>().dim as usize;
    let codes = codes.slice();
    let x = &tile.read::<f32>(0)[start..][..codes.len()];
    rows(tile, x, tile.read(1), codes, meta.slice());
}

fn run_add(tile: &Tile<'_>) {
    let (mut sums, mut codes, mut meta) = (tile.write::<f32>(3), tile.write::<i8>(4), tile.write::<f32>(5));
    let start = sums.first_row() * tile.params::<Params>().dim as usize;
    let sum = sums.slice();
    let x = &tile.read::<f32>(0)[start..][..sum.len()];
    let residual = &tile.read::<f32>(1)[start..][..sum.len()];
    add(Level::best(), x, residual, sum);
    rows(tile, sum, tile.read(2), codes.slice(), meta.slice());
}

const ROWS: &str = include_str!("norm_rows_q8.wgsl");

static GPU: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "plain",
        &[include_str!("norm_q8.wgsl"), INVOCATION, REDUCE, ROW, FLOAT, BLOCK_Q8, ROWS],
    )],
    plan: gpu_plan,
};

static GPU_ADD: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "add",
        &[include_str!("norm_add_q8.wgsl"), INVOCATION, REDUCE, ROW, FLOAT, BLOCK_Q8, ROWS],
    )],
    plan: gpu_plan,
};

/// The plan of the norm alone, so that sums have the same order.
fn gpu_plan(context: &GpuContext<'_>) -> GpuPlan {
    plan_rows(context, 0, context.params::<Params>().dim as usize)
}
