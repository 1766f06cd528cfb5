// Activations are used as they are: nothing has to be made ready.
fn prepare(index: u32, subgroup: u32) {}

// `sum` and the products of codes 4 j .. 4 j + 3 of each row with four activations.
fn four_products(x: Block, j: u32, a: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    let codes = codes_at(x, j);
    let first = fma(numbers(codes, 1u), vec4<f32>(a.y), fma(numbers(codes, 0u), vec4<f32>(a.x), sum));
    return fma(numbers(codes, 3u), vec4<f32>(a.w), fma(numbers(codes, 2u), vec4<f32>(a.z), first));
}

fn total(a: vec4<f32>) -> f32 {
    return (a.x + a.z) + (a.y + a.w);
}

// `sum` and the products of a quad's block with a token's activations.
fn product(x: Block, s: Scale, block: u32, token: u32, sum: vec4<f32>) -> vec4<f32> {
    let at = (token * BLOCKS + block) * 32u;
    let a0 = four_at(at);
    let a1 = four_at(at + 4u);
    let a2 = four_at(at + 8u);
    let a3 = four_at(at + 12u);
    let a4 = four_at(at + 16u);
    let a5 = four_at(at + 20u);
    let a6 = four_at(at + 24u);
    let a7 = four_at(at + 28u);
    let all = total((a0 + a2) + (a1 + a3));
    let all_last = total((a4 + a6) + (a5 + a7));
    var dot = four_products(x, 0u, a0, vec4<f32>());
    dot = four_products(x, 1u, a1, dot);
    dot = four_products(x, 2u, a2, dot);
    dot = four_products(x, 3u, a3, dot);
    var dot_last = four_products(x, 4u, a4, vec4<f32>());
    dot_last = four_products(x, 5u, a5, dot_last);
    dot_last = four_products(x, 6u, a6, dot_last);
    dot_last = four_products(x, 7u, a7, dot_last);
    if HALVES {
        let half = fma(s.b, vec4<f32>(all), fma(s.s, dot, sum));
        return fma(s.b_last, vec4<f32>(all_last), fma(s.s_last, dot_last, half));
    }
    return fma(s.b, vec4<f32>(all + all_last), fma(s.s, dot + dot_last, sum));
}
