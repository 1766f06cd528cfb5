// A block of quantized weights as numbers.
fn stage_rows(index: u32, first_row: u32, k: u32) {
    for (var i = index; i < 8u * QUADS; i += THREADS) { stage_four(i % QUADS, i / QUADS, first_row, k); }
}

// Values 4 j .. 4 j + 3 of a quad's rows.
fn stage_four(quad: u32, j: u32, first_row: u32, k: u32) {
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
