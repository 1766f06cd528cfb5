//! Elementwise arithmetic.

mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

use crate::check;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    value: f32,
}

const BINARY: &[Binding] = &[Binding::read("a"), Binding::read("b"), Binding::write("out")];
const UNARY: &[Binding] = &[Binding::read("x"), Binding::write("out")];
const UPDATE: &[Binding] = &[Binding::read_write("x"), Binding::read("b")];
const IN_PLACE: &[Binding] = &[Binding::read_write("x")];

const fn kernel(
    name: &'static str,
    bindings: &'static [Binding],
    plan: fn(&dacapo::cpu::PlanContext<'_>) -> dacapo::cpu::CpuPlan,
    run: fn(&dacapo::cpu::Tile<'_>),
    gpu: &'static dacapo::gpu::GpuTwin,
) -> Kernel {
    Kernel { name, kind: OpKind::Elementwise, bindings, cpu: CpuTwin { plan, run }, gpu: Some(gpu) }
}

/// `out = a + b`.
pub static ADD: Kernel = kernel("add", BINARY, cpu::plan::<2>, cpu::run_add, &gpu::ADD);
/// `out = a * b`.
pub static MUL: Kernel = kernel("mul", BINARY, cpu::plan::<2>, cpu::run_mul, &gpu::MUL);
/// `x = x + b`.
pub static ADD_IN_PLACE: Kernel =
    kernel("add_in_place", UPDATE, cpu::plan::<0>, cpu::run_add_in_place, &gpu::ADD_IN_PLACE);
/// `x = x + b` for each row of x.
pub static ADD_BIAS: Kernel = kernel("add_bias", UPDATE, cpu::plan_bias, cpu::run_add_bias, &gpu::ADD_BIAS);
/// `out = x * factor`.
pub static SCALE: Kernel = kernel("scale", UNARY, cpu::plan::<1>, cpu::run_scale, &gpu::SCALE);
/// `x = x * factor`.
pub static SCALE_IN_PLACE: Kernel =
    kernel("scale_in_place", IN_PLACE, cpu::plan::<0>, cpu::run_scale_in_place, &gpu::SCALE_IN_PLACE);
/// `out = cap * tanh(x / cap)`.
pub static SOFTCAP: Kernel = kernel("softcap", UNARY, cpu::plan::<1>, cpu::run_softcap, &gpu::SOFTCAP);
/// `x = cap * tanh(x / cap)`.
pub static SOFTCAP_IN_PLACE: Kernel =
    kernel("softcap_in_place", IN_PLACE, cpu::plan::<0>, cpu::run_softcap_in_place, &gpu::SOFTCAP_IN_PLACE);

fn binary(
    enc: &mut CommandEncoder,
    kernel: &'static Kernel,
    a: &Buffer,
    b: &Buffer,
    out: &Buffer,
) -> Result<()> {
    for (name, buffer) in [("a", a), ("b", b), ("out", out)] {
        check::f32s(kernel.name, name, buffer, a.len())?;
    }
    enc.dispatch(Dispatch::new(kernel).buffer(a).buffer(b).buffer(out))
}

fn unary(
    enc: &mut CommandEncoder,
    kernel: &'static Kernel,
    x: &Buffer,
    out: Option<&Buffer>,
    value: f32,
) -> Result<()> {
    check::f32s(kernel.name, "x", x, x.len())?;
    let mut dispatch = Dispatch::new(kernel).buffer(x);
    if let Some(out) = out {
        check::f32s(kernel.name, "out", out, x.len())?;
        dispatch = dispatch.buffer(out);
    }
    enc.dispatch(dispatch.bytes(&Params { value }))
}

/// `out = a + b`, element by element; all F32 with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn add(enc: &mut CommandEncoder, a: &Buffer, b: &Buffer, out: &Buffer) -> Result<()> {
    binary(enc, &ADD, a, b, out)
}

/// `out = a * b`, element by element; all F32 with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn mul(enc: &mut CommandEncoder, a: &Buffer, b: &Buffer, out: &Buffer) -> Result<()> {
    binary(enc, &MUL, a, b, out)
}

/// `x = x + b`, element by element; both F32 with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn add_in_place(enc: &mut CommandEncoder, x: &Buffer, b: &Buffer) -> Result<()> {
    check::f32s(ADD_IN_PLACE.name, "x", x, x.len())?;
    check::f32s(ADD_IN_PLACE.name, "b", b, x.len())?;
    enc.dispatch(Dispatch::new(&ADD_IN_PLACE).buffer(x).buffer(b))
}

/// `x = x + bias` for each row; `x` is F32 `[.., D]`, `bias` F32 `[D]`.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn add_bias(enc: &mut CommandEncoder, x: &Buffer, bias: &Buffer) -> Result<()> {
    let dim = check::row_len(ADD_BIAS.name, "x", x)?;
    check::f32s(ADD_BIAS.name, "b", bias, dim)?;
    enc.dispatch(Dispatch::new(&ADD_BIAS).buffer(x).buffer(bias))
}

/// `out = x * factor`; both F32 with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn scale(enc: &mut CommandEncoder, x: &Buffer, out: &Buffer, factor: f32) -> Result<()> {
    unary(enc, &SCALE, x, Some(out), factor)
}

/// `x = x * factor`; `x` is F32.
///
/// # Errors
/// Another element type.
pub fn scale_in_place(enc: &mut CommandEncoder, x: &Buffer, factor: f32) -> Result<()> {
    unary(enc, &SCALE_IN_PLACE, x, None, factor)
}

/// `out = cap * tanh(x / cap)`, which keeps values between -cap and cap (Gemma 2, 2024); both F32 with as many
/// elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn softcap(enc: &mut CommandEncoder, x: &Buffer, out: &Buffer, cap: f32) -> Result<()> {
    unary(enc, &SOFTCAP, x, Some(out), cap)
}

/// [`softcap`] with the result in `x`, F32.
///
/// # Errors
/// Another element type.
pub fn softcap_in_place(enc: &mut CommandEncoder, x: &Buffer, cap: f32) -> Result<()> {
    unary(enc, &SOFTCAP_IN_PLACE, x, None, cap)
}
