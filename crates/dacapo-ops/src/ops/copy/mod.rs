//! Copies, with conversion between the floating-point types.

mod cpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

/// Copy of all elements.
pub static COPY: Kernel = Kernel {
    name: "copy",
    kind: OpKind::Copy,
    bindings: &[Binding::read("x"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: None,
};

/// `out = x` for as many elements, of any one type, or from any to any of F32, F16 and BF16, rounded to nearest,
/// ties to even.
///
/// # Errors
/// A pair of types with no conversion, or a length that does not fit.
pub fn copy(enc: &mut CommandEncoder, x: &Buffer, out: &Buffer) -> Result<()> {
    let float = |t| matches!(t, DType::F32 | DType::F16 | DType::BF16);
    if x.dtype() != out.dtype() && !(float(x.dtype()) && float(out.dtype())) {
        let expected = format!("{} or a conversion between floating-point types", x.dtype());
        return Err(Error::argument(COPY.name, "out", expected, out.dtype()));
    }
    check::elements(COPY.name, "out", out, x.len())?;
    enc.dispatch(Dispatch::new(&COPY).buffer(x).buffer(out))
}
