//! The GPU twins of attention of one token with the rotation before it: `step.wgsl` and how it is divided.

use dacapo::DType;
use dacapo::gpu::{GpuContext, GpuLimits, GpuPlan, GpuTwin, Wgsl};

use super::super::Params;
use super::super::step::StepParams;
use crate::ops::rope::gpu::PAIRS;
use crate::wgsl::{ANGLE, BLOCK_Q8, FLOAT, INVOCATION, MATH, WIDE};

/// Query heads that a workgroup takes together, and pieces of a key or a value that an invocation takes at most, by
/// variant. More of both would leave too few registers.
const SHAPES: [(u32, u32); 9] = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (2, 2), (4, 2), (1, 8), (2, 8)];

/// A text for this many heads and pieces, with this many positions at a time in a row.
macro_rules! text {
    ($name:literal, $heads:literal, $pieces:literal, $ahead:literal, [$($part:expr),*]) => {
        Wgsl::new(
            $name,
            &[
                concat!(
                    "const HEADS: u32 = ", $heads, "u;\nconst PER: u32 = ", $pieces,
                    "u;\nconst AHEAD: u32 = ", $ahead, "u;\n"
                ),
                include_str!("params.wgsl"),
                $($part,)*
                include_str!("step.wgsl"),
                PAIRS, INVOCATION, MATH, FLOAT, WIDE, ANGLE,
            ],
        )
        .unrolled()
    };
}

macro_rules! twin {
    ($parts:tt) => {
        GpuTwin {
            variants: &[
                text!("heads_1", 1, 1, 4, $parts),
                text!("heads_2", 2, 1, 4, $parts),
                text!("heads_4", 4, 1, 4, $parts),
                text!("heads_8", 8, 1, 2, $parts),
                text!("long_1", 1, 2, 2, $parts),
                text!("long_2", 2, 2, 2, $parts),
                text!("long_4", 4, 2, 2, $parts),
                text!("narrow_1", 1, 8, 1, $parts),
                text!("narrow_2", 2, 8, 1, $parts),
            ],
            plan,
        }
    };
}

/// The parameters, with the words behind them: an offset for each binding.
macro_rules! params {
    ($($offset:literal),*) => {
        concat!(
            "struct Rotation { interleaved: u32, attention_factor: f32, q_eps: f32, k_eps: f32 }\n",
            "struct Params { call: Call, rotation: Rotation, ", $($offset, ": u32, ",)* "}\n",
            "var<immediate> p: Params;\n"
        )
    };
}

/// What elements of heads are multiplied by after the norm: weights in these two bindings.
macro_rules! weights {
    ($q:literal, $k:literal) => {
        concat!(
            "const NORMED: bool = true;\n",
            "@group(0) @binding(",
            $q,
            ") var<storage, read> q_weight: F32s;\n",
            "@group(0) @binding(",
            $k,
            ") var<storage, read> k_weight: F32s;\n",
            "fn weight_of(head: u32, d: u32) -> f32 {\n",
            "    if head < HEADS { return q_weight.v[p.o",
            $q,
            " / 4u + d]; }\n",
            "    return k_weight.v[p.o",
            $k,
            " / 4u + d];\n",
            "}\n"
        )
    };
}

/// No norm.
const PLAIN: &str = "const NORMED: bool = false;\nfn weight_of(head: u32, d: u32) -> f32 { return 1.0; }\n";

pub(in super::super) static PART: GpuTwin =
    twin!([params!("o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7"), PLAIN, include_str!("step_part.wgsl")]);
pub(in super::super) static PART_NORMED: GpuTwin = twin!([
    params!("o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9"),
    weights!(8, 9),
    include_str!("step_part.wgsl")
]);
pub(in super::super) static Q8: GpuTwin = twin!([
    params!("o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8"),
    PLAIN,
    include_str!("step_q8.wgsl"),
    BLOCK_Q8
]);
pub(in super::super) static Q8_NORMED: GpuTwin = twin!([
    params!("o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7", "o8", "o9", "o10"),
    weights!(9, 10),
    include_str!("step_q8.wgsl"),
    BLOCK_Q8
]);

/// How a dispatch is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Division {
    /// Place in [`SHAPES`].
    variant: usize,
    workgroup: u32,
    /// Invocations that share a position.
    lanes: u32,
    /// Heads that are put together at a time in the end.
    merged: u32,
}

/// Subgroups of a workgroup: each takes positions of its own.
const SUBGROUPS: u32 = 8;

/// Bytes of workgroup memory, quantization included.
fn memory(p: &Params, heads: u32, merged: u32, workgroup: u32, subgroup: u32) -> u32 {
    let longest = p.key_dim.max(p.value_dim);
    (heads + 2) * longest * 4 + merged * (workgroup / subgroup) * (p.value_dim * 4 + 8) + workgroup * 8
}

fn division(p: &Params, limits: &GpuLimits) -> Division {
    let subgroup = limits.subgroup_size.max(4);
    let workgroup = (SUBGROUPS * subgroup).min(1 << limits.workgroup_size.clamp(subgroup, 256).ilog2());
    let needed = p.key_dim.max(p.value_dim).div_ceil(8);
    let lanes = needed.next_power_of_two().clamp(4, subgroup.min(32));
    // The fewest pieces, then the most heads.
    let group = p.heads / p.kv_heads;
    let fits = |&(_, (heads, pieces)): &(usize, (u32, u32))| {
        let small = memory(p, heads, 1, workgroup, subgroup) <= limits.shared_memory;
        pieces * lanes >= needed && heads <= lanes && heads < 2 * group && small
    };
    let all = || SHAPES.into_iter().enumerate().filter(fits);
    let least = all().map(|(_, (_, pieces))| pieces).min();
    let chosen = all().rfind(|&(_, (_, pieces))| Some(pieces) == least);
    let (variant, (heads, _)) = chosen.unwrap_or((SHAPES.len() - 2, (1, 8)));
    let mut merged = heads.min(4);
    while merged > 1 && memory(p, heads, merged, workgroup, subgroup) > limits.shared_memory {
        merged /= 2;
    }
    Division { variant, workgroup, lanes, merged }
}

/// Workgroups of a split.
fn workgroups_of_heads(p: &Params, division: Division) -> u32 {
    p.kv_heads * (p.heads / p.kv_heads).div_ceil(SHAPES[division.variant].0)
}

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let StepParams { call: p, .. } = context.params();
    let division = division(&p, context.limits());
    GpuPlan::new([workgroups_of_heads(&p, division), 1, p.splits])
        .variant(division.variant)
        .constant("WORKGROUP", division.workgroup)
        .constant("SUBGROUP", context.limits().subgroup_size)
        .constant("LANES", division.lanes)
        .constant("KEY_PIECES", p.key_dim / 8)
        .constant("VALUE_PIECES", p.value_dim / 8)
        .constant("PAIRS", context.len(6) as u32)
        .constant("MERGED", division.merged)
        .constant("HALF", u32::from(context.dtype(3) == DType::F16))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(heads: u32, kv_heads: u32, dim: u32) -> Params {
        Params {
            tokens: 1,
            heads,
            kv_heads,
            key_dim: dim,
            value_dim: dim,
            capacity: 4096,
            scale: 1.0,
            softcap: 0.0,
            window: 0,
            causal: 1,
            splits: 8,
        }
    }

    fn limits(subgroup_size: u32) -> GpuLimits {
        GpuLimits {
            subgroup_size,
            shared_memory: 32 << 10,
            workgroup_size: 1024,
            workgroups: [65_535; 3],
            binding_bytes: 1 << 32,
            binding_align: 16,
            processors: 132,
            f16: true,
            matrix_side: 0,
            fast_int8_dot: true,
        }
    }

    #[test]
    fn heads_that_share_keys_are_taken_together() {
        let shape = |call: Params, subgroup| {
            let division = division(&call, &limits(subgroup));
            (SHAPES[division.variant], division.lanes, division.merged, division.workgroup)
        };
        assert_eq!(shape(call(32, 8, 128), 32), ((4, 1), 16, 4, 256));
        assert_eq!(shape(call(16, 8, 128), 32), ((2, 1), 16, 2, 256));
        assert_eq!(shape(call(32, 8, 64), 32), ((4, 1), 8, 4, 256));
        assert_eq!(shape(call(12, 1, 256), 32), ((8, 1), 32, 2, 256), "32 KiB of memory");
        assert_eq!(shape(call(3, 1, 128), 8), ((4, 2), 8, 4, 64));
        assert_eq!(shape(call(8, 1, 256), 4), ((2, 8), 4, 2, 32));
    }

    #[test]
    fn workgroup_memory_is_enough() {
        for (group, dim, subgroup) in [(1, 8), (3, 64), (8, 128), (16, 256)]
            .into_iter()
            .flat_map(|(group, dim)| [4, 8, 16, 32, 64].map(|subgroup| (group, dim, subgroup)))
        {
            let (p, limits) = (call(2 * group, 2, dim), limits(subgroup));
            let division = division(&p, &limits);
            let (heads, pieces) = SHAPES[division.variant];
            assert!(memory(&p, heads, division.merged, division.workgroup, subgroup) <= 32 << 10);
            assert!(division.lanes * pieces * 8 >= dim && heads <= division.lanes);
            assert!(workgroups_of_heads(&p, division) * heads >= 2 * group);
        }
    }
}
