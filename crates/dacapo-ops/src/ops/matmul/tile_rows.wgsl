// A block of quantized weights as numbers.
fn stage_rows(index: u32, first_row: u32, k: u32) {
    if index >= 8u * QUADS { return; }
    let quad = index % QUADS;
    let j = index / QUADS;
    let panel = panel_of(first_row, quad, PANEL_VECS);
    let codes = load_codes(panel, quad % 4u, k / 32u, j);
    let scale = load_scale(panel, quad % 4u, k / 32u);
    var s = scale.s;
    var b = scale.b;
    if HALVES && j >= 4u {
        s = scale.s_last;
        b = scale.b_last;
    }
    for (var byte = 0u; byte < 4u; byte++) {
        rows[(4u * j + byte) * QUADS + quad] = fma(numbers(codes, byte), s, b);
    }
}
