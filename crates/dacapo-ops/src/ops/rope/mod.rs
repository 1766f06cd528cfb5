//! Rotary position embedding (Su et al., 2021).

pub(crate) mod cpu;
pub(crate) mod gpu;
mod scaling;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Error, Kernel, OpKind, Result};

pub use scaling::{RopeFrequencies, RopeScaling};

use crate::check;

/// How [`rope`] rotates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeOptions {
    /// Pairs are elements 2i and 2i+1 (as Su et al. have it); otherwise i and i+R/2 (as GPT-NeoX has it).
    pub interleaved: bool,
    /// What cosine and sine are multiplied by: 1, or [`RopeFrequencies::attention_factor`].
    pub attention_factor: f32,
}

impl Default for RopeOptions {
    fn default() -> Self {
        RopeOptions { interleaved: false, attention_factor: 1.0 }
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub heads: u32,
    pub dim: u32,
    pub interleaved: u32,
    pub attention_factor: f32,
}

/// Rotation in place.
pub static ROPE: Kernel = Kernel {
    name: "rope",
    kind: OpKind::Rope,
    bindings: &[Binding::read_write("x"), Binding::read("inv_freq"), Binding::read("step")],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::TWIN),
};

/// Rotates the first R elements of each head of token t, pair by pair, in place:
/// `(a, b) -> (a cos - b sin, a sin + b cos)` with the angle `(step[0] + t) * inv_freq[i]` for pair i.
///
/// `x` is F32 `[T, H, D]`, `inv_freq` F32 `[R/2]` in radians per position with `R <= D`
/// ([`RopeFrequencies::inv_freq`]), `step` U32 with the position of the first token in its first element. The angle
/// is computed in single precision, as models are trained with.
///
/// # Errors
/// An element type or a shape that does not fit.
pub fn rope(
    enc: &mut CommandEncoder,
    x: &Buffer,
    inv_freq: &Buffer,
    step: &Buffer,
    options: RopeOptions,
) -> Result<()> {
    let &[tokens, heads, dim] = x.shape() else {
        return Err(Error::argument(ROPE.name, "x", "shape [T, H, D]", format!("{:?}", x.shape())));
    };
    check::shape(ROPE.name, "x", x, &[tokens, heads, dim])?;
    check::f32s(ROPE.name, "inv_freq", inv_freq, inv_freq.len())?;
    if inv_freq.len() > dim / 2 {
        let expected = format!("at most {} elements, half a head", dim / 2);
        return Err(Error::argument(ROPE.name, "inv_freq", expected, inv_freq.len()));
    }
    check::step(ROPE.name, step)?;
    let params = Params {
        heads: check::dim(ROPE.name, "x", heads)?,
        dim: check::dim(ROPE.name, "x", dim)?,
        interleaved: u32::from(options.interleaved),
        attention_factor: options.attention_factor,
    };
    enc.dispatch(Dispatch::new(&ROPE).buffer(x).buffer(inv_freq).buffer(step).bytes(&params))
}
