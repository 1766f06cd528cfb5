// The chain of filters and the draw, in one workgroup. The kernel brings the logits with their bias.
//
// The text has each large function in one place only, and a loop around them: drivers put all calls in line.
override WORKGROUP: u32 = 256u;
// Loads that are under way together.
const AHEAD: u32 = 8u;

var<workgroup> largest: f32;
// log2(e) over the temperature: 1 for the filters, then the one for the draw.
var<workgroup> rates: array<vec2<u32>, 2>;

// Tokens that may be kept, in no order, once the first digit of the last of them is known: if they are so few, nothing after
// that goes over all tokens again.
const LISTED: u32 = 1024u;
var<workgroup> listed: array<u32, LISTED>;
var<workgroup> listed_count: atomic<u32>;

// What the bins sum up.
// The number of tokens, or their weights, by a digit of their rank.
const COUNTS: u32 = 0u;
const MASSES: u32 = 1u;
// Weights of kept tokens in runs of tokens that follow each other, or of single tokens.
const RUNS: u32 = 2u;
const TOKENS: u32 = 3u;

// A part of the search for a token.
struct Search {
    sums: u32,
    // Digit, and those found so far.
    stage: u32,
    chosen: vec2<u32>,
    // Tokens that it is about, and how many times WORKGROUP of them share a bin.
    first: u32,
    end: u32,
    per_bin: u32,
    // The last token that is kept, and the least weight at temperature 1 that is.
    last: vec2<u32>,
    least: vec2<u32>,
    // Which of the rates counts.
    rate: u32,
    // How many tokens are listed; none if there is no list.
    count: u32,
}

fn word(i: u32) -> u32 {
    return params.v[p.o1 / 4u + i];
}

fn has_penalties() -> bool {
    return bitcast<f32>(word(6u)) != 1.0 || bitcast<f32>(word(7u)) != 0.0 || bitcast<f32>(word(8u)) != 0.0;
}

// A logit after penalties.
fn penalized(x: f32, i: u32) -> f32 {
    if !has_penalties() {
        return x;
    }
    let n = count(i);
    if n == 0u {
        return x;
    }
    let repetition = bitcast<f32>(word(6u));
    var scaled = times(x, repetition);
    if x > 0.0 {
        scaled = quotient(x, repetition);
    }
    return scaled - (times(f32(n), bitcast<f32>(word(7u))) + bitcast<f32>(word(8u)));
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

// Index of the largest logit.
fn best(at: Invocation) -> u32 {
    let n = elements();
    var order = 0u;
    var index = 0u;
    if has_penalties() {
        for (var i = at.index; i < n; i += WORKGROUP) {
            let found = order_of(penalized(logit(i), i));
            if found > order {
                order = found;
                index = i;
            }
        }
    } else {
        for (var i = at.index; i < n; i += WORKGROUP * AHEAD) {
            var values: array<f32, AHEAD>;
            for (var j = 0u; j < AHEAD; j++) {
                values[j] = logit(min(i + j * WORKGROUP, n - 1u));
            }
            for (var j = 0u; j < AHEAD; j++) {
                let found = order_of(values[j]);
                if found > order {
                    order = found;
                    index = min(i + j * WORKGROUP, n - 1u);
                }
            }
        }
    }
    let highest = workgroup_max_u32(order, at);
    let first = workgroup_max_u32(select(0u, ~index, order == highest && order != 0u), at);
    if at.index == 0u {
        largest = bitcast<f32>(bits_of_order(highest));
    }
    return select(0u, ~first, highest != 0u);
}

// What a token adds to its bin.
fn weight_in(search: Search, x: f32, rank: u32, i: u32) -> vec2<u32> {
    let none = vec2<u32>(0u);
    if search.sums <= MASSES {
        if !agrees(rank, i, search.stage, search.chosen) {
            return none;
        }
        if search.sums == COUNTS {
            return vec2<u32>(1u, 0u);
        }
    } else if !reaches(rank, i, search.last) {
        return none;
    }
    var found = none;
    for (var which = select(0u, search.rate, all(search.least == none)); which <= search.rate; which++) {
        found = weight(x - largest, rates[which]);
        if which == 0u && wide_less(found, search.least) {
            return none;
        }
    }
    return found;
}

// The token in a place of the list, or of all tokens; beyond the end the last one.
fn token_at(place: u32, end: u32, few: bool) -> u32 {
    let i = min(place, end - 1u);
    if few {
        return listed[i];
    }
    return i;
}

// Clears the bins and fills them.
fn fill(at: Invocation, search: Search) {
    clear_bins(at);
    let few = search.count > 0u;
    let start = select(search.first, 0u, few);
    let end = select(search.end, search.count, few);
    // Four loads are under way together.
    var next = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        next = vec4<f32>(next.yzw, logit(token_at(start + at.index + j * WORKGROUP, end, few)));
    }
    for (var run = start; run < end; run += WORKGROUP) {
        let place = run + at.index;
        let i = token_at(place, end, few);
        let now = next.x;
        next = vec4<f32>(next.yzw, logit(token_at(place + 4u * WORKGROUP, end, few)));
        var sum = vec2<u32>(0u);
        var bin = i - search.first;
        if place < end && i >= search.first && i < search.end {
            let x = penalized(now, i);
            let rank = rank_of(x);
            sum = weight_in(search, x, rank, i);
            if search.sums <= MASSES {
                bin = digit(rank, i, search.stage);
            }
        }
        if search.sums == RUNS {
            bin /= WORKGROUP * search.per_bin;
            if !few {
                // A subgroup's sum, in four parts of 16 bits: its tokens are of one run.
                let low = subgroupAdd(vec2<u32>(sum.x & 0xffffu, sum.x >> 16u));
                let high = subgroupAdd(vec2<u32>(sum.y & 0xffffu, sum.y >> 16u));
                let upper = vec2<u32>(low.x, high.x + (high.y << 16u));
                sum = wide_sum(upper, vec2<u32>(low.y << 16u, low.y >> 16u));
                if at.lane != 0u {
                    sum = vec2<u32>(0u);
                }
            }
        }
        if any(sum != vec2<u32>(0u)) {
            add_to_bin(bin, sum);
        }
    }
}

// Lists the tokens whose first digit is at most `last`, and says how many there are: none if the list cannot hold them.
fn list_up_to(at: Invocation, last: u32) -> u32 {
    if at.index == 0u {
        atomicStore(&listed_count, 0u);
    }
    workgroupBarrier();
    let n = elements();
    var next = vec4<f32>();
    for (var j = 0u; j < 4u; j++) {
        next = vec4<f32>(next.yzw, logit(min(at.index + j * WORKGROUP, n - 1u)));
    }
    for (var i = at.index; i < n; i += WORKGROUP) {
        let now = next.x;
        next = vec4<f32>(next.yzw, logit(min(i + 4u * WORKGROUP, n - 1u)));
        if digit(rank_of(penalized(now, i)), i, 0u) <= last {
            let place = atomicAdd(&listed_count, 1u);
            if place < LISTED {
                listed[place] = i;
            }
        }
    }
    workgroupBarrier();
    let count = atomicLoad(&listed_count);
    return select(0u, count, count <= LISTED);
}

// Draws a token. The search takes these steps: 0, the last token that top-k keeps; 1, the weight of all that are kept;
// 2, the last token that top-p keeps; 3, the weight of all that are kept at the temperature, the draw, and the stretch of
// runs that it falls into; 4, the run; 5, the token.
fn draw(at: Invocation) -> u32 {
    let n = elements();
    let top_k = word(3u);
    let limited = top_k > 0u && top_k < n;
    let top_p = bitcast<f32>(word(4u));
    let nucleus = top_p < 1.0;
    let min_p = bitcast<f32>(word(5u));
    let one = vec2<u32>(1u, 0u);
    // At most 64 stretches of runs.
    let per_bin = ((n + WORKGROUP - 1u) / WORKGROUP + 63u) / 64u;
    var search = Search(COUNTS, 0u, vec2<u32>(0u), 0u, n, per_bin, vec2<u32>(0xffffffffu), vec2<u32>(0u), 0u, 0u);
    var goal = vec2<u32>(top_k, 0u);
    var step_number = select(select(3u, 1u, nucleus), 0u, limited);
    for (var turn_number = 0u; turn_number < 2u * STAGES + 4u; turn_number++) {
        switch step_number {
            case 0u: { search.sums = COUNTS; }
            case 1u: { search.sums = RUNS; }
            case 2u: { search.sums = MASSES; }
            case 3u: {
                search.sums = RUNS;
                search.rate = 1u;
                if min_p > 0.0 {
                    search.least = part_of(min_p, vec2<u32>(0u, 0x1000u));
                }
            }
            case 4u: { search.per_bin = 1u; }
            default: { search.sums = TOKENS; }
        }
        fill(at, search);
        let before = scan_bins(at);
        if step_number == 1u {
            goal = part_of(top_p, bins_total());
            if all(goal == vec2<u32>(0u)) {
                goal = one;
            }
            search.stage = 0u;
            search.chosen = vec2<u32>(0u);
            step_number = 2u;
            continue;
        }
        if step_number == 3u {
            let position = step.v[p.o2 / 4u] + p.advance;
            goal = wide_sum(draw_below(bins_total(), vec2<u32>(word(0u), word(1u)), position), one);
        }
        find_bin(at, before, goal);
        let bin = found_bin;
        goal = found_rest;
        if step_number == 5u {
            return search.first + bin;
        }
        if step_number >= 3u {
            search.first += bin * search.per_bin * WORKGROUP;
            search.end = min(search.first + search.per_bin * WORKGROUP, n);
            step_number++;
            continue;
        }
        if search.stage == 0u && search.count == 0u {
            search.count = list_up_to(at, bin);
        }
        search.chosen = with_digit(search.chosen, search.stage, bin);
        let whole = all(goal == bin_value(bin));
        if whole || search.stage == STAGES - 1u {
            search.last = search.chosen;
            if whole {
                search.last |= digits_behind(search.stage);
            }
            step_number = select(3u, 1u, nucleus && step_number == 0u);
        } else {
            search.stage++;
        }
    }
    return 0u;
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    var chosen = best(at);
    let temperature = word(2u);
    workgroupBarrier();
    // Otherwise nothing to draw among, or a temperature that is negative, denormal or NaN.
    let finite = (bitcast<u32>(largest) & 0x7fffffffu) < 0x7f800000u;
    if finite && temperature >= 0x800000u && temperature <= 0x7f800000u {
        if at.index == 0u {
            rates[0] = rate_of(0x3f800000u);
            rates[1] = rate_of(temperature);
        }
        make_powers(at);
        chosen = draw(at);
    }
    // Others have read the counts.
    storageBarrier();
    if at.index == 0u {
        choose(chosen);
    }
}
