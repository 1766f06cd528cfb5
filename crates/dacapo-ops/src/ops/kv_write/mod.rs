//! Writing new keys and values into a cache.

pub(crate) mod cpu;
mod gpu;

use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, DType, Dispatch, Error, Kernel, OpKind, Result};

use crate::check;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    pub heads: u32,
    pub capacity: u32,
    pub key_dim: u32,
    pub value_dim: u32,
}

/// Keys and values into their caches.
pub static KV_WRITE: Kernel = Kernel {
    name: "kv_write",
    kind: OpKind::KvWrite,
    bindings: &[
        Binding::read("k"),
        Binding::read("v"),
        Binding::read("step"),
        // The slots of other tokens flow through.
        Binding::read_write("k_cache"),
        Binding::read_write("v_cache"),
    ],
    cpu: CpuTwin { plan: cpu::plan, run: cpu::run },
    gpu: Some(&gpu::TWIN),
};

/// Puts token t's keys and values into slot `(step[0] + t) % CAP` of the caches; the other slots keep theirs.
///
/// `k` is F32 `[T, KVH, D]`, `v` F32 `[T, KVH, DV]`, `step` U32 with the position of the first token in its first
/// element, `k_cache` F16 or F32 `[KVH, CAP, D]`, `v_cache` of the same type `[KVH, CAP, DV]`. Values are rounded
/// to nearest, ties to even.
///
/// # Errors
/// An element type or a shape that does not fit, or more tokens than slots.
pub fn kv_write(
    enc: &mut CommandEncoder,
    k: &Buffer,
    v: &Buffer,
    step: &Buffer,
    k_cache: &Buffer,
    v_cache: &Buffer,
) -> Result<()> {
    let name = KV_WRITE.name;
    let &[tokens, heads, key_dim] = k.shape() else {
        return Err(Error::argument(name, "k", "shape [T, KVH, D]", format!("{:?}", k.shape())));
    };
    let &[_, capacity, _] = k_cache.shape() else {
        return Err(Error::argument(
            name,
            "k_cache",
            "shape [KVH, CAP, D]",
            format!("{:?}", k_cache.shape()),
        ));
    };
    let value_dim = v.shape().last().copied().unwrap_or(0);
    check::shape(name, "k", k, &[tokens, heads, key_dim])?;
    check::shape(name, "v", v, &[tokens, heads, value_dim])?;
    check::step(name, step)?;
    check_cache(name, "k_cache", k_cache, k_cache.dtype(), &[heads, capacity, key_dim])?;
    check_cache(name, "v_cache", v_cache, k_cache.dtype(), &[heads, capacity, value_dim])?;
    if tokens > capacity {
        return Err(Error::argument(
            name,
            "k",
            format!("at most {capacity} tokens, the cache's slots"),
            tokens,
        ));
    }
    let params = Params {
        heads: check::dim(name, "k", heads)?,
        capacity: check::dim(name, "k_cache", capacity)?,
        key_dim: check::dim(name, "k", key_dim)?,
        value_dim: check::dim(name, "v", value_dim)?,
    };
    let dispatch = Dispatch::new(&KV_WRITE).buffer(k).buffer(v).buffer(step).buffer(k_cache).buffer(v_cache);
    enc.dispatch(dispatch.bytes(&params))
}

/// Fails unless a cache holds this type, F16 or F32, in this shape.
pub(crate) fn check_cache(
    kernel: &'static str,
    name: &'static str,
    cache: &Buffer,
    dtype: DType,
    shape: &[usize],
) -> Result<()> {
    if !matches!(dtype, DType::F16 | DType::F32) {
        return Err(Error::argument(kernel, name, "f16 or f32", dtype));
    }
    check::dtype(kernel, name, cache, dtype)?;
    if cache.shape() != shape {
        let found = format!("{:?}", cache.shape());
        return Err(Error::argument(kernel, name, format!("shape {shape:?}"), found));
    }
    Ok(())
}
