//! The gated delta rule: attention whose memory is a matrix for each head (Yang, Kautz and Hatamizadeh, "Gated Delta Networks",
//! 2024).

mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

/// Most elements of a key.
pub const MOST_KEY_DIM: usize = 256;

/// Added to the squares of a query's or key's elements before the root.
const EPSILON: f32 = 1e-6;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    key_heads: u32,
    value_heads: u32,
    key_dim: u32,
    value_dim: u32,
    /// 1 if value head h has key head `h % key_heads`, 0 if neighbours share one.
    tiled: u32,
}

impl Params {
    /// Elements of a token's queries, keys and values.
    fn width(&self) -> usize {
        (2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim) as usize
    }

    /// The key head of a value head.
    fn key_head(&self, head: usize) -> usize {
        let (keys, values) = (self.key_heads as usize, self.value_heads as usize);
        if self.tiled == 1 { head % keys } else { head / (values / keys) }
    }
}

/// Reads and updates of the memory of every head, token by token.
pub static GATED_DELTA: Kernel = Kernel {
    name: "gated_delta",
    kind: OpKind::Attention,
    bindings: &[
        Binding::read("qkv"),
        Binding::read("a"),
        Binding::read("b"),
        Binding::read("rate"),
        Binding::read("dt_bias"),
        Binding::read("step"),
        Binding::read_write("state"),
        Binding::write("out"),
    ],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::TWIN),
};

/// What a gated delta rule reads of T tokens, with HK heads of queries and keys and HV of values.
#[derive(Debug, Clone, Copy)]
pub struct DeltaInputs<'a> {
    /// F32 `[T, 2 * HK * DK + HV * DV]`: all queries of a token, then its keys, then its values.
    pub qkv: &'a Buffer,
    /// F32 `[T, HV]`: what the decay of each token depends on.
    pub a: &'a Buffer,
    /// F32 `[T, HV]`: the logit of each token's share in what it overwrites.
    pub b: &'a Buffer,
    /// F32 `[HV]`: how fast each head forgets.
    pub rate: &'a Buffer,
    /// F32 `[HV]`, added to `a`.
    pub dt_bias: &'a Buffer,
    /// HK.
    pub key_heads: usize,
    /// Whether value head h has key head `h % HK`; otherwise `h / (HV / HK)`.
    pub tiled: bool,
}

/// For each head and token: `S = exp(-rate * softplus(a + dt_bias)) S`, `S += sigmoid(b) k (v - S^T k)^T`, `out = S^T q`, where
/// keys and queries are divided by their lengths, and queries by the root of DK. Value heads share the heads of keys and
/// queries evenly.
///
/// `state` is F32 `[HV, DK, DV]`, what S is before the first token and after the last. `step` is U32 with the position of the
/// first token in its first element: at position 0 a text begins, and S counts as zeros. `out` is F32 `[T, HV * DV]`.
///
/// # Errors
/// An element type or a shape that does not fit; keys of more than [`MOST_KEY_DIM`] elements; no token.
pub fn gated_delta(
    enc: &mut CommandEncoder,
    inputs: &DeltaInputs<'_>,
    step: &Buffer,
    state: &Buffer,
    out: &Buffer,
) -> Result<()> {
    let name = GATED_DELTA.name;
    let DeltaInputs { qkv, a, b, rate, dt_bias, key_heads, tiled } = *inputs;
    let &[heads, key_dim @ 1..=MOST_KEY_DIM, value_dim] = state.shape() else {
        let found = format!("{:?}", state.shape());
        return Err(Error::argument(name, "state", format!("shape [HV, DK <= {MOST_KEY_DIM}, DV]"), found));
    };
    if key_heads == 0 || !heads.is_multiple_of(key_heads) {
        return Err(Error::argument(name, "key_heads", format!("a divisor of {heads}"), key_heads));
    }
    let &[tokens, _] = qkv.shape() else {
        return Err(Error::argument(name, "qkv", "shape [T, ..]", format!("{:?}", qkv.shape())));
    };
    for (name_of, count) in [("qkv", tokens), ("state", heads * value_dim)] {
        if count == 0 {
            return Err(Error::argument(name, name_of, "at least 1 row", 0));
        }
    }
    let params = Params {
        key_heads: check::dim(name, "key_heads", key_heads)?,
        value_heads: check::dim(name, "state", heads)?,
        key_dim: check::dim(name, "state", key_dim)?,
        value_dim: check::dim(name, "state", value_dim)?,
        tiled: u32::from(tiled),
    };
    check::dtype(name, "state", state, DType::F32)?;
    check::shape(name, "qkv", qkv, &[tokens, params.width()])?;
    check::shape(name, "a", a, &[tokens, heads])?;
    check::shape(name, "b", b, &[tokens, heads])?;
    check::f32s(name, "rate", rate, heads)?;
    check::f32s(name, "dt_bias", dt_bias, heads)?;
    check::step(name, step)?;
    check::shape(name, "out", out, &[tokens, heads * value_dim])?;
    let dispatch = Dispatch::new(&GATED_DELTA).buffer(qkv).buffer(a).buffer(b).buffer(rate).buffer(dt_bias);
    enc.dispatch(dispatch.buffer(step).buffer(state).buffer(out).bytes(&params))
}

#[cfg(test)]
mod tests;
