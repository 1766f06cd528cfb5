//! Checks that entry points share.

use dacapo::cpu::{CpuPlan, PlanContext, Split};
use dacapo::{Buffer, DType, Error, Result};

/// Fails unless the buffer holds this element type.
pub(crate) fn dtype(kernel: &'static str, name: &'static str, buffer: &Buffer, want: DType) -> Result<()> {
    if buffer.dtype() == want { Ok(()) } else { Err(Error::argument(kernel, name, want, buffer.dtype())) }
}

/// Fails unless the buffer holds F32 in this many elements.
pub(crate) fn f32s(kernel: &'static str, name: &'static str, buffer: &Buffer, len: usize) -> Result<()> {
    dtype(kernel, name, buffer, DType::F32)?;
    elements(kernel, name, buffer, len)
}

/// Fails unless the buffer has this many elements.
pub(crate) fn elements(kernel: &'static str, name: &'static str, buffer: &Buffer, len: usize) -> Result<()> {
    if buffer.len() == len {
        Ok(())
    } else {
        let found = format!("{} (shape {:?})", buffer.len(), buffer.shape());
        Err(Error::argument(kernel, name, format!("{len} elements"), found))
    }
}

/// Fails unless the buffer holds F32 in this shape.
pub(crate) fn shape(kernel: &'static str, name: &'static str, buffer: &Buffer, want: &[usize]) -> Result<()> {
    dtype(kernel, name, buffer, DType::F32)?;
    if buffer.shape() == want {
        Ok(())
    } else {
        let (want, found) = (format!("shape {want:?}"), format!("shape {:?}", buffer.shape()));
        Err(Error::argument(kernel, name, want, found))
    }
}

/// The length of the buffer's rows: its last dimension. Fails unless it holds F32.
pub(crate) fn row_len(kernel: &'static str, name: &'static str, buffer: &Buffer) -> Result<usize> {
    dtype(kernel, name, buffer, DType::F32)?;
    match buffer.shape().last() {
        Some(&n) => Ok(n),
        None => Err(Error::argument(kernel, name, "at least one dimension", "shape []")),
    }
}

/// Fails unless the buffer holds at least one U32.
pub(crate) fn step(kernel: &'static str, buffer: &Buffer) -> Result<()> {
    dtype(kernel, "step", buffer, DType::U32)?;
    if buffer.is_empty() {
        return Err(Error::argument(kernel, "step", "at least 1 element", 0));
    }
    Ok(())
}

/// A dimension as a kernel parameter.
pub(crate) fn dim(kernel: &'static str, name: &'static str, n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::argument(kernel, name, "a dimension below 2^32", n))
}

/// Elements below which a tile is not worth handing to a worker.
const MIN_TILE: usize = 8192;

/// A plan that divides the rows of the outputs, `row_len` long, evenly among tiles.
pub(crate) fn plan_rows(ctx: &PlanContext<'_>, row_len: usize, outputs: &[usize]) -> CpuPlan {
    let row_len = row_len.max(1);
    let rows = ctx.len(outputs[0]) / row_len;
    let per_tile = ctx.chunk(rows, 1, 4).max(MIN_TILE / row_len).max(1);
    let plan = CpuPlan::new(1, rows.div_ceil(per_tile));
    outputs.iter().fold(plan, |plan, &output| plan.split(output, Split::rows(row_len, per_tile)))
}

/// A plan that divides the elements of the outputs evenly among tiles.
pub(crate) fn plan_elements(ctx: &PlanContext<'_>, output: usize) -> CpuPlan {
    let len = ctx.len(output);
    let per_tile = ctx.chunk(len, 16, 4).max(MIN_TILE);
    CpuPlan::new(len.div_ceil(per_tile), 1).split(output, Split::chunks(per_tile))
}
