//! Softmax over rows.

pub(crate) mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

use crate::check;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    dim: u32,
    scale: f32,
}

/// Softmax of each row.
pub static SOFTMAX: Kernel = Kernel {
    name: "softmax",
    kind: OpKind::Softmax,
    bindings: &[Binding::read("x"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::TWIN),
};

/// `out_i = e^(scale * x_i) / sum_j e^(scale * x_j)` over each row, computed from the differences to the row's
/// largest element. A row of which every element is minus infinity gives NaN, as the formula does.
///
/// `x` and `out` are F32 `[.., D]` with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn softmax(enc: &mut CommandEncoder, x: &Buffer, out: &Buffer, scale: f32) -> Result<()> {
    let dim = check::row_len(SOFTMAX.name, "x", x)?;
    check::f32s(SOFTMAX.name, "out", out, x.len())?;
    let params = Params { dim: check::dim(SOFTMAX.name, "x", dim)?, scale };
    enc.dispatch(Dispatch::new(&SOFTMAX).buffer(x).buffer(out).bytes(&params))
}
