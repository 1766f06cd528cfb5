// Four codes of each row times four activations.
fn dots(codes: vec4<u32>, activations: u32) -> vec4<i32> {
    return vec4<i32>(
        dot4I8Packed(codes.x, activations),
        dot4I8Packed(codes.y, activations),
        dot4I8Packed(codes.z, activations),
        dot4I8Packed(codes.w, activations),
    );
}

// `sum` and the products of a quad's block with a token's activations.
fn product(x: Block, s: Scale, block: u32, token: u32, sum: vec4<f32>) -> vec4<f32> {
    let at = token * BLOCKS + block;
    let first = codes_vec(2u * at);
    let last = codes_vec(2u * at + 1u);
    // Scale, sum of all codes times it, of the first 16, of the last 16.
    let info = info_of(at);
    var dot = dots(codes_at(x, 0u), first.x);
    dot += dots(codes_at(x, 1u), first.y);
    dot += dots(codes_at(x, 2u), first.z);
    dot += dots(codes_at(x, 3u), first.w);
    var dot_last = dots(codes_at(x, 4u), last.x);
    dot_last += dots(codes_at(x, 5u), last.y);
    dot_last += dots(codes_at(x, 6u), last.z);
    dot_last += dots(codes_at(x, 7u), last.w);
    if HALVES {
        let half = fma(s.b, vec4<f32>(info.z), fma(vec4<f32>(dot), s.s * info.x, sum));
        return fma(s.b_last, vec4<f32>(info.w), fma(vec4<f32>(dot_last), s.s_last * info.x, half));
    }
    return fma(s.b, vec4<f32>(info.y), fma(vec4<f32>(dot + dot_last), s.s * info.x, sum));
}
