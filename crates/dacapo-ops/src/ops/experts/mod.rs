//! Products with the weights of experts that a router has chosen (Shazeer et al., 2017): which ones, kernels read from a
//! buffer, so that no choice has to be known when a pass is recorded.

mod bias;
mod cpu;
mod gpu;
mod group;
mod sum;
#[cfg(test)]
mod tests;
mod weight;

use dacapo::{
    Binding, Buffer, CommandEncoder, CpuTwin, DType, Device, Dispatch, Error, Kernel, OpKind, Result,
};

use crate::check;
use crate::ops::quantize::Activation;

pub use bias::{EXPERTS_BIAS, experts_bias};
pub use group::{EXPERTS_GROUP, Routed};
pub use sum::{EXPERTS_SUM, EXPERTS_SUM_SHARED, experts_sum};
pub use weight::Experts;

/// Products of few rows with experts, each row on its own; activations as they are.
pub static MATMUL_EXPERTS: Kernel = Kernel {
    name: "matmul_experts",
    kind: OpKind::Matmul,
    bindings: &[Binding::read("x"), Binding::read("weight"), Binding::read("ids"), Binding::write("y")],
    cpu: CpuTwin { plan: cpu::plan_few::<false, 3>, run: cpu::few_exact },
    gpu: Some(&gpu::FEW_EXACT),
};

/// Products of few rows with experts, each row on its own; activations as int8.
pub static MATMUL_EXPERTS_INT8: Kernel = Kernel {
    name: "matmul_experts_int8",
    kind: OpKind::Matmul,
    bindings: &[
        Binding::read("codes"),
        Binding::read("meta"),
        Binding::read("weight"),
        Binding::read("ids"),
        Binding::write("y"),
    ],
    cpu: CpuTwin { plan: cpu::plan_few::<true, 4>, run: cpu::few_int8 },
    gpu: Some(&gpu::FEW_INT8),
};

/// Products of many rows with experts, those of an expert together; activations as they are.
pub static MATMUL_EXPERTS_GROUPED: Kernel = Kernel {
    name: "matmul_experts_grouped",
    kind: OpKind::Matmul,
    bindings: &[
        Binding::read("x"),
        Binding::read("weight"),
        Binding::read("order"),
        Binding::read("starts"),
        Binding::write("y"),
    ],
    cpu: CpuTwin { plan: cpu::plan_grouped::<false, 4>, run: cpu::grouped_exact },
    gpu: Some(&gpu::GROUPED_EXACT),
};

/// Products of many rows with experts, those of an expert together; activations as int8.
pub static MATMUL_EXPERTS_GROUPED_INT8: Kernel = Kernel {
    name: "matmul_experts_grouped_int8",
    kind: OpKind::Matmul,
    bindings: &[
        Binding::read("codes"),
        Binding::read("meta"),
        Binding::read("weight"),
        Binding::read("order"),
        Binding::read("starts"),
        Binding::write("y"),
    ],
    cpu: CpuTwin { plan: cpu::plan_grouped::<true, 5>, run: cpu::grouped_int8 },
    gpu: Some(&gpu::GROUPED_INT8),
};

/// Parameters of the kernels: the weights' format and shape, and whose rows there are.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    format: [u32; 2],
    n: u32,
    k: u32,
    /// Rows of the result.
    rows: u32,
    /// Rows of the result that share a row of activations.
    per: u32,
    experts: u32,
    /// From one expert to the next, in units of 16 bytes.
    stride: u32,
    /// Experts that a token has: no expert has more rows than there are tokens.
    chosen: u32,
}

/// `out[r] = x[r / s] W[ids[r]]^T` for each of the R rows that `routed` has experts for, `s` being R divided by the rows of
/// `x`: 1, or the number of experts that each token has. Few rows are multiplied one by one; of many, those of an expert
/// together, so that its weight is read once for all.
///
/// Activations are taken in int8 as in [`matmul`](crate::matmul), and each row is bit for bit what `matmul` gives for it on
/// a processor. An id that is no expert counts as the last one. The experts of a token have to differ.
///
/// `x` is F32 `[.., K]`, `out` F32 `[R, N]`.
///
/// # Errors
/// [`Error::Argument`] if a shape or type does not fit, or the experts are larger than the device's largest binding;
/// whatever [`CommandEncoder::dispatch`] finds.
pub fn matmul_experts(
    enc: &mut CommandEncoder,
    x: &Activation,
    experts: &Experts,
    routed: &Routed,
    out: &Buffer,
) -> Result<()> {
    let params = check_arguments(enc.device(), x.exact_buffer(), experts, routed, out)?;
    if out.is_empty() {
        return Ok(());
    }
    let int8 = x.int8_buffers().filter(|_| experts.takes_int8());
    let dispatch = match (int8, routed.groups()) {
        (Some((codes, meta)), None) => Dispatch::new(&MATMUL_EXPERTS_INT8).buffer(codes).buffer(meta),
        (Some((codes, meta)), Some(_)) => {
            Dispatch::new(&MATMUL_EXPERTS_GROUPED_INT8).buffer(codes).buffer(meta)
        }
        (None, None) => Dispatch::new(&MATMUL_EXPERTS).buffer(x.exact_buffer()),
        (None, Some(_)) => Dispatch::new(&MATMUL_EXPERTS_GROUPED).buffer(x.exact_buffer()),
    };
    let dispatch = dispatch.buffer(experts.data());
    let dispatch = match routed.groups() {
        None => dispatch.buffer(routed.ids()),
        Some((order, starts)) => dispatch.buffer(order).buffer(starts),
    };
    enc.dispatch(dispatch.buffer(out).bytes(&params).grid([params.n, params.rows, 1]))
}

fn check_arguments(
    device: &Device,
    x: &Buffer,
    experts: &Experts,
    routed: &Routed,
    out: &Buffer,
) -> Result<Params> {
    const NAME: &str = MATMUL_EXPERTS.name;
    let fail =
        |argument, expected: String, found: String| Err(Error::argument(NAME, argument, expected, found));
    let (rows, n, k) = (routed.ids().len(), experts.n(), experts.k());
    let own = x.len().checked_div(k).unwrap_or(0);
    if x.dtype() != DType::F32 || x.shape().last() != Some(&k) || !(own == rows || own == routed.tokens()) {
        let found = format!("{} {:?}", x.dtype(), x.shape());
        return fail("x", format!("f32, {rows} or {} rows of {k} values", routed.tokens()), found);
    }
    check::f32s(NAME, "out", out, rows * n)?;
    if experts.count() != routed.experts() {
        return fail("experts", routed.experts().to_string(), experts.count().to_string());
    }
    if let Some(most) = device.info().gpu.as_ref().map(|gpu| gpu.binding_bytes)
        && experts.byte_len() as u64 > most
    {
        let found = format!("{} experts of {} bytes", experts.count(), experts.expert_bytes());
        return fail("experts", format!("at most {most} bytes together on {}", device.info().name), found);
    }
    Ok(Params {
        format: experts.format().encode(),
        n: check::dim(NAME, "experts", n)?,
        k: check::dim(NAME, "experts", k)?,
        rows: check::dim(NAME, "ids", rows)?,
        per: (rows / own.max(1)) as u32,
        experts: experts.count() as u32,
        stride: check::dim(NAME, "experts", experts.expert_bytes() / 16)?,
        chosen: (rows / routed.tokens().max(1)) as u32,
    })
}
