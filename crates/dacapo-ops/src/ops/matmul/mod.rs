//! Matrix products `y = x W^T (+ bias)` with dense or quantized weights.

pub mod codes;
mod cpu;
pub mod dense;
pub mod exact;
pub(crate) mod gpu;
pub mod many;
pub(crate) mod normed;
pub mod one;
pub mod pack;
mod parts;
pub mod product;
pub(crate) mod residual;
pub mod scales;
mod vector;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::ops::quantize::Activation;
use crate::quant::panel::PanelFormat;
use crate::weight::Weight;

/// `y = x W^T`, activations as they are.
pub static MATMUL: Kernel = Kernel {
    name: "matmul",
    kind: OpKind::Matmul,
    bindings: &[Binding::read("x"), Binding::read("weight"), Binding::write("y")],
    cpu: CpuTwin { plan: cpu::plan::<false, 2>, run: cpu::exact },
    gpu: Some(&gpu::EXACT),
};

/// `y = x W^T + bias`, activations as they are.
pub static MATMUL_BIAS: Kernel = Kernel {
    name: "matmul_bias",
    kind: OpKind::Matmul,
    bindings: &[Binding::read("x"), Binding::read("weight"), Binding::read("bias"), Binding::write("y")],
    cpu: CpuTwin { plan: cpu::plan::<false, 3>, run: cpu::exact_bias },
    gpu: Some(&gpu::EXACT_BIAS),
};

/// `y = x W^T`, activations as int8.
pub static MATMUL_INT8: Kernel = Kernel {
    name: "matmul_int8",
    kind: OpKind::Matmul,
    bindings: &[Binding::read("codes"), Binding::read("meta"), Binding::read("weight"), Binding::write("y")],
    cpu: CpuTwin { plan: cpu::plan::<true, 3>, run: cpu::int8 },
    gpu: Some(&gpu::INT8),
};

/// `y = x W^T + bias`, activations as int8.
pub static MATMUL_INT8_BIAS: Kernel = Kernel {
    name: "matmul_int8_bias",
    kind: OpKind::Matmul,
    bindings: &[
        Binding::read("codes"),
        Binding::read("meta"),
        Binding::read("weight"),
        Binding::read("bias"),
        Binding::write("y"),
    ],
    cpu: CpuTwin { plan: cpu::plan::<true, 4>, run: cpu::int8_bias },
    gpu: Some(&gpu::INT8_BIAS),
};

/// Parameters of the kernels: the weight's format and shape.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    format: [u32; 2],
    n: u32,
    k: u32,
    tokens: u32,
}

/// `out[T, N] = x[T, K] W[N, K]^T`, plus `bias[N]` to every row if given.
///
/// If the activation has its int8 twin and the weight is quantized, products are of int8 activations with exact
/// integer sums for each 32 (or 16) values; otherwise of f32 activations. The result does not depend on the device's
/// threads, on the vector instructions, or on how many tokens are computed together. `x` may have any shape whose
/// last dimension is K; `out` and `bias` are F32.
///
/// A weight that is larger than the device's largest binding is multiplied in parts, by a dispatch for each.
///
/// # Errors
/// [`Error::Argument`] if a shape or type does not fit; whatever [`CommandEncoder::dispatch`] finds.
pub fn matmul(
    enc: &mut CommandEncoder,
    x: &Activation,
    weight: &Weight,
    bias: Option<&Buffer>,
    out: &Buffer,
) -> Result<()> {
    let (n, k) = (weight.n(), weight.k());
    let exact = x.exact_buffer();
    let fail =
        |argument, expected: String, found: String| Err(Error::argument("matmul", argument, expected, found));
    if exact.dtype() != DType::F32 || exact.shape().last() != Some(&k) {
        let found = format!("{} {:?}", exact.dtype(), exact.shape());
        return fail("x", format!("f32, rows of {k} values"), found);
    }
    let tokens = exact.len().checked_div(k).unwrap_or(0);
    if out.dtype() != DType::F32 || out.len() != tokens * n {
        let found = format!("{} {:?}", out.dtype(), out.shape());
        return fail("out", format!("f32 [{tokens}, {n}]"), found);
    }
    if let Some(bias) = bias
        && (bias.dtype() != DType::F32 || bias.len() != n)
    {
        return fail("bias", format!("f32 [{n}]"), format!("{} {:?}", bias.dtype(), bias.shape()));
    }
    if out.is_empty() {
        return Ok(());
    }
    let rows = weight.bindable_rows(enc.device())?;
    if rows < n { parts::matmul(enc, x, weight, rows, bias, out) } else { whole(enc, x, weight, bias, out) }
}

/// The product of arguments that fit each other, by one dispatch.
fn whole(
    enc: &mut CommandEncoder,
    x: &Activation,
    weight: &Weight,
    bias: Option<&Buffer>,
    out: &Buffer,
) -> Result<()> {
    let (n, k, exact) = (weight.n(), weight.k(), x.exact_buffer());
    let tokens = out.len() / n;
    let quantized = matches!(weight.format(), PanelFormat::Quantized { .. });
    let dispatch = match (x.int8_buffers(), bias) {
        (Some((codes, meta)), None) if quantized => Dispatch::new(&MATMUL_INT8).buffer(codes).buffer(meta),
        (Some((codes, meta)), Some(_)) if quantized => {
            Dispatch::new(&MATMUL_INT8_BIAS).buffer(codes).buffer(meta)
        }
        (_, None) => Dispatch::new(&MATMUL).buffer(exact),
        (_, Some(_)) => Dispatch::new(&MATMUL_BIAS).buffer(exact),
    };
    let mut dispatch = dispatch.buffer(weight.data());
    if let Some(bias) = bias {
        dispatch = dispatch.buffer(bias);
    }
    let params = Params { format: weight.format().encode(), n: n as u32, k: k as u32, tokens: tokens as u32 };
    enc.dispatch(dispatch.buffer(out).bytes(&params).grid([n as u32, tokens as u32, 1]))
}

#[cfg(test)]
mod tests;
