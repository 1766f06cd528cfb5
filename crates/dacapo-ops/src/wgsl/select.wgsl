// The largest elements of a list. Elements are ordered from the largest to the least, equal ones by index, NaN last: by
// the pair (rank, index), where rank is the complement of `order_of`. The kernel brings `elements()`, the length of the
// list; `element(i)`; `measure(x, weighted)`, what an element counts for; and `bins.wgsl`.

// Elements that are loaded together.
const SELECT_AHEAD: u32 = 4u;

fn rank_of(x: f32) -> u32 {
    return ~order_of(x);
}

// Whether a pair is not behind another.
fn reaches(rank: u32, index: u32, last: vec2<u32>) -> bool {
    return rank < last.x || (rank == last.x && index <= last.y);
}

// The digit that stage number `stage` looks at, the most significant first.
fn digit(rank: u32, index: u32, stage: u32) -> u32 {
    switch stage {
        case 0u: { return rank >> 21u; }
        case 1u: { return (rank >> 10u) & 0x7ffu; }
        case 2u: { return rank & 0x3ffu; }
        case 3u: { return index >> 22u; }
        case 4u: { return (index >> 11u) & 0x7ffu; }
        default: { return index & 0x7ffu; }
    }
}

// Whether the digits before stage number `stage` are those of `chosen`.
fn agrees(rank: u32, index: u32, stage: u32, chosen: vec2<u32>) -> bool {
    switch stage {
        case 0u: { return true; }
        case 1u: { return rank >> 21u == chosen.x >> 21u; }
        case 2u: { return rank >> 10u == chosen.x >> 10u; }
        case 3u: { return rank == chosen.x; }
        case 4u: { return rank == chosen.x && index >> 22u == chosen.y >> 22u; }
        default: { return rank == chosen.x && index >> 11u == chosen.y >> 11u; }
    }
}

// The pair of the element with which the running measure reaches `goal`, which is not 0 and not above the sum of all.
fn select_last(at: Invocation, goal: vec2<u32>, weighted: bool) -> vec2<u32> {
    let count = elements();
    var rest = goal;
    var chosen = vec2<u32>(0u);
    for (var stage = 0u; stage < 6u; stage++) {
        clear_bins(at);
        for (var i = at.index; i < count; i += WORKGROUP * SELECT_AHEAD) {
            var values: array<f32, SELECT_AHEAD>;
            for (var j = 0u; j < SELECT_AHEAD; j++) {
                values[j] = element(min(i + j * WORKGROUP, count - 1u));
            }
            for (var j = 0u; j < SELECT_AHEAD; j++) {
                let index = i + j * WORKGROUP;
                let rank = rank_of(values[j]);
                if index < count && agrees(rank, index, stage, chosen) {
                    add_to_bin(digit(rank, index, stage), measure(values[j], weighted));
                }
            }
        }
        find_bin(at, scan_bins(at), rest);
        let bin = found_bin;
        rest = found_rest;
        var below = vec2<u32>(0u);
        switch stage {
            case 0u: { chosen.x = bin << 21u; below = vec2<u32>(0x1fffffu, 0xffffffffu); }
            case 1u: { chosen.x |= bin << 10u; below = vec2<u32>(0x3ffu, 0xffffffffu); }
            case 2u: { chosen.x |= bin; below = vec2<u32>(0u, 0xffffffffu); }
            case 3u: { chosen.y = bin << 22u; below = vec2<u32>(0u, 0x3fffffu); }
            case 4u: { chosen.y |= bin << 11u; below = vec2<u32>(0u, 0x7ffu); }
            default: { chosen.y |= bin; }
        }
        // The whole bin is needed, whatever its further digits.
        if all(rest == bin_value(bin)) {
            return chosen | below;
        }
    }
    return chosen;
}
