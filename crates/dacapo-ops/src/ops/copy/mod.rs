//! Copies, with conversion between the floating-point types.

mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    len: u32,
}

/// Copy of all elements into whole 32-bit words.
pub static COPY: Kernel = Kernel {
    name: "copy",
    kind: OpKind::Copy,
    bindings: &[Binding::read("x"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::WHOLE_WORDS),
};

/// Copy of all elements to where the first or the last 32-bit word is shared with other values. GPUs write words: to keep
/// the other values they have to read them.
pub static COPY_SHARED_WORDS: Kernel = Kernel {
    name: "copy_shared_words",
    kind: OpKind::Copy,
    bindings: &[Binding::read("x"), Binding::read_write("out")],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::SHARED_WORDS),
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
    let params = Params { len: check::dim(COPY.name, "x", x.len())? };
    let dispatch = |kernel| Dispatch::new(kernel).buffer(x).buffer(out).bytes(&params);
    let copy = dispatch(&COPY);
    let whole = |at: usize| at.is_multiple_of(4);
    let written = copy.ranges()?.last().is_none_or(|out| whole(out.start) && whole(out.end));
    enc.dispatch(if written { copy } else { dispatch(&COPY_SHARED_WORDS) })
}
