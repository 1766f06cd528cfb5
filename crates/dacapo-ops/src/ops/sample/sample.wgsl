// The chain of filters and the draw, one workgroup. The kernel brings the logits with their bias.
override WORKGROUP: u32 = 256u;
// Loads that are under way together.
const AHEAD: u32 = 8u;

// The largest logit, and log2(e) over the temperature: 1 for the filters, then the one for the draw.
var<workgroup> largest: f32;
var<workgroup> rate: vec2<u32>;

fn word(i: u32) -> u32 {
    return params.v[p.o1 / 4u + i];
}

// A logit after penalties.
fn element(i: u32) -> f32 {
    let x = logit(i);
    let repetition = bitcast<f32>(word(6u));
    let frequency = bitcast<f32>(word(7u));
    let presence = bitcast<f32>(word(8u));
    if repetition == 1.0 && frequency == 0.0 && presence == 0.0 {
        return x;
    }
    let n = count(i);
    if n == 0u {
        return x;
    }
    let scaled = select(times(x, repetition), quotient(x, repetition), x > 0.0);
    return scaled - (times(f32(n), frequency) + presence);
}

// x / by, as exactly as it can be had.
fn quotient(x: f32, by: f32) -> f32 {
    let bits_x = bitcast<u32>(x);
    let bits_by = bitcast<u32>(by);
    let exponent = i32(bits_x >> 23u) - i32(bits_by >> 23u);
    let normal = bits_x >= 0x800000u && bits_x < 0x7f800000u && bits_by >= 0x800000u && bits_by < 0x7f800000u;
    if normal && exponent > -125 && exponent < 126 {
        return divide(x, by);
    }
    return x / by;
}

fn measure(x: f32, weighted: bool) -> vec2<u32> {
    if weighted {
        return weight(x - largest, rate);
    }
    return vec2<u32>(1u, 0u);
}

// Index of the largest logit.
fn best(at: Invocation) -> u32 {
    let n = elements();
    var order = 0u;
    var index = 0u;
    for (var i = at.index; i < n; i += WORKGROUP * AHEAD) {
        var values: array<f32, AHEAD>;
        for (var j = 0u; j < AHEAD; j++) {
            values[j] = element(min(i + j * WORKGROUP, n - 1u));
        }
        for (var j = 0u; j < AHEAD; j++) {
            let found = order_of(values[j]);
            if found > order {
                order = found;
                index = min(i + j * WORKGROUP, n - 1u);
            }
        }
    }
    let highest = workgroup_max_u32(order, at);
    let first = workgroup_max_u32(select(0u, ~index, order == highest && order != 0u), at);
    return select(0u, ~first, highest != 0u);
}

// Weight of a token, if it is among those up to `last` and weighs at least `floor` at a temperature of 1.
fn kept_weight(i: u32, last: vec2<u32>, floor: vec2<u32>) -> vec2<u32> {
    let x = element(i);
    if !reaches(rank_of(x), i, last) {
        return vec2<u32>(0u);
    }
    if any(floor != vec2<u32>(0u)) && wide_less(weight(x - largest, unit_rate()), floor) {
        return vec2<u32>(0u);
    }
    return weight(x - largest, rate);
}

fn unit_rate() -> vec2<u32> {
    return vec2<u32>(0xb8aa3b29u, 127u);
}

// Puts the kept weights from token `first` up to `end` into bins, `per_bin` runs of WORKGROUP tokens in each.
fn fill_runs(at: Invocation, first: u32, end: u32, per_bin: u32, last: vec2<u32>, floor: vec2<u32>) {
    clear_bins(at);
    var bin = 0u;
    for (var run = first; run < end; run += WORKGROUP * per_bin) {
        var sum = vec2<u32>(0u);
        for (var n = 0u; n < per_bin; n++) {
            let i = run + n * WORKGROUP + at.index;
            if i < end {
                sum = wide_sum(sum, kept_weight(i, last, floor));
            }
        }
        // A subgroup's sum, in four parts of 16 bits.
        let low = subgroupAdd(vec2<u32>(sum.x & 0xffffu, sum.x >> 16u));
        let high = subgroupAdd(vec2<u32>(sum.y & 0xffffu, sum.y >> 16u));
        if at.lane == 0u {
            let upper = high.x + (high.y << 16u);
            let middle = wide_sum(vec2<u32>(low.x, upper), vec2<u32>(low.y << 16u, low.y >> 16u));
            add_to_bin(bin, middle);
        }
        bin++;
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let n = elements();
    let top = best(at);
    let temperature = word(2u);
    let highest = element(top);
    let finite = (bitcast<u32>(highest) & 0x7fffffffu) < 0x7f800000u;
    // Negative, denormal or NaN: no temperature to draw at.
    if !finite || temperature < 0x800000u || temperature > 0x7f800000u {
        workgroupBarrier();
        if at.index == 0u {
            choose(top);
        }
        return;
    }
    if at.index == 0u {
        largest = highest;
        rate = unit_rate();
    }
    make_powers(at);

    // The last token in order that top-k and top-p keep.
    var last = vec2<u32>(0xffffffffu);
    let top_k = word(3u);
    if top_k > 0u && top_k < n {
        last = select_last(at, vec2<u32>(top_k, 0u), false);
    }
    let top_p = bitcast<f32>(word(4u));
    let none = vec2<u32>(0u);
    let runs = (n + WORKGROUP - 1u) / WORKGROUP;
    let per_bin = (runs + 63u) / 64u;
    if top_p < 1.0 {
        fill_runs(at, 0u, n, per_bin, last, none);
        scan_bins(at);
        let goal = part_of(top_p, bins_total());
        last = select_last(at, select(goal, vec2<u32>(1u, 0u), all(goal == none)), true);
    }
    var floor = none;
    let min_p = bitcast<f32>(word(5u));
    if min_p > 0.0 {
        floor = part_of(min_p, vec2<u32>(0u, 0x1000u));
    }

    workgroupBarrier();
    if at.index == 0u {
        rate = rate_of(temperature);
    }
    // Tokens in order of their index: the bin, the run in it, the token in that.
    fill_runs(at, 0u, n, per_bin, last, floor);
    var before = scan_bins(at);
    let position = step.v[p.o2 / 4u] + p.advance;
    let drawn = draw_below(bins_total(), vec2<u32>(word(0u), word(1u)), position);
    find_bin(at, before, wide_sum(drawn, vec2<u32>(1u, 0u)));
    var first = found_bin * per_bin * WORKGROUP;
    var rest = found_rest;
    fill_runs(at, first, min(first + per_bin * WORKGROUP, n), 1u, last, floor);
    before = scan_bins(at);
    find_bin(at, before, rest);
    first += found_bin * WORKGROUP;
    rest = found_rest;
    clear_bins(at);
    if first + at.index < n {
        add_to_bin(at.index, kept_weight(first + at.index, last, floor));
    }
    before = scan_bins(at);
    find_bin(at, before, rest);
    if at.index == 0u {
        choose(first + found_bin);
    }
}
