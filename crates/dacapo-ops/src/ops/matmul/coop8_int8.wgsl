// Products with many tokens on cooperative matrices, 8 by 8, of f16 with sums in f32: those of Apple's GPUs. A workgroup of
// four subgroups of 32 takes 16 FM tokens and 64 rows; a subgroup FM by four matrices. One block along k is in workgroup
// memory at a time, and the next on its way into registers.
//
// Matrices lie in workgroup memory one after the other as they are loaded, line by line, in single f16: in Metal's language
// they are loaded by pointers to their elements.

// Matrices of a subgroup along the tokens: 2 or 4.
override FM: u32 = 4u;
override TILE_TOKENS: u32 = 16u * FM;
override TOKENS_LEN: u32 = TILE_TOKENS * 32u;

const THREADS: u32 = 128u;
const TILE_ROWS: u32 = 64u;

// Four times along k the matrices of all tokens, and of all rows; these with k from line to line.
var<workgroup> tokens: array<f16, TOKENS_LEN>;
var<workgroup> rows: array<f16, 2048>;
// Eight tokens of each subgroup by 32 rows, on their way to the result.
var<workgroup> leaving: array<f32, 1024>;

// Two invocations for each token, the item's number being 2 token + half.
fn stage_few(few: Few, item: u32) {
    let token = item / 2u;
    let halves = few_halves(few, exponents[token]);
    let at = item % 2u * 2u * TILE_TOKENS * 8u + token * 8u;
    stage_eight(at, halves.a, halves.b);
    stage_eight(at + TILE_TOKENS * 8u, halves.c, halves.d);
}

fn stage_eight(at: u32, low: vec4<f16>, high: vec4<f16>) {
    for (var i = 0u; i < 4u; i++) {
        tokens[at + i] = low[i];
        tokens[at + 4u + i] = high[i];
    }
}

fn next_few(first: u32, item: u32, block: u32) -> Few {
    return load_few(token_of(first, item / 2u), block, item % 2u);
}

// Eight invocations for each quad, one for each sub-step. The four quads of a panel lie side by side.
fn stage_some(some: Some, item: u32) {
    let j = item / 4u % 8u;
    let row = item / 32u * 16u + item % 4u * 4u;
    let halves = some_halves(some, j);
    let at = j / 2u * 8u * TILE_ROWS + row / 8u * 64u + j % 2u * 32u + row % 8u;
    for (var i = 0u; i < 4u; i++) {
        rows[at + i * 8u] = halves.a[i];
        rows[at + i * 8u + 1u] = halves.b[i];
        rows[at + i * 8u + 2u] = halves.c[i];
        rows[at + i * 8u + 3u] = halves.d[i];
    }
}

fn next_some(first_row: u32, item: u32, block: u32) -> Some {
    return load_some(first_row / 16u + item / 32u, item % 4u, block, item / 4u % 8u);
}

// Writes the tokens that a subgroup has left, of which `first` is the first and `within` its place in the tile.
fn put_left(left: u32, lane: u32, first: u32, within: u32, row: u32) {
    subgroupBarrier();
    if row + lane < p.n {
        for (var i = 0u; i < 8u && first + within + i < p.tokens; i++) {
            let factor = bitcast<f32>(exponents[within + i] << 23u);
            put(first + within + i, row + lane, leaving[left + i * 32u + lane] * factor);
        }
    }
    subgroupBarrier();
}

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = id.x * TILE_TOKENS;
    let first_row = id.y * TILE_ROWS;
    let index = subgroup * 32u + lane;
    let own_tokens = subgroup / 2u * 8u * FM;
    let own_rows = subgroup % 2u * 32u;
    let left = subgroup * 256u;
    // Sums begin at a matrix of zeros.
    leaving[left + lane] = 0.0;
    leaving[left + 32u + lane] = 0.0;
    find_exponents(first, index);

    let nothing = coopLoadT<coop_mat8x8<f32, C>>(&leaving[left], 8u);
    var c00 = nothing;
    var c01 = nothing;
    var c02 = nothing;
    var c03 = nothing;
    var c10 = nothing;
    var c11 = nothing;
    var c12 = nothing;
    var c13 = nothing;
    var c20 = nothing;
    var c21 = nothing;
    var c22 = nothing;
    var c23 = nothing;
    var c30 = nothing;
    var c31 = nothing;
    var c32 = nothing;
    var c33 = nothing;

    // What the next step needs is asked for before this one is worked on.
    var few = next_few(first, index, 0u);
    var some = next_some(first_row, index, 0u);
    for (var block = 0u; block < BLOCKS; block++) {
        if index < 2u * TILE_TOKENS { stage_few(few, index); }
        stage_some(some, index);
        workgroupBarrier();
        let next = min(block + 1u, BLOCKS - 1u);
        few = next_few(first, index, next);
        some = next_some(first_row, index, next);
        for (var part = 0u; part < 4u; part++) {
            let from_token = (part * TILE_TOKENS + own_tokens) * 8u;
            let from_row = (part * TILE_ROWS + own_rows) * 8u;
            let b0 = coopLoadT<coop_mat8x8<f16, B>>(&rows[from_row], 8u);
            let b1 = coopLoadT<coop_mat8x8<f16, B>>(&rows[from_row + 64u], 8u);
            let b2 = coopLoadT<coop_mat8x8<f16, B>>(&rows[from_row + 128u], 8u);
            let b3 = coopLoadT<coop_mat8x8<f16, B>>(&rows[from_row + 192u], 8u);
            let a0 = coopLoadT<coop_mat8x8<f16, A>>(&tokens[from_token], 8u);
            let a1 = coopLoadT<coop_mat8x8<f16, A>>(&tokens[from_token + 64u], 8u);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c02 = coopMultiplyAdd(a0, b2, c02);
            c03 = coopMultiplyAdd(a0, b3, c03);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            c12 = coopMultiplyAdd(a1, b2, c12);
            c13 = coopMultiplyAdd(a1, b3, c13);
            if FM > 2u {
                let a2 = coopLoadT<coop_mat8x8<f16, A>>(&tokens[from_token + 128u], 8u);
                let a3 = coopLoadT<coop_mat8x8<f16, A>>(&tokens[from_token + 192u], 8u);
                c20 = coopMultiplyAdd(a2, b0, c20);
                c21 = coopMultiplyAdd(a2, b1, c21);
                c22 = coopMultiplyAdd(a2, b2, c22);
                c23 = coopMultiplyAdd(a2, b3, c23);
                c30 = coopMultiplyAdd(a3, b0, c30);
                c31 = coopMultiplyAdd(a3, b1, c31);
                c32 = coopMultiplyAdd(a3, b2, c32);
                c33 = coopMultiplyAdd(a3, b3, c33);
            }
        }
        workgroupBarrier();
    }

    let line = 32u;
    let left_8 = left + 8u;
    let left_16 = left + 16u;
    let left_24 = left + 24u;
    let row = first_row + own_rows;
    coopStoreT(c00, &leaving[left], line);
    coopStoreT(c01, &leaving[left_8], line);
    coopStoreT(c02, &leaving[left_16], line);
    coopStoreT(c03, &leaving[left_24], line);
    put_left(left, lane, first, own_tokens + 0u, row);
    coopStoreT(c10, &leaving[left], line);
    coopStoreT(c11, &leaving[left_8], line);
    coopStoreT(c12, &leaving[left_16], line);
    coopStoreT(c13, &leaving[left_24], line);
    put_left(left, lane, first, own_tokens + 8u, row);
    if FM > 2u {
        coopStoreT(c20, &leaving[left], line);
        coopStoreT(c21, &leaving[left_8], line);
        coopStoreT(c22, &leaving[left_16], line);
        coopStoreT(c23, &leaving[left_24], line);
        put_left(left, lane, first, own_tokens + 16u, row);
        coopStoreT(c30, &leaving[left], line);
        coopStoreT(c31, &leaving[left_8], line);
        coopStoreT(c32, &leaving[left_16], line);
        coopStoreT(c33, &leaving[left_24], line);
        put_left(left, lane, first, own_tokens + 24u, row);
    }
}
