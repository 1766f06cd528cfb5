// Digits of pairs (rank, index) for `select.wgsl` where workgroup memory is short: eight, of 8 bits.
const STAGES: u32 = 8u;
// A bin for each value of a digit.
const BINS: u32 = 256u;
// Elements of the arrays that running sums are made in; workgroups are no larger than the number of bins.
const SCAN: u32 = 512u;

// Bits behind the digit of a stage, in its half of the pair.
fn bits_behind(stage: u32) -> u32 {
    return 24u - 8u * (stage % 4u);
}

// The digit that stage number `stage` looks at, the most significant first.
fn digit(rank: u32, index: u32, stage: u32) -> u32 {
    return (select(index, rank, stage < 4u) >> bits_behind(stage)) & 0xffu;
}

// Whether the digits before stage number `stage` are those of `chosen`.
fn agrees(rank: u32, index: u32, stage: u32, chosen: vec2<u32>) -> bool {
    if stage == 0u {
        return true;
    }
    let found = bits_behind(stage - 1u);
    if stage <= 4u {
        return rank >> found == chosen.x >> found;
    }
    return rank == chosen.x && index >> found == chosen.y >> found;
}

// `chosen` with the digit of a stage.
fn with_digit(chosen: vec2<u32>, stage: u32, found: u32) -> vec2<u32> {
    let bits = found << bits_behind(stage);
    return select(vec2<u32>(chosen.x, chosen.y | bits), vec2<u32>(chosen.x | bits, 0u), stage < 4u);
}

// All digits behind that of a stage.
fn digits_behind(stage: u32) -> vec2<u32> {
    let rest = (1u << bits_behind(stage)) - 1u;
    return select(vec2<u32>(0u, rest), vec2<u32>(rest, 0xffffffffu), stage < 4u);
}
