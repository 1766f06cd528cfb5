// Quantized panels of 16 rows, as `quant/panel.rs` lays them out. The kernel brings `weight_vec(i)`, the i-th vec4<u32> of
// the panels: one vec4 holds a line's words of four rows, a *quad*.

// Bits of a code: 2, 3, 4, 5, 6 or 8.
override BITS: u32 = 4u;
// How scales are stored: 1 affine, 2 symmetric, 3 MinPer32, 4 MinPer16, 5 SignedPer16, 6 WidePer16, 7 SymmetricPer16.
override SCALES: u32 = 1u;
// Affine: values in a group. Affine and symmetric: the type of scales: 0 f32, 1 f16, 2 bf16.
override GROUP: u32 = 64u;
override FLOAT: u32 = 1u;
// Symmetric, SignedPer16 and SymmetricPer16: the code that stands for zero; WidePer16: twice that.
override ZERO: u32 = 0u;
// Blocks of 32 values in a row.
override BLOCKS: u32 = 2u;

// Codes are multiplied as signed bytes: those of 8 bits are moved by 128 first.
override MOVED: f32 = select(0.0, 128.0, BITS == 8u);
// Whether a block has two steps of 16 values rather than one of 32.
override HALVES: bool = SCALES >= 4u;
// From one panel to the next, in vec4: codes, then scales, in whole lines of four.
override UNIT: u32 = select(select(256u, 32u, SCALES == 2u || SCALES == 7u), GROUP, SCALES == 1u);
override UNIT_VECS: u32 = select(
    select(select(select(20u, 18u, SCALES == 5u), 4u, SCALES == 7u), 2u, SCALES == 2u),
    select(4u, 8u, FLOAT == 0u),
    SCALES == 1u,
);
override CODE_VECS: u32 = BLOCKS * 4u * BITS;
override PANEL_VECS: u32 = (CODE_VECS + BLOCKS * 32u / UNIT * UNIT_VECS + 3u) / 4u * 4u;

// A quad's words in the lines of one block.
struct Block {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
    e: vec4<u32>,
    f: vec4<u32>,
    g: vec4<u32>,
    h: vec4<u32>,
}

// A quad's scales and biases in one block: of all its values, or of its halves.
struct Scale {
    s: vec4<f32>,
    b: vec4<f32>,
    s_last: vec4<f32>,
    b_last: vec4<f32>,
}

fn load_block(panel: u32, quad: u32, block: u32) -> Block {
    let at = panel + block * (4u * BITS) + quad;
    var x: Block;
    x.a = weight_vec(at);
    x.b = weight_vec(at + 4u);
    if BITS >= 3u { x.c = weight_vec(at + 8u); }
    if BITS >= 4u { x.d = weight_vec(at + 12u); }
    if BITS >= 5u { x.e = weight_vec(at + 16u); }
    if BITS >= 6u { x.f = weight_vec(at + 20u); }
    if BITS >= 8u {
        x.g = weight_vec(at + 24u);
        x.h = weight_vec(at + 28u);
    }
    return x;
}

fn line(x: Block, i: u32) -> vec4<u32> {
    switch i {
        case 0u: { return x.a; }
        case 1u: { return x.b; }
        case 2u: { return x.c; }
        case 3u: { return x.d; }
        case 4u: { return x.e; }
        case 5u: { return x.f; }
        case 6u: { return x.g; }
        default: { return x.h; }
    }
}

// Bits of every byte of `words` from `start` on, cut to `mask` and moved to `goal`.
fn place(words: vec4<u32>, start: u32, goal: u32, mask: u32) -> vec4<u32> {
    return ((words >> vec4<u32>(start)) & vec4<u32>(mask * 0x01010101u)) << vec4<u32>(goal);
}

// The lines with the low and the high bits of codes 4 j .. 4 j + 3.
fn low_line(j: u32) -> u32 {
    if BITS <= 3u { return j / 4u; }
    if BITS == 8u { return j; }
    return j / 2u;
}

fn high_line(j: u32) -> u32 {
    if BITS == 3u { return 2u; }
    if BITS == 5u { return 4u; }
    if BITS == 6u { return 4u + j / 4u; }
    return low_line(j);
}

// Codes 4 j .. 4 j + 3 of each row from their lines, one to a byte; those of 8 bits as signed numbers, less 128.
fn compose(low: vec4<u32>, high: vec4<u32>, j: u32) -> vec4<u32> {
    if BITS == 2u { return place(low, 2u * (j % 4u), 0u, 3u); }
    if BITS == 3u { return place(low, 2u * (j % 4u), 0u, 3u) | place(high, j, 2u, 1u); }
    if BITS == 4u { return place(low, 4u * (j % 2u), 0u, 15u); }
    if BITS == 5u { return place(low, 4u * (j % 2u), 0u, 15u) | place(high, j, 4u, 1u); }
    if BITS == 6u { return place(low, 4u * (j % 2u), 0u, 15u) | place(high, 2u * (j % 4u), 4u, 3u); }
    return low ^ vec4<u32>(0x80808080u);
}

// Codes 4 j .. 4 j + 3 of each row of the quad in a block, as `compose` gives them.
fn codes_at(x: Block, j: u32) -> vec4<u32> {
    return compose(line(x, low_line(j)), line(x, high_line(j)), j);
}

// The same from memory.
fn load_codes(panel: u32, quad: u32, block: u32, j: u32) -> vec4<u32> {
    let at = panel + block * (4u * BITS) + quad;
    return compose(weight_vec(at + 4u * low_line(j)), weight_vec(at + 4u * high_line(j)), j);
}

// One byte of each row's codes, as numbers: by the bits of 2^23 + code, from which 2^23 is taken. Compilers may put that
// and the code that stands for zero together, which is exact unless the latter has a half: there codes are converted.
fn numbers(codes: vec4<u32>, byte: u32) -> vec4<f32> {
    let moved = select(codes, codes ^ vec4<u32>(0x80808080u), BITS == 8u);
    let bytes = (moved >> vec4<u32>(8u * byte)) & vec4<u32>(255u);
    if SCALES == 6u { return vec4<f32>(bytes) - MOVED; }
    return bitcast<vec4<f32>>(bytes | vec4<u32>(0x4b000000u)) - vec4<f32>(8388608.0 + MOVED);
}

fn half_of(v: vec4<u32>, second: bool) -> vec2<u32> {
    return select(v.xy, v.zw, second);
}

// Four 16-bit floats.
fn four_halves(v: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn four_bfloats(v: vec2<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(v.x << 16u, v.x & 0xffff0000u, v.y << 16u, v.y & 0xffff0000u));
}

// The four bytes of a word.
fn four_bytes(v: u32) -> vec4<f32> {
    return vec4<f32>((vec4<u32>(v) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u));
}

fn four_signed_bytes(v: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(v) << vec4<u32>(24u, 16u, 8u, 0u)) >> vec4<u32>(24u));
}

// Sixteen f16 values, one for each row: those of the quad.
fn quad_halves(at: u32, quad: u32) -> vec4<f32> {
    return four_halves(half_of(weight_vec(at + quad / 2u), quad % 2u == 1u));
}

// Sixteen bytes, one for each row: those of the quad.
fn quad_bytes(at: u32, quad: u32) -> u32 {
    return weight_vec(at)[quad];
}

fn load_affine(unit: u32, quad: u32) -> Scale {
    var x: Scale;
    if FLOAT == 0u {
        x.s = bitcast<vec4<f32>>(weight_vec(unit + quad));
        x.b = bitcast<vec4<f32>>(weight_vec(unit + 4u + quad));
    } else {
        let s = half_of(weight_vec(unit + quad / 2u), quad % 2u == 1u);
        let b = half_of(weight_vec(unit + 2u + quad / 2u), quad % 2u == 1u);
        if FLOAT == 1u {
            x.s = four_halves(s);
            x.b = four_halves(b);
        } else {
            x.s = four_bfloats(s);
            x.b = four_bfloats(b);
        }
    }
    return x;
}

// Scales and biases of a block: a value is `s * code + b`, with the code as `codes_at` gives it.
fn load_scale(panel: u32, quad: u32, block: u32) -> Scale {
    let unit = panel + CODE_VECS + block * 32u / UNIT * UNIT_VECS;
    let step = block % 8u;
    var x: Scale;
    if SCALES == 1u {
        x = load_affine(unit, quad);
    } else if SCALES == 2u {
        if FLOAT == 2u {
            x.s = four_bfloats(half_of(weight_vec(unit + quad / 2u), quad % 2u == 1u));
        } else {
            x.s = quad_halves(unit, quad);
        }
        x.b = x.s * -f32(ZERO);
    } else if SCALES == 6u {
        let d = bitcast<vec4<f32>>(weight_vec(unit + quad));
        x.s = d * four_signed_bytes(quad_bytes(unit + 4u + 2u * step, quad));
        x.b = x.s * (-0.5 * f32(ZERO));
        x.s_last = d * four_signed_bytes(quad_bytes(unit + 5u + 2u * step, quad));
        x.b_last = x.s_last * (-0.5 * f32(ZERO));
    } else if SCALES == 7u {
        x.s = quad_halves(unit, quad);
        x.b = x.s * -f32(ZERO);
        x.s_last = quad_halves(unit + 2u, quad);
        x.b_last = x.s_last * -f32(ZERO);
    } else if SCALES == 3u {
        x.s = quad_halves(unit, quad) * four_bytes(quad_bytes(unit + 4u + step, quad));
        x.b = -quad_halves(unit + 2u, quad) * four_bytes(quad_bytes(unit + 12u + step, quad));
    } else if SCALES == 4u {
        let d = quad_halves(unit, quad);
        let dmin = -quad_halves(unit + 2u, quad);
        let first = quad_bytes(unit + 4u + 2u * step, quad);
        let last = quad_bytes(unit + 5u + 2u * step, quad);
        x.s = d * four_bytes(first & 0x0f0f0f0fu);
        x.b = dmin * four_bytes((first >> 4u) & 0x0f0f0f0fu);
        x.s_last = d * four_bytes(last & 0x0f0f0f0fu);
        x.b_last = dmin * four_bytes((last >> 4u) & 0x0f0f0f0fu);
    } else {
        let d = quad_halves(unit, quad);
        x.s = d * four_signed_bytes(quad_bytes(unit + 2u + 2u * step, quad));
        x.b = x.s * -f32(ZERO);
        x.s_last = d * four_signed_bytes(quad_bytes(unit + 3u + 2u * step, quad));
        x.b_last = x.s_last * -f32(ZERO);
    }
    x.b = x.b + MOVED * x.s;
    x.b_last = x.b_last + MOVED * x.s_last;
    return x;
}
