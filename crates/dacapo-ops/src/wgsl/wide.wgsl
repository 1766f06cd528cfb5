// Numbers of 64 bits: the lower and the upper word.

fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let mid_a = (a >> 16u) * (b & 0xffffu);
    let mid_b = (a & 0xffffu) * (b >> 16u);
    let mid = (low >> 16u) + (mid_a & 0xffffu) + (mid_b & 0xffffu);
    let high = (a >> 16u) * (b >> 16u) + (mid_a >> 16u) + (mid_b >> 16u) + (mid >> 16u);
    return vec2<u32>((low & 0xffffu) | (mid << 16u), high);
}

fn wide_sum(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn wide_difference(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn wide_less(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}
