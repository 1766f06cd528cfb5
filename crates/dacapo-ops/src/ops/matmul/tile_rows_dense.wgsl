// Type of the weights: 0 f32, 1 f16, 2 bf16.
override FLOAT: u32 = 1u;

// Values of a quad's rows for one k.
fn dense_quad(panel: u32, quad: u32, k: u32) -> vec4<f32> {
    if FLOAT == 0u { return bitcast<vec4<f32>>(weight.v[panel + 4u * k + quad]); }
    let both = weight.v[panel + 2u * k + quad / 2u];
    let words = select(both.xy, both.zw, quad % 2u == 1u);
    if FLOAT == 1u { return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)); }
    return bitcast<vec4<f32>>(
        vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u)
    );
}

// Dense weights as numbers.
fn stage_rows(index: u32, first_row: u32, k: u32) {
    let quad = index % QUADS;
    let size = (p.k * select(2u, 4u, FLOAT == 0u) + 3u) / 4u * 4u;
    let panel = panel_of(first_row, quad, size);
    for (var i = index / QUADS; i < DEPTH; i += THREADS / QUADS) {
        var value = vec4<f32>();
        if k + i < p.k { value = dense_quad(panel, quad % 4u, k + i); }
        rows[i * QUADS + quad] = value;
    }
}
