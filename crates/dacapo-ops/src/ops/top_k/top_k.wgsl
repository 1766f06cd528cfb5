// The largest elements of rows in order, a workgroup for each row. They are found, gathered and sorted in portions of
// up to `SCAN`.
struct Params { dim: u32, k: u32, o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> values: F32s;
@group(0) @binding(2) var<storage, read_write> indices: U32s;

override WORKGROUP: u32 = 256u;
const PORTION: u32 = SCAN;

var<workgroup> gathered: atomic<u32>;
var<workgroup> row: u32;

// Elements that are loaded together.
const AHEAD: u32 = 4u;

fn element(i: u32) -> f32 {
    return x.v[p.o0 / 4u + row * p.dim + i];
}

// The pair of the `count`-th element in order.
fn select_last(at: Invocation, count: u32) -> vec2<u32> {
    var goal = vec2<u32>(count, 0u);
    var chosen = vec2<u32>(0u);
    for (var stage = 0u; stage < STAGES; stage++) {
        clear_bins(at);
        for (var i = at.index; i < p.dim; i += WORKGROUP * AHEAD) {
            var ahead: array<f32, AHEAD>;
            for (var j = 0u; j < AHEAD; j++) {
                ahead[j] = element(min(i + j * WORKGROUP, p.dim - 1u));
            }
            for (var j = 0u; j < AHEAD; j++) {
                let index = i + j * WORKGROUP;
                let rank = rank_of(ahead[j]);
                if index < p.dim && agrees(rank, index, stage, chosen) {
                    add_to_bin(digit(rank, index, stage), vec2<u32>(1u, 0u));
                }
            }
        }
        find_bin(at, scan_bins(at), goal);
        goal = found_rest;
        chosen = with_digit(chosen, stage, found_bin);
        // The whole bin is needed, whatever its further digits.
        if all(goal == bin_value(found_bin)) {
            return chosen | digits_behind(stage);
        }
    }
    return chosen;
}

// Puts the pairs from behind `first` up to `last` into `scan_low` and `scan_high`, in any order.
fn gather(at: Invocation, first: vec2<u32>, last: vec2<u32>, from_start: bool) {
    workgroupBarrier();
    if at.index == 0u {
        atomicStore(&gathered, 0u);
    }
    for (var i = at.index; i < PORTION; i += WORKGROUP) {
        scan_low[i] = 0xffffffffu;
        scan_high[i] = 0xffffffffu;
    }
    workgroupBarrier();
    for (var i = at.index; i < p.dim; i += WORKGROUP) {
        let rank = rank_of(element(i));
        if reaches(rank, i, last) && (from_start || !reaches(rank, i, first)) {
            let place = atomicAdd(&gathered, 1u);
            scan_high[place] = rank;
            scan_low[place] = i;
        }
    }
    workgroupBarrier();
}

// Sorts the gathered pairs (Batcher's bitonic network, 1968).
fn sort(at: Invocation, len: u32) {
    for (var size = 2u; size <= len; size *= 2u) {
        for (var distance = size / 2u; distance > 0u; distance /= 2u) {
            for (var n = at.index; n < len / 2u; n += WORKGROUP) {
                let a = 2u * n - (n & (distance - 1u));
                let b = a + distance;
                let pair_a = vec2<u32>(scan_low[a], scan_high[a]);
                let pair_b = vec2<u32>(scan_low[b], scan_high[b]);
                let falling = (a & size) != 0u;
                if wide_less(pair_b, pair_a) != falling {
                    scan_low[a] = pair_b.x;
                    scan_high[a] = pair_b.y;
                    scan_low[b] = pair_a.x;
                    scan_high[b] = pair_a.y;
                }
            }
            workgroupBarrier();
        }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let this_row = linear_group(at);
    if this_row >= (arrayLength(&values.v) - p.o1 / 4u) / p.k {
        return;
    }
    if at.index == 0u {
        row = this_row;
    }
    workgroupBarrier();
    var first = vec2<u32>(0u);
    for (var done = 0u; done < p.k; done += PORTION) {
        let count = min(p.k - done, PORTION);
        let last = select_last(at, done + count);
        gather(at, first, last, done == 0u);
        var len = 1u;
        while len < count {
            len *= 2u;
        }
        sort(at, len);
        for (var i = at.index; i < count; i += WORKGROUP) {
            let index = scan_low[i];
            values.v[p.o1 / 4u + this_row * p.k + done + i] = element(index);
            indices.v[p.o2 / 4u + this_row * p.k + done + i] = index;
        }
        first = last;
    }
}
