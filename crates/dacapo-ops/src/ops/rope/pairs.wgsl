// Pairs of a head's elements, and their rotation.

// Where the two elements of a pair lie in a head that has `pairs` of them.
fn pair_places(pair: u32, pairs: u32, interleaved: u32) -> vec2<u32> {
    return select(vec2<u32>(pair, pair + pairs), vec2<u32>(2u * pair, 2u * pair + 1u), interleaved != 0u);
}

// The pair of the element `j`, which is in one.
fn pair_of(j: u32, pairs: u32, interleaved: u32) -> u32 {
    return select(j % pairs, j / 2u, interleaved != 0u);
}

// A pair turned by an angle of this cosine and sine.
fn turned(pair: vec2<f32>, angle: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(pair.x * angle.x - pair.y * angle.y, pair.x * angle.y + pair.y * angle.x);
}
