//! What a token's experts give, weighted and added up.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::simd::Level;
use crate::wgsl::{EACH, INVOCATION, MATH, each};

/// The weighted sum of a token's rows.
pub static EXPERTS_SUM: Kernel = Kernel {
    name: "experts_sum",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("y"), Binding::read("weights"), Binding::write("out")],
    cpu: CpuTwin { plan: plan::<2>, run },
    gpu: Some(&SUM),
};

/// The same, and the row of a shared expert behind its gate.
pub static EXPERTS_SUM_SHARED: Kernel = Kernel {
    name: "experts_sum_shared",
    kind: OpKind::Elementwise,
    bindings: &[
        Binding::read("y"),
        Binding::read("weights"),
        Binding::read("shared"),
        Binding::read("gate"),
        Binding::write("out"),
    ],
    cpu: CpuTwin { plan: plan::<4>, run: run_shared },
    gpu: Some(&SHARED),
};

static SUM: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("sum", &[include_str!("sum.wgsl"), include_str!("add_up.wgsl"), INVOCATION, EACH])],
    plan: |context| plan_gpu(context, 2),
};

static SHARED: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "sum_shared",
        &[include_str!("sum_shared.wgsl"), include_str!("add_up.wgsl"), INVOCATION, MATH, EACH],
    )],
    plan: |context| plan_gpu(context, 4),
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    /// Experts of a token.
    chosen: u32,
    /// Values in a row.
    width: u32,
}

/// `out[t] = sum_j weights[t, j] y[t k + j]`, in the order of j; if there is a shared expert, whose output is `shared[t]`,
/// plus `sigmoid(gate[t]) shared[t]` (Qwen2-MoE).
///
/// `y` is F32 `[T * k, D]`, `weights` F32 `[T, k]`, `shared` F32 `[T, D]` with `gate` F32 `[T]`, `out` F32 `[T, D]`.
///
/// # Errors
/// [`Error::Argument`] if a shape or type does not fit; whatever [`CommandEncoder::dispatch`] finds.
pub fn experts_sum(
    enc: &mut CommandEncoder,
    y: &Buffer,
    weights: &Buffer,
    shared: Option<(&Buffer, &Buffer)>,
    out: &Buffer,
) -> Result<()> {
    let name = EXPERTS_SUM.name;
    let width = check::row_len(name, "out", out)?;
    let &[tokens, chosen] = weights.shape() else {
        return Err(Error::argument(name, "weights", "shape [T, k]", format!("{:?}", weights.shape())));
    };
    check::f32s(name, "weights", weights, tokens * chosen)?;
    check::f32s(name, "out", out, tokens * width)?;
    check::f32s(name, "y", y, tokens * chosen * width)?;
    let params =
        Params { chosen: check::dim(name, "weights", chosen)?, width: check::dim(name, "out", width)? };
    if out.is_empty() {
        return Ok(());
    }
    let dispatch = match shared {
        None => Dispatch::new(&EXPERTS_SUM).buffer(y).buffer(weights),
        Some((shared, gate)) => {
            check::f32s(name, "shared", shared, tokens * width)?;
            check::f32s(name, "gate", gate, tokens)?;
            Dispatch::new(&EXPERTS_SUM_SHARED).buffer(y).buffer(weights).buffer(shared).buffer(gate)
        }
    };
    enc.dispatch(dispatch.buffer(out).bytes(&params))
}

fn plan<const OUT: usize>(context: &PlanContext<'_>) -> CpuPlan {
    check::plan_rows(context, context.params::<Params>().width as usize, &[OUT])
}

fn plan_gpu(context: &GpuContext<'_>, out: usize) -> GpuPlan {
    each(context.limits(), context.len(out))
}

#[inline(always)]
fn token_body<L: Lanes>(l: L, y: &[f32], weights: &[f32], shared: Option<(&[f32], f32)>, out: &mut [f32]) {
    let width = out.len();
    let sigmoid = shared.map(|(shared, gate)| (shared, math::swish(l, l.splat(1.0), l.splat(gate))));
    for (i, out) in out.chunks_mut(LANES).enumerate() {
        let at = i * LANES..i * LANES + out.len();
        let mut sum = l.splat(0.0);
        for (y, &weight) in y.chunks_exact(width).zip(weights) {
            sum = l.fma(l.splat(weight), l.load_part(&y[at.clone()], 0.0), sum);
        }
        if let Some((shared, sigmoid)) = sigmoid {
            sum = l.fma(sigmoid, l.load_part(&shared[at], 0.0), sum);
        }
        l.store_part(sum, out);
    }
}

leveled! {
    /// One token's row: `y` holds that of each of its experts, `shared` a row and the number that its gate is made of.
    fn token(y: &[f32], weights: &[f32], shared: Option<(&[f32], f32)>, out: &mut [f32]) = token_body;
}

fn rows(tile: &Tile<'_>, shared: Option<(&[f32], &[f32])>, out: usize) {
    let Params { chosen, width } = tile.params();
    let (chosen, width) = (chosen as usize, width as usize);
    let (y, weights) = (tile.read::<f32>(0), tile.read::<f32>(1));
    let mut block = tile.write::<f32>(out);
    let first = block.first_row();
    for (t, out) in (first..).zip(block.slice().chunks_exact_mut(width)) {
        let shared = shared.map(|(shared, gate)| (&shared[t * width..][..width], gate[t]));
        let y = &y[t * chosen * width..][..chosen * width];
        token(Level::best(), y, &weights[t * chosen..][..chosen], shared, out);
    }
}

fn run(tile: &Tile<'_>) {
    rows(tile, None, 2);
}

fn run_shared(tile: &Tile<'_>) {
    rows(tile, Some((tile.read(2), tile.read(3))), 4);
}
