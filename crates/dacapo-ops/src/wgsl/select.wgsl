// The order of elements: from the largest to the least, equal ones by index, NaN last. That is the order of the pairs
// (rank, index), where rank is the complement of `order_of`.
//
// The pair up to which a running sum reaches a goal is found digit by digit, the most significant first: in each stage,
// the elements that agree with the digits found so far are summed up in bins by their next digit. What digits there are
// stands in `digits.wgsl` or `digits_small.wgsl`.

fn rank_of(x: f32) -> u32 {
    return ~order_of(x);
}

// Whether a pair is not behind another.
fn reaches(rank: u32, index: u32, last: vec2<u32>) -> bool {
    return rank < last.x || (rank == last.x && index <= last.y);
}
