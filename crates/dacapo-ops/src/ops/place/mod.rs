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

fn plan_gpu(context: &GpuContext<'_>) -> GpuPlan {
    each(context.limits(), context.len(0))
}

/// `out[T, first .. first + M] = part[T, M]`; the other columns of `out` `[T, N]` stay as they are. Both are F32.
///
/// # Errors
/// [`Error::Argument`] if a shape or type does not fit; whatever [`CommandEncoder::dispatch`] finds.
pub fn place(enc: &mut CommandEncoder, part: &Buffer, out: &Buffer, first: usize) -> Result<()> {
    let (columns, width) = match (part.shape(), out.shape()) {
        (&[rows, columns], &[all, width]) if rows == all && first.saturating_add(columns) <= width => {
            (columns, width)
        }
        (found, out) => {
            let expected = format!("columns of {out:?} from {first} on");
            return Err(Error::argument(PLACE.name, "part", expected, format!("{found:?}")));
        }
    };
    check::dtype(PLACE.name, "part", part, DType::F32)?;
    check::dtype(PLACE.name, "out", out, DType::F32)?;
    if part.is_empty() {
        return Ok(());
    }
    let params = Params {
        columns: check::dim(PLACE.name, "part", columns)?,
        width: check::dim(PLACE.name, "out", width)?,
        first: first as u32,
    };
    enc.dispatch(Dispatch::new(&PLACE).buffer(part).buffer(out).bytes(&params))
}
