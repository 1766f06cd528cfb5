// What products on cooperative matrices multiply, whatever the side of these. The kernel brings `THREADS`, invocations of a
// workgroup.
//
// Activations, their scale included, and weights are rounded to f16, which is finer than int8 by far. So that no
// activation leaves the range of f16, those of a token are first multiplied by a power of two that makes its largest
// scale at least 1 and less than 2; its results are divided by it.

// What a token's activations are multiplied by, as the exponent of its largest scale.
var<workgroup> exponents: array<u32, THREADS>;

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

// Sixteen values: of a token one after the other, or four of each row of a quad.
struct Halves {
    a: vec4<f16>,
    b: vec4<f16>,
    c: vec4<f16>,
    d: vec4<f16>,
}

fn token_of(first: u32, i: u32) -> u32 {
    return min(first + i, p.tokens - 1u);
}

// A half of a token's block.
fn load_few(token: u32, block: u32, part: u32) -> Few {
    let at = token * BLOCKS + min(block, BLOCKS - 1u);
    var few: Few;
    few.codes = codes.v[codes_start() + 2u * at + part];
    few.scale = infos.v[infos_start() + at].x;
    // Past the last block nothing is added.
    if block >= BLOCKS { few.scale = 0.0; }
    return few;
}

fn few_halves(few: Few, exponent: u32) -> Halves {
    let s = few.scale * bitcast<f32>((254u - exponent) << 23u);
    let scale = vec4<f32>(256.0 * s);
    let zero = vec4<f32>(-384.0 * s);
    // With the sign's bit turned, a code is a byte less 128.
    let bytes = few.codes ^ vec4<u32>(0x80808080u);
    var halves: Halves;
    halves.a = vec4<f16>(fma(spread(bytes.x), scale, zero));
    halves.b = vec4<f16>(fma(spread(bytes.y), scale, zero));
    halves.c = vec4<f16>(fma(spread(bytes.z), scale, zero));
    halves.d = vec4<f16>(fma(spread(bytes.w), scale, zero));
    return halves;
}

// A quad's codes 4 j .. 4 j + 3 in a block. Past the last panel those of the last once more.
fn load_some(panel_index: u32, quad: u32, block: u32, j: u32) -> Some {
    let panel = weight_start() + min(panel_index, (p.n - 1u) / 16u) * PANEL_VECS;
    let at = panel + block * (4u * BITS) + quad;
    var some: Some;
    some.low = weight.v[at + 4u * low_line(j)];
    some.high = weight.v[at + 4u * high_line(j)];
    let scale = load_scale(panel, quad, block);
    some.s = scale.s;
    some.b = scale.b;
    if HALVES && j >= 4u {
        some.s = scale.s_last;
        some.b = scale.b_last;
    }
    return some;
}

fn some_halves(some: Some, j: u32) -> Halves {
    let composed = compose(some.low, some.high, j);
    let bytes = select(composed, composed ^ vec4<u32>(0x80808080u), BITS == 8u);
    let scale = 256.0 * some.s;
    let zero = some.b - (256.0 + MOVED) * some.s;
    var halves: Halves;
    halves.a = vec4<f16>(fma(spread(bytes.x), vec4<f32>(scale.x), vec4<f32>(zero.x)));
    halves.b = vec4<f16>(fma(spread(bytes.y), vec4<f32>(scale.y), vec4<f32>(zero.y)));
    halves.c = vec4<f16>(fma(spread(bytes.z), vec4<f32>(scale.z), vec4<f32>(zero.z)));
    halves.d = vec4<f16>(fma(spread(bytes.w), vec4<f32>(scale.w), vec4<f32>(zero.w)));
    return halves;
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
