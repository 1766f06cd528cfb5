//! Index of the largest element.

mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Kernel, OpKind, Result};

use crate::check;

pub(crate) use cpu::argmax as argmax_row;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    dim: u32,
}

/// Index of each row's largest element.
pub static ARGMAX: Kernel = Kernel {
    name: "argmax",
    kind: OpKind::Sample,
    bindings: &[Binding::read("x"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::TWIN),
};

/// `out_r` = index of the largest element of row r. The lowest index wins ties; NaN wins only where the whole
/// row is NaN, and then the index is 0.
///
/// `x` is F32 `[R, V]`, `out` is U32 `[R]`.
///
/// # Errors
/// An element type or a length that does not fit, or an empty row.
pub fn argmax(enc: &mut CommandEncoder, x: &Buffer, out: &Buffer) -> Result<()> {
    let dim = check::row_len(ARGMAX.name, "x", x)?;
    if dim == 0 {
        return Err(dacapo::Error::argument(ARGMAX.name, "x", "rows of at least 1 element", 0));
    }
    check::dtype(ARGMAX.name, "out", out, DType::U32)?;
    check::elements(ARGMAX.name, "out", out, x.len() / dim)?;
    let params = Params { dim: check::dim(ARGMAX.name, "x", dim)? };
    enc.dispatch(Dispatch::new(&ARGMAX).buffer(x).buffer(out).bytes(&params))
}
