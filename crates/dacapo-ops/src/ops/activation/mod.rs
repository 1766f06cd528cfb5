//! ActivationFn functions, alone and gated.

mod clamped;
pub(crate) mod cpu;
pub(crate) mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

pub use self::clamped::{GATED_CLAMPED, gated_clamped};
use crate::check;

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActivationFn {
    /// `x / (1 + e^-x)` (Elfwing, Uchibe and Doya, 2017).
    Silu,
    /// `x/2 (1 + erf(x / sqrt 2))` (Hendrycks and Gimpel, 2016).
    Gelu,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, the usual approximation of GELU.
    GeluTanh,
    /// `1 / (1 + e^-x)`: the gate of Qwen3-Next's attention.
    Sigmoid,
}

impl ActivationFn {
    const ALL: [ActivationFn; 4] =
        [ActivationFn::Silu, ActivationFn::Gelu, ActivationFn::GeluTanh, ActivationFn::Sigmoid];
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// Index into [`ActivationFn::ALL`].
    pub function: u32,
}

impl Params {
    fn new(function: ActivationFn) -> Self {
        Params { function: function as u32 }
    }

    pub(crate) fn function(self) -> ActivationFn {
        ActivationFn::ALL[self.function as usize]
    }
}

/// An activation function of every element.
pub static ACTIVATE: Kernel = Kernel {
    name: "activate",
    kind: OpKind::Activation,
    bindings: &[Binding::read("x"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan::<1>, run: cpu::run },
    gpu: Some(&gpu::ACTIVATE),
};

/// An activation function of a gate, times another value.
pub static GATED: Kernel = Kernel {
    name: "gated",
    kind: OpKind::Activation,
    bindings: &[Binding::read("gate"), Binding::read("up"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan::<2>, run: cpu::run_gated },
    gpu: Some(&gpu::GATED),
};

/// `out = function(x)`, element by element. `x` and `out` are F32 with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn activate(enc: &mut CommandEncoder, x: &Buffer, out: &Buffer, function: ActivationFn) -> Result<()> {
    check::f32s(ACTIVATE.name, "x", x, x.len())?;
    check::f32s(ACTIVATE.name, "out", out, x.len())?;
    enc.dispatch(Dispatch::new(&ACTIVATE).buffer(x).buffer(out).bytes(&Params::new(function)))
}

/// `out = function(gate) * up`, element by element: the gated linear units of Shazeer (2020), such as SwiGLU.
/// All are F32 with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn gated(
    enc: &mut CommandEncoder,
    gate: &Buffer,
    up: &Buffer,
    out: &Buffer,
    function: ActivationFn,
) -> Result<()> {
    check::f32s(GATED.name, "gate", gate, gate.len())?;
    check::f32s(GATED.name, "up", up, gate.len())?;
    check::f32s(GATED.name, "out", out, gate.len())?;
    enc.dispatch(Dispatch::new(&GATED).buffer(gate).buffer(up).buffer(out).bytes(&Params::new(function)))
}
