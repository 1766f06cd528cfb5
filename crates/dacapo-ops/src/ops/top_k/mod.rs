//! The largest elements of each row, in order.

mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

pub(crate) use cpu::{Key, largest};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    dim: u32,
    k: u32,
}

/// The k largest elements of each row.
pub static TOP_K: Kernel = Kernel {
    name: "top_k",
    kind: OpKind::Sample,
    bindings: &[Binding::read("x"), Binding::write("values"), Binding::write("indices")],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::TWIN),
};

/// The k largest elements of each row, largest first, and their indices in the row. Of equal elements the one with
/// the lower index comes first; NaN comes last.
///
/// `x` is F32 `[R, V]`, `values` F32 `[R, k]`, `indices` U32 `[R, k]` with `1 <= k <= V`.
///
/// # Errors
/// An element type or a shape that does not fit.
pub fn top_k(enc: &mut CommandEncoder, x: &Buffer, values: &Buffer, indices: &Buffer) -> Result<()> {
    let dim = check::row_len(TOP_K.name, "x", x)?;
    let k = check::row_len(TOP_K.name, "values", values)?;
    if k == 0 || k > dim {
        return Err(Error::argument(TOP_K.name, "values", format!("rows of 1 to {dim} elements"), k));
    }
    let rows = x.len() / dim;
    check::f32s(TOP_K.name, "values", values, rows * k)?;
    check::dtype(TOP_K.name, "indices", indices, DType::U32)?;
    check::elements(TOP_K.name, "indices", indices, rows * k)?;
    let params = Params { dim: check::dim(TOP_K.name, "x", dim)?, k: check::dim(TOP_K.name, "values", k)? };
    enc.dispatch(Dispatch::new(&TOP_K).buffer(x).buffer(values).buffer(indices).bytes(&params))
}
