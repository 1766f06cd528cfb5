//! Layer normalization (Ba, Kiros and Hinton, 2016).

mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

use crate::check;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    dim: u32,
    eps: f32,
}

/// Normalization with a weight.
pub static LAYER_NORM: Kernel = Kernel {
    name: "layer_norm",
    kind: OpKind::Norm,
    bindings: &[Binding::read("x"), Binding::read("weight"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan::<2>, run: cpu::run },
    gpu: Some(&gpu::PLAIN),
};

/// Normalization with a weight and a bias.
pub static LAYER_NORM_BIAS: Kernel = Kernel {
    name: "layer_norm_bias",
    kind: OpKind::Norm,
    bindings: &[Binding::read("x"), Binding::read("weight"), Binding::read("bias"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan::<3>, run: cpu::run_bias },
    gpu: Some(&gpu::BIASED),
};

/// `out = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias` over each row of `x`; the variance is the biased
/// one.
///
/// `x` and `out` are F32 `[.., D]` with as many elements, `weight` is F32 `[D]`, `bias` F32 `[D]` or absent.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn layer_norm(
    enc: &mut CommandEncoder,
    x: &Buffer,
    weight: &Buffer,
    bias: Option<&Buffer>,
    out: &Buffer,
    eps: f32,
) -> Result<()> {
    let kernel = if bias.is_some() { &LAYER_NORM_BIAS } else { &LAYER_NORM };
    let dim = check::row_len(kernel.name, "x", x)?;
    check::f32s(kernel.name, "weight", weight, dim)?;
    check::f32s(kernel.name, "out", out, x.len())?;
    let mut dispatch = Dispatch::new(kernel).buffer(x).buffer(weight);
    if let Some(bias) = bias {
        check::f32s(kernel.name, "bias", bias, dim)?;
        dispatch = dispatch.buffer(bias);
    }
    let params = Params { dim: check::dim(kernel.name, "x", dim)?, eps };
    enc.dispatch(dispatch.buffer(out).bytes(&params))
}
