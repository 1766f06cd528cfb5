// What all texts of attention share: parameters, queries, and which positions a query sees.
struct Call {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    key_dim: u32,
    value_dim: u32,
    capacity: u32,
    scale: f32,
    softcap: f32,
    window: u32,
    causal: u32,
    splits: u32,
}
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
struct Words4 { v: array<vec4<u32>> }

// Whose result an invocation of row.wgsl stores, and its number. A workgroup stores together; invocations that are not
// taking part bring nothing.
struct Part { token: u32, head: u32, split: u32, index: u32 }

// Below every score.
const LEAST: f32 = -3.4028235e38;

// e^x for x up to 0: how much less a score weighs than the largest. The device's own exponential is wrong by at most 3 + 2|x|
// units in the last place; sums of weights need no more.
fn decay(x: f32) -> f32 {
    return exp2(x * 1.442695);
}

// Positions that a split has at least, the last apart.
const LEAST_SPLIT: u32 = 64u;

// The positions that query `token` sees, given the step's position: half-open.
fn seen(token: u32, step_position: u32) -> vec2<u32> {
    // A buffer may hold anything; sums must not wrap.
    let position = min(step_position, 0x40000000u);
    let length = position + p.call.tokens;
    let own = position + token;
    let window = min(p.call.window, 0x40000000u);
    var end = length;
    if p.call.causal != 0u {
        end = own + 1u;
    } else if window > 0u {
        end = min(length, own + window);
    }
    var start = length - min(length, p.call.capacity);
    if window > 0u {
        start = max(start, own + 1u - min(own + 1u, window));
    }
    return vec2<u32>(min(start, end), end);
}

// Positions of each split of a range, the last apart.
fn split_len(range: vec2<u32>) -> u32 {
    return max((range.y - range.x + p.call.splits - 1u) / p.call.splits, LEAST_SPLIT);
}

// Splits of a range that have positions; those behind them have none.
fn used_splits(range: vec2<u32>) -> u32 {
    let each = split_len(range);
    return (range.y - range.x + each - 1u) / each;
}

// The positions of one split of a range.
fn part_of(range: vec2<u32>, split: u32) -> vec2<u32> {
    let each = split_len(range);
    let first = range.x + min(split * each, range.y - range.x);
    return vec2<u32>(first, min(first + each, range.y));
}
