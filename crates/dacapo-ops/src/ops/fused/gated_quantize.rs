//! A gated activation with the quantization behind it.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, CpuTwin, Dispatch, FuseMatch, Kernel, OpKind};

use crate::ops::activation::{Params, cpu, gpu::FUNCTIONS};
use crate::ops::matmul::codes::META;
use crate::ops::quantize::{self, cpu::quantize};
use crate::quant::panel::BLOCK;
use crate::simd::Level;
use crate::wgsl::{BLOCK_Q8, FLOAT, INVOCATION, MATH};

/// Values between the two steps: they stay in the first-level cache.
const STRIP: usize = 1024;

/// Fewest blocks of a tile.
const MIN_BLOCKS: usize = 48;

/// `gated`, `quantize_q8`.
pub static GATED_Q8: Kernel = Kernel {
    name: "gated_q8",
    kind: OpKind::Activation,
    bindings: &[Binding::read("gate"), Binding::read("up"), Binding::write("codes"), Binding::write("meta")],
    cpu: CpuTwin { plan, run },
    gpu: Some(&GPU),
};

/// The replacement of `gated`, `quantize_q8`.
pub(crate) fn build(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let params = found.params::<Params>(0)?;
    let quantized = found.buffer(0, 2)?.is_same_view(&found.buffer(1, 0)?);
    quantized.then_some(())?;
    let dispatch = Dispatch::new(&GATED_Q8).buffer(&found.buffer(0, 0)?).buffer(&found.buffer(0, 1)?);
    Some(dispatch.buffer(&found.buffer(1, 1)?).buffer(&found.buffer(1, 2)?).bytes(&params))
}

fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    let blocks = ctx.len(0) / BLOCK;
    // One tile a thread, unless there is much to do.
    let per_thread = if blocks < 8 * MIN_BLOCKS { 1 } else { 4 };
    let per_tile = ctx.chunk(blocks, 1, per_thread).max(MIN_BLOCKS);
    CpuPlan::new(blocks.div_ceil(per_tile), 1)
        .split(2, Split::chunks(per_tile * BLOCK))
        .split(3, Split::chunks(per_tile * META))
        .scratch(STRIP)
}

fn run(tile: &Tile<'_>) {
    let (function, level) = (tile.params::<Params>().function(), Level::best());
    let (mut codes, mut meta) = (tile.write::<i8>(2), tile.write::<f32>(3));
    let first = codes.first_col();
    let (codes, meta) = (codes.slice(), meta.slice());
    let (gate, up) = (&tile.read::<f32>(0)[first..], &tile.read::<f32>(1)[first..]);
    let strip = &mut tile.scratch()[..STRIP];
    let parts = codes.chunks_mut(STRIP).zip(meta.chunks_mut(STRIP / BLOCK * META));
    for (i, (codes, meta)) in parts.enumerate() {
        let (at, values) = (i * STRIP, &mut strip[..codes.len()]);
        cpu::apply(level, function, &gate[at..][..codes.len()], Some(&up[at..][..codes.len()]), values);
        quantize(level, values, codes, meta);
    }
}

static GPU: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "gated_q8",
        &[include_str!("gated_q8.wgsl"), FUNCTIONS, INVOCATION, MATH, FLOAT, BLOCK_Q8],
    )],
    plan: gpu_plan,
};

fn gpu_plan(context: &GpuContext<'_>) -> GpuPlan {
    quantize::gpu::plan(context).constant("FUNCTION", context.params::<Params>().function)
}
