//! Attention over a cache of keys and values.

mod cpu;
mod gpu;
pub(crate) mod quantized;
mod split;
pub(crate) mod step;
#[cfg(test)]
mod tests;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Error, Kernel, OpKind, Result};

pub use self::quantized::{ATTENTION_COMBINE_Q8, ATTENTION_Q8};
pub use self::split::{ATTENTION_COMBINE, ATTENTION_COMBINE_SINKS, ATTENTION_PART};
pub use self::step::{
    RMS_NORM_ROPE_ATTENTION_PART, RMS_NORM_ROPE_ATTENTION_Q8, ROPE_ATTENTION_PART, ROPE_ATTENTION_Q8,
};
use super::kv_write::check_cache;
use crate::check;

/// What [`attention`] computes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOptions {
    /// What scores are multiplied by; usually `1 / sqrt(D)`.
    pub scale: f32,
    /// Whether a query sees only positions up to its own (decoders) or all (encoders).
    pub causal: bool,
    /// How many positions a query sees at most, its own included.
    pub window: Option<usize>,
    /// If given, scores become `cap * tanh(score / cap)` before the softmax.
    pub softcap: Option<f32>,
}

impl AttentionOptions {
    /// Causal, no window, no softcap.
    pub fn causal(scale: f32) -> Self {
        AttentionOptions { scale, causal: true, window: None, softcap: None }
    }
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    key_dim: u32,
    value_dim: u32,
    capacity: u32,
    scale: f32,
    /// 0 without.
    softcap: f32,
    /// 0 without.
    window: u32,
    causal: u32,
    /// Parts that the positions are cut into: 1 for all at once.
    splits: u32,
}

/// Attention.
pub static ATTENTION: Kernel = Kernel {
    name: "attention",
    kind: OpKind::Attention,
    bindings: &[
        Binding::read("q"),
        Binding::read("k_cache"),
        Binding::read("v_cache"),
        Binding::read("step"),
        Binding::write("out"),
    ],
    cpu: CpuTwin { plan: cpu::plan::<4>, run: cpu::run },
    gpu: Some(&gpu::ATTENTION),
};

/// Attention with sinks.
pub static ATTENTION_SINKS: Kernel = Kernel {
    name: "attention_sinks",
    kind: OpKind::Attention,
    bindings: &[
        Binding::read("q"),
        Binding::read("k_cache"),
        Binding::read("v_cache"),
        Binding::read("step"),
        Binding::read("sinks"),
        Binding::write("out"),
    ],
    cpu: CpuTwin { plan: cpu::plan::<5>, run: cpu::run_sinks },
    gpu: Some(&gpu::SINKS),
};

/// `out[t, h] = sum_j softmax_j(scale * q[t, h] . k[h / G, j]) v[h / G, j]` (Vaswani et al., 2017), with `G = H / KVH`
/// query heads for each key and value head (Ainslie et al., 2023).
///
/// The first query's position is `p = step[0]`, and the caches hold positions up to `p + T - 1`, position j in slot
/// `j % CAP`. If causal, query t sees positions up to `p + t`, at most `window` of them; otherwise it sees all
/// `p + T`, or with a window those closer than `window` positions on either side. A cache with fewer slots than
/// positions is a ring: it must have at least `window + T - 1` slots, and what was overwritten is not seen. A
/// sink is a score without a value that takes part in the softmax (Xiao et al., 2023).
///
/// `q` is F32 `[T, H, D]`, `k_cache` F16 or F32 `[KVH, CAP, D]`, `v_cache` of the same type `[KVH, CAP, DV]`, `step` U32
/// with p in its first element, `sinks` F32 `[H]`, `out` F32 `[T, H, DV]`.
///
/// # Errors
/// An element type or a shape that does not fit, heads that are not a multiple of the cache's, more tokens than
/// slots, a window of 0, a softcap that is not positive, or on a GPU values of more elements than
/// eight for each invocation of a workgroup (2048 on most).
#[allow(clippy::too_many_arguments)] // What the operation has.
pub fn attention(
    enc: &mut CommandEncoder,
    q: &Buffer,
    k_cache: &Buffer,
    v_cache: &Buffer,
    step: &Buffer,
    sinks: Option<&Buffer>,
    out: &Buffer,
    options: AttentionOptions,
) -> Result<()> {
    let name = if sinks.is_some() { ATTENTION_SINKS.name } else { ATTENTION.name };
    let params = check_arguments(name, q, k_cache, v_cache, out, options)?;
    check::step(name, step)?;
    if let Some(sinks) = sinks {
        check::f32s(name, "sinks", sinks, params.heads as usize)?;
    }
    let args = Arguments { q, k_cache, v_cache, step, sinks, out };
    let gpu = enc.device().info().gpu.as_ref();
    if let Some(most) = gpu.map(gpu::most_value_dim)
        && params.value_dim as usize > most
    {
        let expected = format!("heads of at most {most} elements on this device");
        return Err(Error::argument(name, "v_cache", expected, params.value_dim));
    }
    match split::splits(&params, gpu, enc.device().threads()) {
        0 | 1 => args.dispatch(enc, &params),
        splits => split::attention(enc, &args, &params, splits),
    }
}

/// The buffers of a call.
#[derive(Debug, Clone, Copy)]
struct Arguments<'a> {
    q: &'a Buffer,
    k_cache: &'a Buffer,
    v_cache: &'a Buffer,
    step: &'a Buffer,
    sinks: Option<&'a Buffer>,
    out: &'a Buffer,
}

impl Arguments<'_> {
    /// Attention in one dispatch.
    fn dispatch(&self, enc: &mut CommandEncoder, params: &Params) -> Result<()> {
        let kernel = if self.sinks.is_some() { &ATTENTION_SINKS } else { &ATTENTION };
        let mut dispatch = Dispatch::new(kernel).buffer(self.q).buffer(self.k_cache).buffer(self.v_cache);
        dispatch = dispatch.buffer(self.step);
        if let Some(sinks) = self.sinks {
            dispatch = dispatch.buffer(sinks);
        }
        enc.dispatch(dispatch.buffer(self.out).bytes(params))
    }
}

fn check_arguments(
    name: &'static str,
    q: &Buffer,
    k_cache: &Buffer,
    v_cache: &Buffer,
    out: &Buffer,
    options: AttentionOptions,
) -> Result<Params> {
    let &[tokens, heads, key_dim] = q.shape() else {
        return Err(Error::argument(name, "q", "shape [T, H, D]", format!("{:?}", q.shape())));
    };
    let &[kv_heads, capacity, _] = k_cache.shape() else {
        return Err(Error::argument(
            name,
            "k_cache",
            "shape [KVH, CAP, D]",
            format!("{:?}", k_cache.shape()),
        ));
    };
    let value_dim = v_cache.shape().last().copied().unwrap_or(0);
    check::shape(name, "q", q, &[tokens, heads, key_dim])?;
    check_cache(name, "k_cache", k_cache, k_cache.dtype(), &[kv_heads, capacity, key_dim])?;
    check_cache(name, "v_cache", v_cache, k_cache.dtype(), &[kv_heads, capacity, value_dim])?;
    check::shape(name, "out", out, &[tokens, heads, value_dim])?;
    if kv_heads == 0 || heads % kv_heads != 0 {
        let expected = format!("a multiple of the cache's {kv_heads} heads");
        return Err(Error::argument(name, "q", expected, format!("{heads} heads")));
    }
    if key_dim == 0 || value_dim == 0 {
        return Err(Error::argument(name, "q", "heads of at least 1 element", 0));
    }
    let slots = options.window.unwrap_or(1).saturating_add(tokens.saturating_sub(1));
    if tokens > capacity || (options.window.is_none() && slots > capacity) {
        return Err(Error::argument(name, "k_cache", format!("at least {slots} slots"), capacity));
    }
    if options.window == Some(0) {
        return Err(Error::argument(name, "window", "at least 1 position", 0));
    }
    let softcap = options.softcap.unwrap_or(0.0);
    if options.softcap.is_some() && (softcap.is_nan() || softcap <= 0.0) {
        return Err(Error::argument(name, "softcap", "a positive number", softcap));
    }
    Ok(Params {
        tokens: check::dim(name, "q", tokens)?,
        heads: check::dim(name, "q", heads)?,
        kv_heads: check::dim(name, "k_cache", kv_heads)?,
        key_dim: check::dim(name, "q", key_dim)?,
        value_dim: check::dim(name, "v_cache", value_dim)?,
        capacity: check::dim(name, "k_cache", capacity)?,
        scale: options.scale,
        softcap,
        // A window beyond every position is none.
        window: options.window.and_then(|w| u32::try_from(w).ok()).unwrap_or(0),
        causal: u32::from(options.causal),
        splits: 1,
    })
}
