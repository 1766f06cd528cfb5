//! Root-mean-square normalization (Zhang and Sennrich, 2019).

pub(crate) mod cpu;
pub(crate) mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

use crate::check;

/// Parameters of every kernel here.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub dim: u32,
    pub eps: f32,
}

/// Normalization with a weight.
pub static RMS_NORM: Kernel = Kernel {
    name: "rms_norm",
    kind: OpKind::Norm,
    bindings: &[Binding::read("x"), Binding::read("weight"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan::<2>, run: cpu::run },
    gpu: Some(&gpu::WEIGHTED),
};

/// Normalization without a weight.
pub static RMS_NORM_UNIT: Kernel = Kernel {
    name: "rms_norm_unit",
    kind: OpKind::Norm,
    bindings: &[Binding::read("x"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan::<1>, run: cpu::run_unit },
    gpu: Some(&gpu::UNIT),
};

/// Normalization of a sum.
pub static RMS_NORM_ADD: Kernel = Kernel {
    name: "rms_norm_add",
    kind: OpKind::Norm,
    bindings: &[
        Binding::read("x"),
        Binding::read("residual"),
        Binding::read("weight"),
        Binding::write("sum_out"),
        Binding::write("out"),
    ],
    cpu: CpuTwin { plan: cpu::plan_add, run: cpu::run_add },
    gpu: Some(&gpu::ADD),
};

/// Normalization with a weight, in place.
pub static RMS_NORM_IN_PLACE: Kernel = Kernel {
    name: "rms_norm_in_place",
    kind: OpKind::Norm,
    bindings: &[Binding::read_write("x"), Binding::read("weight")],
    cpu: CpuTwin { plan: cpu::plan::<0>, run: cpu::run_in_place },
    gpu: Some(&gpu::IN_PLACE),
};

/// Normalization without a weight, in place.
pub static RMS_NORM_UNIT_IN_PLACE: Kernel = Kernel {
    name: "rms_norm_unit_in_place",
    kind: OpKind::Norm,
    bindings: &[Binding::read_write("x")],
    cpu: CpuTwin { plan: cpu::plan::<0>, run: cpu::run_unit_in_place },
    gpu: Some(&gpu::UNIT_IN_PLACE),
};

/// `out = x / sqrt(mean(x^2) + eps) * weight`, the mean over each row of `x`.
///
/// `x` and `out` are F32 `[.., D]` with as many elements, `weight` is F32 `[D]` or absent (then 1).
/// Heads are normalized by a view `[T * H, D]`.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn rms_norm(
    enc: &mut CommandEncoder,
    x: &Buffer,
    weight: Option<&Buffer>,
    out: &Buffer,
    eps: f32,
) -> Result<()> {
    let kernel = if weight.is_some() { &RMS_NORM } else { &RMS_NORM_UNIT };
    let params = check_row(kernel, x, weight, eps)?;
    check::f32s(kernel.name, "out", out, x.len())?;
    let dispatch = Dispatch::new(kernel).buffer(x);
    let dispatch = if let Some(weight) = weight { dispatch.buffer(weight) } else { dispatch };
    enc.dispatch(dispatch.buffer(out).bytes(&params))
}

/// `sum_out = x + residual`, `out = rms_norm(sum_out, weight)`: the step between two blocks of a transformer.
///
/// All are F32 `[.., D]` with as many elements, `weight` is F32 `[D]`.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn rms_norm_add(
    enc: &mut CommandEncoder,
    x: &Buffer,
    residual: &Buffer,
    weight: &Buffer,
    sum_out: &Buffer,
    out: &Buffer,
    eps: f32,
) -> Result<()> {
    let kernel = &RMS_NORM_ADD;
    let params = check_row(kernel, x, Some(weight), eps)?;
    for (name, buffer) in [("residual", residual), ("sum_out", sum_out), ("out", out)] {
        check::f32s(kernel.name, name, buffer, x.len())?;
    }
    let dispatch =
        Dispatch::new(kernel).buffer(x).buffer(residual).buffer(weight).buffer(sum_out).buffer(out);
    enc.dispatch(dispatch.bytes(&params))
}

/// [`rms_norm`] with the result in `x`, F32 `[.., D]`.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn rms_norm_in_place(
    enc: &mut CommandEncoder,
    x: &Buffer,
    weight: Option<&Buffer>,
    eps: f32,
) -> Result<()> {
    let kernel = if weight.is_some() { &RMS_NORM_IN_PLACE } else { &RMS_NORM_UNIT_IN_PLACE };
    let params = check_row(kernel, x, weight, eps)?;
    let dispatch = Dispatch::new(kernel).buffer(x);
    let dispatch = if let Some(weight) = weight { dispatch.buffer(weight) } else { dispatch };
    enc.dispatch(dispatch.bytes(&params))
}

fn check_row(kernel: &Kernel, x: &Buffer, weight: Option<&Buffer>, eps: f32) -> Result<Params> {
    let dim = check::row_len(kernel.name, "x", x)?;
    if let Some(weight) = weight {
        check::f32s(kernel.name, "weight", weight, dim)?;
    }
    Ok(Params { dim: check::dim(kernel.name, "x", dim)?, eps })
}
