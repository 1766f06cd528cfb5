// Products with many tokens: a workgroup takes 64 rows and some tokens, an invocation four of each. The text before brings
// `begin_tile(which, first)`, which is false where there are no tokens from `first` on; then `tile_rows()`, how many tokens
// there are, and `source_of(token)`, whose activations one has.

// Invocations of a workgroup: a quarter of them tokens.
override THREADS: u32 = 256u;
// Quads of rows, and of tokens.
const QUADS: u32 = 16u;
override TOKEN_QUADS: u32 = THREADS / QUADS;
override TILE_TOKENS: u32 = 4u * TOKEN_QUADS;
const TILE_ROWS: u32 = 64u;

// Four tokens by four rows.
struct Sums {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// The token that stands for one of the tile: the last one for those past it, whose results are dropped.
fn token_of(first: u32, i: u32) -> u32 {
    return source_of(min(first + i, tile_rows() - 1u));
}

// Where the panel of one of the tile's quads begins, in units of `size`; the last one for those past it.
fn panel_of(first_row: u32, quad: u32, size: u32) -> u32 {
    return weight_start() + min(first_row / 16u + quad / 4u, (p.n - 1u) / 16u) * size;
}

fn put_quad(token: u32, row: u32, sums: vec4<f32>) {
    if token >= tile_rows() { return; }
    for (var r = 0u; r < 4u; r++) {
        if row + r < p.n { put(token, row + r, sums[r]); }
    }
}

fn put_sums(token: u32, row: u32, sums: Sums) {
    put_quad(token, row, sums.a);
    put_quad(token + 1u, row, sums.b);
    put_quad(token + 2u, row, sums.c);
    put_quad(token + 3u, row, sums.d);
}
