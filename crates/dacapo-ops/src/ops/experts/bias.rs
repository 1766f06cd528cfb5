//! Biases of experts.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};
use dacapo::gpu::{GpuTwin, Wgsl};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

use super::Routed;
use crate::check;
use crate::wgsl::{EACH, INVOCATION, each};

/// Each row's expert's bias, added in place.
pub static EXPERTS_BIAS: Kernel = Kernel {
    name: "experts_bias",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("ids"), Binding::read("bias"), Binding::read_write("y")],
    cpu: CpuTwin { plan, run },
    gpu: Some(&TWIN),
};

static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("bias", &[include_str!("bias.wgsl"), INVOCATION, EACH])],
    plan: |context| each(context.limits(), context.len(2)),
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    width: u32,
    experts: u32,
}

/// `y[r] += bias[ids[r]]` for each of the R rows that `routed` has experts for. `y` is F32 `[R, N]`, `bias` F32 `[E, N]`. An id
/// that is no expert counts as the last one.
///
/// # Errors
/// [`Error::Argument`](dacapo::Error::Argument) if a shape or type does not fit; whatever [`CommandEncoder::dispatch`] finds.
pub fn experts_bias(enc: &mut CommandEncoder, y: &Buffer, bias: &Buffer, routed: &Routed) -> Result<()> {
    let name = EXPERTS_BIAS.name;
    let width = check::row_len(name, "y", y)?;
    check::f32s(name, "y", y, routed.ids().len() * width)?;
    check::f32s(name, "bias", bias, routed.experts() * width)?;
    if y.is_empty() {
        return Ok(());
    }
    let params = Params { width: check::dim(name, "y", width)?, experts: routed.experts() as u32 };
    enc.dispatch(Dispatch::new(&EXPERTS_BIAS).buffer(routed.ids()).buffer(bias).buffer(y).bytes(&params))
}

fn plan(context: &PlanContext<'_>) -> CpuPlan {
    check::plan_rows(context, context.params::<Params>().width as usize, &[2])
}

fn run(tile: &Tile<'_>) {
    let Params { width, experts } = tile.params();
    let (ids, bias) = (tile.read::<u32>(0), tile.read::<f32>(1));
    let mut y = tile.write::<f32>(2);
    let first = y.first_row();
    for (row, y) in (first..).zip(y.slice().chunks_exact_mut(width as usize)) {
        let at = ids[row].min(experts - 1) as usize * y.len();
        y.iter_mut().zip(&bias[at..]).for_each(|(y, bias)| *y += bias);
    }
}
