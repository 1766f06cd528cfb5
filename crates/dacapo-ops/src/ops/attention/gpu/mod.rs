//! The GPU twins of attention.

pub(super) mod step;

use dacapo::DType;
use dacapo::gpu::{GpuContext, GpuLimits, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{BLOCK_Q8, FLOAT, INVOCATION, MATH};

/// Query heads that a workgroup of `row.wgsl` takes together, by variant; the number of variants is twice as large.
const HEADS: [u32; 4] = [1, 2, 4, 8];

macro_rules! row {
    ($name:literal, $heads:literal, $caches:literal, $output:literal $(, $more:expr)*) => {
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
                $($more,)*
            ],
        )
        .unrolled()
    };
}

/// The rows of every text, then others.
macro_rules! rows {
    ($output:literal $(, $more:expr)* $(; $variant:expr)*) => {
        [
            row!("narrow_1", 1, "caches_narrow.wgsl", $output $(, $more)*),
            row!("narrow_2", 2, "caches_narrow.wgsl", $output $(, $more)*),
            row!("narrow_4", 4, "caches_narrow.wgsl", $output $(, $more)*),
            row!("narrow_8", 8, "caches_narrow.wgsl", $output $(, $more)*),
            row!("wide_1", 1, "caches_wide.wgsl", $output $(, $more)*),
            row!("wide_2", 2, "caches_wide.wgsl", $output $(, $more)*),
            row!("wide_4", 4, "caches_wide.wgsl", $output $(, $more)*),
            row!("wide_8", 8, "caches_wide.wgsl", $output $(, $more)*),
            $($variant,)*
        ]
    };
}

macro_rules! tile {
    ($output:literal) => {
        Wgsl::new(
            "tile",
            &[
                include_str!("params.wgsl"),
                include_str!($output),
                include_str!("caches_wide.wgsl"),
                include_str!("tile.wgsl"),
                INVOCATION,
                MATH,
            ],
        )
    };
}

pub(super) static ATTENTION: GpuTwin = GpuTwin { variants: &rows!("plain.wgsl"; tile!("plain.wgsl")), plan };
pub(super) static SINKS: GpuTwin = GpuTwin { variants: &rows!("sinks.wgsl"; tile!("sinks.wgsl")), plan };
pub(super) static PART: GpuTwin = GpuTwin { variants: &rows!("part.wgsl"), plan };

pub(super) static ATTENTION_Q8: GpuTwin =
    GpuTwin { variants: &rows!("plain_q8.wgsl", FLOAT, BLOCK_Q8), plan };

macro_rules! combine {
    ($name:literal, $bindings:literal $(, $more:expr)*) => {
        GpuTwin {
            variants: &[Wgsl::new(
                $name,
                &[
                    include_str!("params.wgsl"),
                    include_str!($bindings),
                    include_str!("combine.wgsl"),
                    INVOCATION,
                    MATH,
                    $($more,)*
                ],
            )
            .unrolled()],
            plan: plan_combine,
        }
    };
}

pub(super) static COMBINE: GpuTwin = combine!("plain", "combine_plain.wgsl");
pub(super) static COMBINE_SINKS: GpuTwin = combine!("sinks", "combine_sinks.wgsl");
pub(super) static COMBINE_Q8: GpuTwin = combine!("quantized", "combine_q8.wgsl", FLOAT, BLOCK_Q8);

/// The longest value that a workgroup can hold: eight elements for each invocation.
pub(super) fn most_value_dim(limits: &GpuLimits) -> usize {
    8 * workgroup(limits) as usize
}

/// Invocations of a workgroup: a power of two.
fn workgroup(limits: &GpuLimits) -> u32 {
    1 << limits.workgroup_size.clamp(1, 256).ilog2()
}

/// Bytes of workgroup memory that `row.wgsl` takes, quantization included.
fn row_memory(p: &Params, heads: u32, workgroup: u32) -> u32 {
    let query = p.key_dim.div_ceil(32) * 128;
    let scores = workgroup / 4 * 2 * 4;
    heads * (query + scores + 12) + workgroup * (32 + 8)
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

/// Place of `tile.wgsl` among the variants.
const TILE: usize = 2 * HEADS.len();
/// Tokens up to which each has workgroups of its own.
const FEW: u32 = 8;

/// Workgroups of `tile.wgsl` for caches of whole, aligned rows of halves, if it can be used and keeps the device busy.
fn tiles(p: &Params, limits: &GpuLimits) -> Option<[u32; 2]> {
    const MEMORY: u32 = 31 << 10;
    let fits = limits.workgroup_size >= 256 && limits.shared_memory >= MEMORY;
    let dims = p.key_dim == p.value_dim && matches!(p.key_dim, 64 | 128);
    if p.tokens <= FEW || p.splits > 1 || !dims || !fits {
        return None;
    }
    let rows = u64::from(p.tokens) * u64::from(p.heads / p.kv_heads);
    let tiles = u32::try_from(rows.div_ceil(u64::from(4096 / p.key_dim))).ok()?;
    let enough = 2 * u64::from(tiles) * u64::from(p.kv_heads) >= u64::from(limits.processors);
    let counts = tiles <= limits.workgroups[1] && p.kv_heads <= limits.workgroups[0];
    (enough && counts).then_some([p.kv_heads, tiles])
}

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let p: Params = context.params();
    let half = context.dtype(1) == DType::F16;
    let whole = |dim: u32, binding| dim.is_multiple_of(8) && context.misalignment(binding).is_multiple_of(16);
    let wide = whole(p.key_dim, 1) && whole(p.value_dim, 2);
    let variant = heads_index(&p, context.limits()) + if wide { HEADS.len() } else { 0 };
    if half
        && wide
        && let Some([x, y]) = tiles(&p, context.limits())
    {
        return GpuPlan::new([x, y, 1])
            .variant(TILE)
            .constant("KEY_PIECES", p.key_dim / 8)
            .constant("VALUE_PIECES", p.value_dim / 8);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: Params = Params {
        tokens: 512,
        heads: 32,
        kv_heads: 8,
        key_dim: 128,
        value_dim: 128,
        capacity: 4096,
        scale: 1.0,
        softcap: 0.0,
        window: 0,
        causal: 1,
        splits: 1,
    };

    fn limits() -> GpuLimits {
        GpuLimits {
            subgroup_size: 32,
            shared_memory: 32 << 10,
            workgroup_size: 1024,
            workgroups: [65_535; 3],
            binding_bytes: 1 << 32,
            binding_align: 16,
            processors: 132,
            f16: true,
            matrix_side: 16,
            fast_int8_dot: true,
        }
    }

    #[test]
    fn prompts_are_worked_on_in_tiles() {
        assert_eq!(tiles(&PROMPT, &limits()), Some([8, 64]));
        let short_heads = Params { key_dim: 64, value_dim: 64, ..PROMPT };
        assert_eq!(tiles(&short_heads, &limits()), Some([8, 32]));
        let few = Params { tokens: 16, ..PROMPT };
        assert_eq!(tiles(&few, &limits()), None, "16 workgroups on 132 processors");
        assert_eq!(tiles(&few, &GpuLimits { processors: 8, ..limits() }), Some([8, 2]));
        assert_eq!(tiles(&Params { tokens: 8, ..few }, &GpuLimits { processors: 1, ..limits() }), None);
    }

    #[test]
    fn what_tiles_cannot_hold_is_worked_on_by_rows() {
        for other in [
            Params { value_dim: 64, ..PROMPT },
            Params { key_dim: 96, value_dim: 96, ..PROMPT },
            Params { splits: 2, ..PROMPT },
            Params { tokens: u32::MAX, ..PROMPT },
        ] {
            assert_eq!(tiles(&other, &limits()), None, "{other:?}");
        }
        assert_eq!(tiles(&PROMPT, &GpuLimits { workgroup_size: 128, ..limits() }), None);
        assert_eq!(tiles(&PROMPT, &GpuLimits { shared_memory: 16 << 10, ..limits() }), None);
    }
}
