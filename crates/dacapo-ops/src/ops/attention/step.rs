//! Attention of one token with what comes before it on the way from the products: norm and rotation of queries and keys, and
//! the write of keys and values into the caches. Replacements from the [table of fusions](crate::fusion).

use dacapo::{Binding, Buffer, CpuTwin, Dispatch, FuseMatch, Kernel, OpKind};

use super::{Params, cpu, gpu};
use crate::ops::fused::{norm_rope, rope_kv_write};
use crate::ops::rope;

/// Attention's own parameters, and those of norms and rotations.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct StepParams {
    pub call: Params,
    pub interleaved: u32,
    pub attention_factor: f32,
    /// Of the norms, where there are any.
    pub q_eps: f32,
    pub k_eps: f32,
}

/// The longest key or value that a GPU with subgroups of four has room for.
const LONGEST: u32 = 256;

macro_rules! kernel {
    ($(#[$about:meta])* $kernel:ident, $name:literal, [$($more:expr),*], $cpu:expr, $gpu:expr) => {
        $(#[$about])*
        pub static $kernel: Kernel = Kernel {
            name: $name,
            kind: OpKind::Attention,
            bindings: &[
                Binding::read("q"),
                Binding::read("k"),
                Binding::read("v"),
                Binding::read_write("k_cache"),
                Binding::read_write("v_cache"),
                Binding::read("step"),
                Binding::read("inv_freq"),
                $($more,)*
            ],
            cpu: $cpu,
            gpu: Some($gpu),
        };
    };
}

kernel!(
    /// `rope` of the queries, `rope_kv_write`, `attention_part`.
    ROPE_ATTENTION_PART,
    "rope_attention_part",
    [Binding::write("found")],
    CpuTwin { plan: cpu::step::plan_part, run: cpu::step::run_part },
    &gpu::step::PART
);

kernel!(
    /// `rms_norm_rope` of the queries, `rms_norm_rope_kv_write`, `attention_part`.
    RMS_NORM_ROPE_ATTENTION_PART,
    "rms_norm_rope_attention_part",
    [Binding::write("found"), Binding::read("q_weight"), Binding::read("k_weight")],
    CpuTwin { plan: cpu::step::plan_part, run: cpu::step::run_part_normed },
    &gpu::step::PART_NORMED
);

kernel!(
    /// `rope` of the queries, `rope_kv_write`, `attention_q8`.
    ROPE_ATTENTION_Q8,
    "rope_attention_q8",
    [Binding::write("codes"), Binding::write("meta")],
    CpuTwin { plan: cpu::step::plan_q8, run: cpu::step::run_q8 },
    &gpu::step::Q8
);

kernel!(
    /// `rms_norm_rope` of the queries, `rms_norm_rope_kv_write`, `attention_q8`.
    RMS_NORM_ROPE_ATTENTION_Q8,
    "rms_norm_rope_attention_q8",
    [Binding::write("codes"), Binding::write("meta"), Binding::read("q_weight"), Binding::read("k_weight")],
    CpuTwin { plan: cpu::step::plan_q8, run: cpu::step::run_q8_normed },
    &gpu::step::Q8_NORMED
);

/// The replacement of `rope`, `rope_kv_write`, `attention_part`.
pub(crate) fn build_part(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let q = Queries { rope: found.params(0)?, eps: 0.0, weight: None, inv_freq: 1, step: 2 };
    build(found, &ROPE_ATTENTION_PART, q)
}

/// The replacement of `rms_norm_rope`, `rms_norm_rope_kv_write`, `attention_part`.
pub(crate) fn build_part_normed(found: &FuseMatch<'_>) -> Option<Dispatch> {
    build(found, &RMS_NORM_ROPE_ATTENTION_PART, Queries::normed(found)?)
}

/// The replacement of `rope`, `rope_kv_write`, `attention_q8`.
pub(crate) fn build_q8(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let q = Queries { rope: found.params(0)?, eps: 0.0, weight: None, inv_freq: 1, step: 2 };
    build(found, &ROPE_ATTENTION_Q8, q)
}

/// The replacement of `rms_norm_rope`, `rms_norm_rope_kv_write`, `attention_q8`.
pub(crate) fn build_q8_normed(found: &FuseMatch<'_>) -> Option<Dispatch> {
    build(found, &RMS_NORM_ROPE_ATTENTION_Q8, Queries::normed(found)?)
}

/// What the first step does with the queries, and which of its bindings are what.
struct Queries {
    rope: rope::Params,
    eps: f32,
    weight: Option<usize>,
    inv_freq: usize,
    step: usize,
}

impl Queries {
    fn normed(found: &FuseMatch<'_>) -> Option<Self> {
        let norm_rope::Params { rope, eps } = found.params(0)?;
        Some(Queries { rope, eps, weight: Some(1), inv_freq: 2, step: 3 })
    }
}

/// All three as one, if queries and keys are rotated alike, for the position at which they are written, and what is written
/// is what attention sees: whole rows of the caches, aligned to 16 bytes.
fn build(found: &FuseMatch<'_>, kernel: &'static Kernel, queries: Queries) -> Option<Dispatch> {
    let write: rope_kv_write::Params = found.params(1)?;
    let call: Params = found.params(2)?;
    let caches = if queries.weight.is_some() { [5, 6] } else { [4, 5] };
    let at = |step, binding| found.buffer(step, binding);
    let same = |a: Option<Buffer>, b: Option<Buffer>| a.zip(b).is_some_and(|(a, b)| a.is_same_view(&b));
    let same_views = same(at(0, 0), at(2, 0))
        && same(at(0, queries.inv_freq), at(1, 3))
        && same(at(0, queries.step), at(1, 2))
        && same(at(1, 2), at(2, 3))
        && same(at(1, caches[0]), at(2, 1))
        && same(at(1, caches[1]), at(2, 2));
    let sizes = call.tokens == 1
        && (queries.rope.heads, queries.rope.dim) == (call.heads, call.key_dim)
        && (write.write.heads, write.write.capacity) == (call.kv_heads, call.capacity)
        && (write.write.key_dim, write.write.value_dim) == (call.key_dim, call.value_dim);
    let alike = queries.rope.interleaved == write.rope.interleaved
        && queries.rope.attention_factor.to_bits() == write.rope.attention_factor.to_bits();
    let whole = |dim: u32| dim.is_multiple_of(8) && dim <= LONGEST;
    let aligned = |cache: Option<Buffer>| cache.is_some_and(|cache| cache.byte_offset().is_multiple_of(16));
    let fits = whole(call.key_dim) && whole(call.value_dim) && aligned(at(2, 1)) && aligned(at(2, 2));
    (same_views && sizes && alike && fits).then_some(())?;

    let inputs = [at(0, 0), at(1, 0), at(1, 1), at(2, 1), at(2, 2), at(2, 3), at(1, 3)];
    let attention = found.node(2)?.dispatch().buffers().ok()?;
    let outputs = attention.get(4..)?;
    let weights = match queries.weight {
        Some(weight) => vec![at(0, weight)?, at(1, 4)?],
        None => Vec::new(),
    };
    let mut dispatch = Dispatch::new(kernel);
    for buffer in inputs.into_iter().collect::<Option<Vec<_>>>()?.iter().chain(outputs).chain(&weights) {
        dispatch = dispatch.buffer(buffer);
    }
    Some(dispatch.bytes(&StepParams {
        call,
        interleaved: write.rope.interleaved,
        attention_factor: write.rope.attention_factor,
        q_eps: queries.eps,
        k_eps: write.eps,
    }))
}
