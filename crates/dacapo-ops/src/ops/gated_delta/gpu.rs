//! The GPU twins of the gated delta rule: token by token for a few, in chunks for prompts.

use dacapo::gpu::{GpuContext, GpuLimits, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::wgsl::{INVOCATION, MATH};

/// Rows of the memory that an invocation has at most; `MOST_ROWS` and four times `MOST_QUADS` in the texts.
const MOST_ROWS: u32 = 32;
/// Invocations of a workgroup at most: half of `WORKERS` in the text.
const WORKGROUP: u32 = 128;
/// Columns of a workgroup at most.
const MOST_COLUMNS: u32 = 32;
/// Most tokens of a chunk; `MOST_CHUNK` in the text.
const MOST_CHUNK: u32 = 16;
/// Tokens from which on chunks are taken: a chunk is as many barriers as two tokens.
const PROMPT: u32 = 4;

const BIND: &str = include_str!("bind.wgsl");

pub(super) static TWIN: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("gated_delta", &[BIND, include_str!("gated_delta.wgsl"), INVOCATION, MATH]).unrolled(),
        Wgsl::new("gated_delta_chunks", &[BIND, include_str!("chunks.wgsl"), INVOCATION, MATH]).unrolled(),
    ],
    plan,
};

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    let p: Params = context.params();
    let limits = context.limits();
    let parts = p.key_dim.div_ceil(MOST_ROWS).next_power_of_two();
    let columns = (limits.workgroup_size.min(WORKGROUP) / parts).min(MOST_COLUMNS);
    let rows = p.key_dim.div_ceil(parts);
    let tokens = (context.len(1) / p.value_heads as usize) as u32;
    let plan = GpuPlan::linear((p.value_heads * p.value_dim.div_ceil(columns)) as usize)
        .constant("WORKGROUP", parts * columns)
        .constant("PARTS", parts)
        .constant("COLUMNS", columns);
    let quads = rows.div_ceil(4);
    let stride = parts * quads + 1;
    match chunk(limits, stride, parts * columns) {
        Some(chunk) if tokens >= PROMPT => plan
            .variant(1)
            .constant("ROWS", 4 * quads)
            .constant("QUADS", quads)
            .constant("CHUNK", chunk)
            .constant("STRIDE", stride)
            .constant("TILE", chunk * stride)
            .constant("PARTIALS", chunk * parts * columns)
            .constant("PAIRS", chunk * chunk),
        _ => plan.constant("ROWS", rows),
    }
}

/// Bytes that a workgroup takes for chunks of so many tokens.
fn memory(chunk: u32, stride: u32, workgroup: u32) -> u32 {
    const ARRAYS_OF_TOKENS: u32 = 7;
    2 * chunk * stride * 16 + 4 * (chunk * workgroup + 2 * chunk * chunk + ARRAYS_OF_TOKENS * MOST_CHUNK)
}

/// The most tokens of a chunk that a workgroup has memory for, unless one by one is as good.
fn chunk(limits: &GpuLimits, stride: u32, workgroup: u32) -> Option<u32> {
    [MOST_CHUNK, 8, 4].into_iter().find(|&chunk| memory(chunk, stride, workgroup) <= limits.shared_memory)
}
