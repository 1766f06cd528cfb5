// Products with many tokens on cooperative matrices, 16 by 16, of f16 with sums in f32. A workgroup of eight subgroups
// of 32 takes 32 FM tokens and 64 FN rows; a subgroup FM by FN matrices. Two blocks along k are in workgroup memory at a
// time, and the next two on their way into registers.
//
// Activations, their scale included, and weights are rounded to f16, which is finer than int8 by far. So that no
// activation leaves the range of f16, those of a token are first multiplied by a power of two that makes its largest
// scale at least 1 and less than 2; its results are divided by it.

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
// What a token's activations are multiplied by, as the exponent of its largest scale.
var<workgroup> exponents: array<u32, 256>;

// The bytes of a word as 1 + byte / 256, made of bits.
fn spread(word: u32) -> vec4<f32> {
    let bits = vec4<u32>(word << 15u, word << 7u, word >> 1u, word >> 9u) & vec4<u32>(0x7f8000u);
    return bitcast<vec4<f32>>(bits | vec4<u32>(0x3f800000u));
}

// Activations of half a block and their scale.
struct Few {
    codes: vec4<u32>,
    scale: f32,
}

// Lines of a quad with four codes of each of its rows, and their scales.
struct Some {
    low: vec4<u32>,
    high: vec4<u32>,
    s: vec4<f32>,
    b: vec4<f32>,
}

fn token_of(first: u32, i: u32) -> u32 {
    return min(first + i, p.tokens - 1u);
}

// Four invocations for each token, the item's number being 4 token + part: half a block each.
fn load_few(first: u32, item: u32, block: u32) -> Few {
    let own = block + item % 4u / 2u;
    let at = token_of(first, item / 4u) * BLOCKS + min(own, BLOCKS - 1u);
    var few: Few;
    few.codes = codes.v[codes_start() + 2u * at + item % 2u];
    few.scale = infos.v[infos_start() + at].x;
    // Past the last block nothing is added.
    if own >= BLOCKS { few.scale = 0.0; }
    return few;
}

fn store_few(few: Few, item: u32) {
    let token = item / 4u;
    let s = few.scale * bitcast<f32>((254u - exponents[token]) << 23u);
    let scale = vec4<f32>(256.0 * s);
    let zero = vec4<f32>(-384.0 * s);
    let at = token * STRIDE + item % 4u * 4u;
    // With the sign's bit turned, a code is a byte less 128.
    let bytes = few.codes ^ vec4<u32>(0x80808080u);
    tokens[at] = vec4<f16>(fma(spread(bytes.x), scale, zero));
    tokens[at + 1u] = vec4<f16>(fma(spread(bytes.y), scale, zero));
    tokens[at + 2u] = vec4<f16>(fma(spread(bytes.z), scale, zero));
    tokens[at + 3u] = vec4<f16>(fma(spread(bytes.w), scale, zero));
}

// Sixteen invocations for each quad, one for each sub-step of two blocks. The four quads of a panel lie side by side.
fn load_some(first_row: u32, item: u32, block: u32) -> Some {
    let quad = item % 4u;
    let j = item / 4u % 8u;
    let own = min(block + item / 32u % 2u, BLOCKS - 1u);
    let panel = weight_start() + min(first_row / 16u + item / 64u, (p.n - 1u) / 16u) * PANEL_VECS;
    let at = panel + own * (4u * BITS) + quad;
    var some: Some;
    some.low = weight.v[at + 4u * low_line(j)];
    some.high = weight.v[at + 4u * high_line(j)];
    let scale = load_scale(panel, quad, own);
    some.s = scale.s;
    some.b = scale.b;
    if HALVES && j >= 4u {
        some.s = scale.s_last;
        some.b = scale.b_last;
    }
    return some;
}

fn store_some(some: Some, item: u32) {
    let j = item / 4u % 8u;
    let row = item / 64u * 16u + item % 4u * 4u;
    let at = row * STRIDE + item / 4u % 16u;
    let composed = compose(some.low, some.high, j);
    let bytes = select(composed, composed ^ vec4<u32>(0x80808080u), BITS == 8u);
    let scale = 256.0 * some.s;
    let zero = some.b - (256.0 + MOVED) * some.s;
    rows[at] = vec4<f16>(fma(spread(bytes.x), vec4<f32>(scale.x), vec4<f32>(zero.x)));
    rows[at + STRIDE] = vec4<f16>(fma(spread(bytes.y), vec4<f32>(scale.y), vec4<f32>(zero.y)));
    rows[at + 2u * STRIDE] = vec4<f16>(fma(spread(bytes.z), vec4<f32>(scale.z), vec4<f32>(zero.z)));
    rows[at + 3u * STRIDE] = vec4<f16>(fma(spread(bytes.w), vec4<f32>(scale.w), vec4<f32>(zero.w)));
}

fn scale_at(start: u32, block: u32) -> f32 {
    return infos.v[start + min(block, BLOCKS - 1u)].x;
}

// Finds each token's largest scale.
fn find_exponents(first: u32, index: u32) {
    // Two invocations for each token; with a smaller tile some look at tokens that are not its own.
    let token = token_of(first, index / 2u);
    let start = infos_start() + token * BLOCKS;
    var most = 0.0;
    // Eight loads in flight together; past the last block the last once more.
    for (var block = index % 2u; block < BLOCKS; block += 16u) {
        let a = max(scale_at(start, block), scale_at(start, block + 2u));
        let b = max(scale_at(start, block + 4u), scale_at(start, block + 6u));
        let c = max(scale_at(start, block + 8u), scale_at(start, block + 10u));
        let d = max(scale_at(start, block + 12u), scale_at(start, block + 14u));
        most = max(most, max(max(a, b), max(c, d)));
    }
    exponents[index] = clamp(bitcast<u32>(most) >> 23u, 1u, 253u);
    workgroupBarrier();
    let both = max(exponents[index / 2u * 2u], exponents[index / 2u * 2u + 1u]);
    workgroupBarrier();
    if index % 2u == 0u { exponents[index / 2u] = both; }
    workgroupBarrier();
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
    var few = load_few(first, index, 0u);
    var few_more = few;
    if FM > 2u { few_more = load_few(first, index + THREADS, 0u); }
    var some = load_some(first_row, index, 0u);
    var some_more = some;
    if FN > 1u { some_more = load_some(first_row, index + THREADS, 0u); }
    for (var block = 0u; block < BLOCKS; block += 2u) {
        store_few(few, index);
        if FM > 2u { store_few(few_more, index + THREADS); }
        store_some(some, index);
        if FN > 1u { store_some(some_more, index + THREADS); }
        workgroupBarrier();
        let next = min(block + 2u, BLOCKS - 1u);
        few = load_few(first, index, next);
        if FM > 2u { few_more = load_few(first, index + THREADS, next); }
        some = load_some(first_row, index, next);
        if FN > 1u { some_more = load_some(first_row, index + THREADS, next); }
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
