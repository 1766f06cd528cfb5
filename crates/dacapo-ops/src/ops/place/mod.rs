//! Columns put in their place: what parts of a product are joined with.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;
use crate::wgsl::{EACH, INVOCATION, each};

/// See [`place`].
pub static PLACE: Kernel = Kernel {
    name: "place",
    kind: OpKind::Copy,
    bindings: &[Binding::read("part"), Binding::read_write("out")],
    cpu: CpuTwin { plan, run },
    gpu: Some(&TWIN),
};

/// See [`place_first`].
pub static PLACE_FIRST: Kernel = Kernel {
    name: "place_first",
    kind: OpKind::Copy,
    bindings: &[Binding::read("part"), Binding::write("out")],
    cpu: CpuTwin { plan, run: run_first },
    gpu: Some(&FIRST),
};

static FIRST: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("place_first", &[include_str!("place_first.wgsl"), INVOCATION, EACH])],
    plan: |context| each(context.limits(), context.len(1)),
};

static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("place", &[include_str!("place.wgsl"), INVOCATION, EACH])],
    plan: plan_gpu,
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    /// Columns of the part.
    columns: u32,
    /// Columns of the whole.
    width: u32,
    /// Where the part begins.
    first: u32,
}

fn plan(context: &PlanContext<'_>) -> CpuPlan {
    let width = context.params::<Params>().width as usize;
    CpuPlan::new(1, context.len(1) / width.max(1)).split(1, Split::rows(width, 1))
}

fn run(tile: &Tile<'_>) {
    let Params { columns, first, .. } = tile.params();
    let (columns, first) = (columns as usize, first as usize);
    let part = &tile.read::<f32>(0)[tile.y() * columns..][..columns];
    tile.write::<f32>(1).slice()[first..][..columns].copy_from_slice(part);
}

fn run_first(tile: &Tile<'_>) {
    let columns = tile.params::<Params>().columns as usize;
    let part = &tile.read::<f32>(0)[tile.y() * columns..][..columns];
    let mut out = tile.write::<f32>(1);
    let (before, behind) = out.slice().split_at_mut(columns);
    before.copy_from_slice(part);
    behind.fill(0.0);
}

fn plan_gpu(context: &GpuContext<'_>) -> GpuPlan {
    each(context.limits(), context.len(0))
}

/// `out[T, first .. first + M] = part[T, M]`; the other columns of `out` `[T, N]` stay as they are. Both are F32.
///
/// # Errors
/// [`Error::Argument`] if a shape or type does not fit; whatever [`CommandEncoder::dispatch`] finds.
pub fn place(enc: &mut CommandEncoder, part: &Buffer, out: &Buffer, first: usize) -> Result<()> {
    encode(enc, &PLACE, part, out, first)
}

/// `out[T, 0 .. M] = part[T, M]`, and the other columns of `out` `[T, N]` become 0: what a value that nobody has written yet
/// begins with. Both are F32.
///
/// # Errors
/// As [`place`].
pub fn place_first(enc: &mut CommandEncoder, part: &Buffer, out: &Buffer) -> Result<()> {
    encode(enc, &PLACE_FIRST, part, out, 0)
}

fn encode(
    enc: &mut CommandEncoder,
    kernel: &'static Kernel,
    part: &Buffer,
    out: &Buffer,
    first: usize,
) -> Result<()> {
    let (columns, width) = match (part.shape(), out.shape()) {
        (&[rows, columns], &[all, width]) if rows == all && first.saturating_add(columns) <= width => {
            (columns, width)
        }
        (found, out) => {
            let expected = format!("columns of {out:?} from {first} on");
            return Err(Error::argument(kernel.name, "part", expected, format!("{found:?}")));
        }
    };
    check::dtype(kernel.name, "part", part, DType::F32)?;
    check::dtype(kernel.name, "out", out, DType::F32)?;
    if out.is_empty() {
        return Ok(());
    }
    let params = Params {
        columns: check::dim(kernel.name, "part", columns)?,
        width: check::dim(kernel.name, "out", width)?,
        first: first as u32,
    };
    enc.dispatch(Dispatch::new(kernel).buffer(part).buffer(out).bytes(&params))
}
