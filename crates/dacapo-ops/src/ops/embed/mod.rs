//! Gather of embedding rows.

mod gpu;

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::quant::panel::{PanelFormat, Panels};
use crate::weight::Weight;

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
}

fn plan(context: &PlanContext<'_>) -> CpuPlan {
    let k = context.params::<Params>().k as usize;
    CpuPlan::new(1, context.len(0)).split(2, Split::rows(k, 1))
}

fn run(tile: &Tile<'_>) {
    let params: Params = tile.params();
    let format = PanelFormat::decode(params.format).expect("the entry point encodes a format");
    let panels = Panels::new(format, params.n as usize, params.k as usize, tile.read_bytes(1))
        .expect("the entry point checks the weight's size");
    let id = tile.read::<u32>(0)[tile.y()] as usize;
    let mut out = tile.write::<f32>(2);
    if id >= panels.n() {
        return out.slice().fill(0.0);
    }
    panels.dequantize_row(id, out.slice());
    out.slice().iter_mut().for_each(|value| *value *= params.scale);
}

/// `out[T, K] = scale * W[ids[T]]`: rows of a weight of any format by token id, U32, as F32. An id that is no row of the
/// weight gives a row of zeros: ids are made on the device, and it is the caller's part to keep them in range.
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
    let params =
        Params { format: weight.format().encode(), n: weight.n() as u32, k: weight.k() as u32, scale };
    let grid = [weight.k() as u32, ids.len() as u32, 1];
    enc.dispatch(
        Dispatch::new(&EMBED).buffer(ids).buffer(weight.data()).buffer(out).bytes(&params).grid(grid),
    )
}

#[cfg(test)]
mod tests;
