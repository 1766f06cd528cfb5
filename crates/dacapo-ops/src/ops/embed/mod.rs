//! Gather of embedding rows.

mod gpu;

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::quant::panel::{PanelFormat, Panels};
use crate::weight::Weight;

/// See [`embed`].
pub static EMBED_MORE: Kernel = Kernel {
    name: "embed_more",
    kind: OpKind::Embed,
    bindings: &[Binding::read("ids"), Binding::read("weight"), Binding::read_write("out")],
    cpu: CpuTwin { plan, run: run_more },
    gpu: Some(&gpu::MORE),
};

/// See [`embed`].
pub static EMBED: Kernel = Kernel {
    name: "embed",
    kind: OpKind::Embed,
    bindings: &[Binding::read("ids"), Binding::read("weight"), Binding::write("out")],
    cpu: CpuTwin { plan, run },
    gpu: Some(&gpu::TWIN),
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    format: [u32; 2],
    n: u32,
    k: u32,
    scale: f32,
    /// The id of the weight's first row.
    first: u32,
}

fn plan(context: &PlanContext<'_>) -> CpuPlan {
    let k = context.params::<Params>().k as usize;
    CpuPlan::new(1, context.len(0)).split(2, Split::rows(k, 1))
}

fn run(tile: &Tile<'_>) {
    gather(tile, |out| out.fill(0.0));
}

fn run_more(tile: &Tile<'_>) {
    gather(tile, |_| {});
}

/// Gathers a token's row, or does `otherwise` if the weight does not have it.
fn gather(tile: &Tile<'_>, otherwise: impl Fn(&mut [f32])) {
    let params: Params = tile.params();
    let format = PanelFormat::decode(params.format).expect("the entry point encodes a format");
    let panels = Panels::new(format, params.n as usize, params.k as usize, tile.read_bytes(1))
        .expect("the entry point checks the weight's size");
    let id = tile.read::<u32>(0)[tile.y()].wrapping_sub(params.first) as usize;
    let mut out = tile.write::<f32>(2);
    if id >= panels.n() {
        return otherwise(out.slice());
    }
    panels.dequantize_row(id, out.slice());
    out.slice().iter_mut().for_each(|value| *value *= params.scale);
}

/// `out[T, K] = scale * W[ids[T]]`: rows of a weight of any format by token id, U32, as F32. An id that is no row of the
/// weight gives a row of zeros: ids are made on the device, and it is the caller's part to keep them in range.
///
/// A weight that is larger than the device's largest binding is gathered from in parts, by a dispatch for each.
///
/// # Errors
/// [`Error::Argument`] if a shape or type does not fit; whatever [`CommandEncoder::dispatch`] finds.
pub fn embed(
    enc: &mut CommandEncoder,
    ids: &Buffer,
    weight: &Weight,
    out: &Buffer,
    scale: f32,
) -> Result<()> {
    if ids.dtype() != DType::U32 {
        return Err(Error::argument(EMBED.name, "ids", "u32", ids.dtype()));
    }
    let len = ids.len() * weight.k();
    if out.dtype() != DType::F32 || out.len() != len {
        let found = format!("{} {:?}", out.dtype(), out.shape());
        return Err(Error::argument(EMBED.name, "out", format!("f32, {len} values"), found));
    }
    if out.is_empty() {
        return Ok(());
    }
    let rows = weight.bindable_rows(enc.device())?;
    for first in (0..weight.n().max(1)).step_by(rows.max(1)) {
        let part = weight.rows(first, rows)?;
        let params = Params {
            format: weight.format().encode(),
            n: part.n() as u32,
            k: weight.k() as u32,
            scale,
            first: first as u32,
        };
        let dispatch = Dispatch::new(if first == 0 { &EMBED } else { &EMBED_MORE });
        let grid = [weight.k() as u32, ids.len() as u32, 1];
        enc.dispatch(dispatch.buffer(ids).buffer(part.data()).buffer(out).bytes(&params).grid(grid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
