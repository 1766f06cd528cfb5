// Digits of pairs (rank, index) for `select.wgsl`: six, of 11 bits or 10.
const STAGES: u32 = 6u;
// A bin for each value of a digit.
const BINS: u32 = 2048u;
// Elements of the arrays that running sums are made in; no workgroup is larger.
const SCAN: u32 = 1024u;

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

// `chosen` with the digit of a stage.
fn with_digit(chosen: vec2<u32>, stage: u32, found: u32) -> vec2<u32> {
    switch stage {
        case 0u: { return vec2<u32>(found << 21u, 0u); }
        case 1u: { return vec2<u32>(chosen.x | (found << 10u), 0u); }
        case 2u: { return vec2<u32>(chosen.x | found, 0u); }
        case 3u: { return vec2<u32>(chosen.x, found << 22u); }
        case 4u: { return vec2<u32>(chosen.x, chosen.y | (found << 11u)); }
        default: { return vec2<u32>(chosen.x, chosen.y | found); }
    }
}

// All digits behind that of a stage.
fn digits_behind(stage: u32) -> vec2<u32> {
    switch stage {
        case 0u: { return vec2<u32>(0x1fffffu, 0xffffffffu); }
        case 1u: { return vec2<u32>(0x3ffu, 0xffffffffu); }
        case 2u: { return vec2<u32>(0u, 0xffffffffu); }
        case 3u: { return vec2<u32>(0u, 0x3fffffu); }
        case 4u: { return vec2<u32>(0u, 0x7ffu); }
        default: { return vec2<u32>(0u); }
    }
}
