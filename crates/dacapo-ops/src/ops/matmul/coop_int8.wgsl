// Products with many tokens on cooperative matrices, 16 by 16, of f16 with sums in f32. A workgroup of eight subgroups
// of 32 takes 32 FM tokens and 64 FN rows; a subgroup FM by FN matrices. Two blocks along k are in workgroup memory at a
// time, and the next two on their way into registers.

// Matrices of a subgroup along the tokens: 2 or 4; and along the rows: 1 or 2.
override FM: u32 = 4u;
override FN: u32 = 2u;
override TILE_TOKENS: u32 = 32u * FM;
override TILE_ROWS: u32 = 64u * FN;
override TOKENS_LEN: u32 = TILE_TOKENS * STRIDE;
override ROWS_LEN: u32 = TILE_ROWS * STRIDE;

const THREADS: u32 = 256u;
// From one token's or row's 64 values to the next, in vec4: not a multiple of 128 bytes, so that banks are not shared.
const STRIDE: u32 = 18u;

var<workgroup> tokens: array<vec4<f16>, TOKENS_LEN>;
var<workgroup> rows: array<vec4<f16>, ROWS_LEN>;
// One matrix of each subgroup, on its way to the result.
var<workgroup> leaving: array<f32, 2048>;
// Four invocations for each token, the item's number being 4 token + part: half a block each.
fn stage_few(few: Few, item: u32) {
    let token = item / 4u;
    let at = token * STRIDE + item % 4u * 4u;
    let halves = few_halves(few, exponents[token]);
    tokens[at] = halves.a;
    tokens[at + 1u] = halves.b;
    tokens[at + 2u] = halves.c;
    tokens[at + 3u] = halves.d;
}

fn next_few(first: u32, item: u32, block: u32) -> Few {
    return load_few(token_of(first, item / 4u), block + item % 4u / 2u, item % 2u);
}

// Sixteen invocations for each quad, one for each sub-step of two blocks. The four quads of a panel lie side by side.
fn stage_some(some: Some, item: u32) {
    let row = item / 64u * 16u + item % 4u * 4u;
    let at = row * STRIDE + item / 4u % 16u;
    let halves = some_halves(some, item / 4u % 8u);
    rows[at] = halves.a;
    rows[at + STRIDE] = halves.b;
    rows[at + 2u * STRIDE] = halves.c;
    rows[at + 3u * STRIDE] = halves.d;
}

fn next_some(first_row: u32, item: u32, block: u32) -> Some {
    let own = min(block + item / 32u % 2u, BLOCKS - 1u);
    return load_some(first_row / 16u + item / 64u, item % 4u, own, item / 4u % 8u);
}

// Writes the matrices that the subgroups have left: of each the tokens from `token` on, the rows from `row` on.
fn put_left(subgroup: u32, lane: u32, first: u32, within: u32, row: u32) {
    for (var i = lane; i < 256u; i += 32u) {
        let token = within + i / 16u;
        if first + token < p.tokens && row + i % 16u < p.n {
            let factor = bitcast<f32>(exponents[token] << 23u);
            put(first + token, row + i % 16u, leaving[subgroup * 256u + i] * factor);
        }
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = id.x * TILE_TOKENS;
    let first_row = id.y * TILE_ROWS;
    let index = subgroup * 32u + lane;
    let own_tokens = subgroup / 4u * 16u * FM;
    let own_rows = subgroup % 4u * 16u * FN;
    find_exponents(first, index);

    var c00 = coop_mat16x16<f32, C>();
    var c01 = coop_mat16x16<f32, C>();
    var c10 = coop_mat16x16<f32, C>();
    var c11 = coop_mat16x16<f32, C>();
    var c20 = coop_mat16x16<f32, C>();
    var c21 = coop_mat16x16<f32, C>();
    var c30 = coop_mat16x16<f32, C>();
    var c31 = coop_mat16x16<f32, C>();

    // What the next step needs is asked for before this one is worked on.
    var few = next_few(first, index, 0u);
    var few_more = few;
    if FM > 2u { few_more = next_few(first, index + THREADS, 0u); }
    var some = next_some(first_row, index, 0u);
    var some_more = some;
    if FN > 1u { some_more = next_some(first_row, index + THREADS, 0u); }
    for (var block = 0u; block < BLOCKS; block += 2u) {
        stage_few(few, index);
        if FM > 2u { stage_few(few_more, index + THREADS); }
        stage_some(some, index);
        if FN > 1u { stage_some(some_more, index + THREADS); }
        workgroupBarrier();
        let next = min(block + 2u, BLOCKS - 1u);
        few = next_few(first, index, next);
        if FM > 2u { few_more = next_few(first, index + THREADS, next); }
        some = next_some(first_row, index, next);
        if FN > 1u { some_more = next_some(first_row, index + THREADS, next); }
        for (var part = 0u; part < 4u; part++) {
            let from_token = own_tokens * STRIDE + part * 4u;
            let from_row = own_rows * STRIDE + part * 4u;
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&rows[from_row], STRIDE);
            var b1 = b0;
            if FN > 1u { b1 = coopLoad<coop_mat16x16<f16, B>>(&rows[from_row + 16u * STRIDE], STRIDE); }
            let a0 = coopLoadT<coop_mat16x16<f16, A>>(&tokens[from_token], STRIDE);
            let a1 = coopLoadT<coop_mat16x16<f16, A>>(&tokens[from_token + 16u * STRIDE], STRIDE);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c10 = coopMultiplyAdd(a1, b0, c10);
            if FN > 1u {
                c01 = coopMultiplyAdd(a0, b1, c01);
                c11 = coopMultiplyAdd(a1, b1, c11);
            }
            if FM > 2u {
                let a2 = coopLoadT<coop_mat16x16<f16, A>>(&tokens[from_token + 32u * STRIDE], STRIDE);
                let a3 = coopLoadT<coop_mat16x16<f16, A>>(&tokens[from_token + 48u * STRIDE], STRIDE);
                c20 = coopMultiplyAdd(a2, b0, c20);
                c30 = coopMultiplyAdd(a3, b0, c30);
                if FN > 1u {
                    c21 = coopMultiplyAdd(a2, b1, c21);
                    c31 = coopMultiplyAdd(a3, b1, c31);
                }
            }
        }
        workgroupBarrier();
    }

    let left = subgroup * 256u;
    let side = 16u;
    let row = first_row + own_rows;
    coopStoreT(c00, &leaving[left], side);
    workgroupBarrier();
    put_left(subgroup, lane, first, own_tokens + 0u, row + 0u);
    workgroupBarrier();
    coopStoreT(c10, &leaving[left], side);
    workgroupBarrier();
    put_left(subgroup, lane, first, own_tokens + 16u, row + 0u);
    workgroupBarrier();
    if FM > 2u {
        coopStoreT(c20, &leaving[left], side);
        workgroupBarrier();
        put_left(subgroup, lane, first, own_tokens + 32u, row + 0u);
        workgroupBarrier();
        coopStoreT(c30, &leaving[left], side);
        workgroupBarrier();
        put_left(subgroup, lane, first, own_tokens + 48u, row + 0u);
        workgroupBarrier();
    }
    if FN > 1u {
        coopStoreT(c01, &leaving[left], side);
        workgroupBarrier();
        put_left(subgroup, lane, first, own_tokens + 0u, row + 16u);
        workgroupBarrier();
        coopStoreT(c11, &leaving[left], side);
        workgroupBarrier();
        put_left(subgroup, lane, first, own_tokens + 16u, row + 16u);
        workgroupBarrier();
    }
    if FM > 2u && FN > 1u {
        coopStoreT(c21, &leaving[left], side);
        workgroupBarrier();
        put_left(subgroup, lane, first, own_tokens + 32u, row + 16u);
        workgroupBarrier();
        coopStoreT(c31, &leaving[left], side);
        workgroupBarrier();
        put_left(subgroup, lane, first, own_tokens + 48u, row + 16u);
        workgroupBarrier();
    }
}
