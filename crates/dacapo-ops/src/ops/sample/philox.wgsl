// Philox 4x32-10: see `philox.rs`.
fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var i = 0u; i < 10u; i++) {
        let a = wide_product(c.x, 0xd2511f53u);
        let b = wide_product(c.z, 0xcd9e8d57u);
        c = vec4<u32>(b.y ^ c.y ^ k.x, b.x, a.y ^ c.w ^ k.y, a.x);
        k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// A whole number below `total`: the upper half of the product with 64 random bits.
fn draw_below(total: vec2<u32>, seed: vec2<u32>, position: u32) -> vec2<u32> {
    let words = philox(vec4<u32>(position, 0u, 0u, 0u), seed);
    let low = wide_product(words.y, total.x);
    let mid_a = wide_product(words.x, total.x);
    let mid_b = wide_product(words.y, total.y);
    let high = wide_product(words.x, total.y);
    let mid = wide_sum(wide_sum(vec2<u32>(low.y, 0u), vec2<u32>(mid_a.x, 0u)), vec2<u32>(mid_b.x, 0u));
    return wide_sum(wide_sum(high, vec2<u32>(mid_a.y, 0u)), wide_sum(vec2<u32>(mid_b.y, 0u), vec2<u32>(mid.y, 0u)));
}
