//! The GPU twins of attention.

use dacapo::DType;
use dacapo::gpu::{GpuContext, GpuLimits, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, MATH};

/// Query heads that a workgroup of `row.wgsl` takes together, by variant; the number of variants is twice as large.
const HEADS: [u32; 4] = [1, 2, 4, 8];

macro_rules! row {
    ($name:literal, $heads:literal, $caches:literal, $output:literal) => {
        Wgsl::new(
            $name,
            &[
                concat!("// Query heads of a workgroup.\nconst HEADS: u32 = ", $heads, "u;\n"),
                include_str!("params.wgsl"),
                include_str!($output),
                include_str!($caches),
                include_str!("row.wgsl"),
                INVOCATION,
                MATH,
            ],
        )
    };
}

macro_rules! rows {
    ($output:literal) => {
        [
            row!("narrow_1", 1, "caches_narrow.wgsl", $output),
            row!("narrow_2", 2, "caches_narrow.wgsl", $output),
            row!("narrow_4", 4, "caches_narrow.wgsl", $output),
            row!("narrow_8", 8, "caches_narrow.wgsl", $output),
            row!("wide_1", 1, "caches_wide.wgsl", $output),
            row!("wide_2", 2, "caches_wide.wgsl", $output),
            row!("wide_4", 4, "caches_wide.wgsl", $output),
            row!("wide_8", 8, "caches_wide.wgsl", $output),
        ]
    };
}

pub(super) static ATTENTION: GpuTwin = GpuTwin { variants: &rows!("plain.wgsl"), plan };
pub(super) static SINKS: GpuTwin = GpuTwin { variants: &rows!("sinks.wgsl"), plan };
pub(super) static PART: GpuTwin = GpuTwin { variants: &rows!("part.wgsl"), plan };

macro_rules! combine {
    ($name:literal, $bindings:literal) => {
        GpuTwin {
            variants: &[Wgsl::new(
                $name,
                &[
                    include_str!("params.wgsl"),
                    include_str!($bindings),
                    include_str!("combine.wgsl"),
                    INVOCATION,
                    MATH,
                ],
            )],
            plan: plan_combine,
        }
    };
}

pub(super) static COMBINE: GpuTwin = combine!("plain", "combine_plain.wgsl");
pub(super) static COMBINE_SINKS: GpuTwin = combine!("sinks", "combine_sinks.wgsl");

/// The longest value that a workgroup can hold: eight elements for each invocation.
pub(super) fn most_value_dim(limits: &GpuLimits) -> usize {
    8 * workgroup(limits) as usize
}

/// Invocations of a workgroup: a power of two.
fn workgroup(limits: &GpuLimits) -> u32 {
    1 << limits.workgroup_size.clamp(1, 256).ilog2()
}

/// Bytes of workgroup memory that `row.wgsl` takes.
fn row_memory(p: &Params, heads: u32, workgroup: u32) -> u32 {
    let query = p.key_dim.div_ceil(32) * 128;
    let scores = workgroup / 4 * 2 * 4;
    heads * (query + scores + 12) + workgroup * 32
}

/// Place in [`HEADS`] of the number of query heads that a workgroup takes: all that share a head of the cache, if there
/// is one for them and it fits.
fn heads_index(p: &Params, limits: &GpuLimits) -> usize {
    let fits = |&heads: &u32| {
        row_memory(p, heads, workgroup(limits)) <= limits.shared_memory && heads < 2 * (p.heads / p.kv_heads)
    };
    HEADS.iter().rposition(fits).unwrap_or(0)
}

/// Workgroups of a token and a split.
pub(super) fn workgroups_of_heads(p: &Params, limits: &GpuLimits) -> u32 {
    p.kv_heads * (p.heads / p.kv_heads).div_ceil(HEADS[heads_index(p, limits)])
}

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let p: Params = context.params();
    let half = context.dtype(1) == DType::F16;
    let whole = |dim: u32, binding| dim.is_multiple_of(8) && context.misalignment(binding).is_multiple_of(16);
    let wide = whole(p.key_dim, 1) && whole(p.value_dim, 2);
    let variant = heads_index(&p, context.limits()) + if wide { HEADS.len() } else { 0 };
    // Tokens count in y, then in z, splits in z.
    const MOST_Y: u32 = 32768;
    let y = p.tokens.min(MOST_Y);
    let z = p.tokens.div_ceil(y.max(1)) * p.splits;
    GpuPlan::new([workgroups_of_heads(&p, context.limits()), y, z])
        .variant(variant)
        .constant("WORKGROUP", workgroup(context.limits()))
        .constant("KEY_PIECES", p.key_dim.div_ceil(8))
        .constant("VALUE_PIECES", p.value_dim.div_ceil(8))
        .constant("HALF", u32::from(half))
}

/// Few tokens: one workgroup for each and each head.
fn plan_combine(context: &GpuContext<'_>) -> GpuPlan {
    let p: Params = context.params();
    GpuPlan::new([p.heads, p.tokens, 1])
        .constant("WORKGROUP", workgroup(context.limits()))
        .constant("VALUE_PIECES", p.value_dim.div_ceil(8))
}
