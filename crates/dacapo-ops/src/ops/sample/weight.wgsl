// Weights of tokens in whole numbers: see `weight.rs`.

// 2 to the powers -1/2, -1/4 .. -1/256 in units of 2^-32.
fn root(bit: u32) -> u32 {
    switch bit {
        case 0u: { return 0xb504f334u; }
        case 1u: { return 0xd744fccbu; }
        case 2u: { return 0xeac0c6e8u; }
        case 3u: { return 0xf5257d15u; }
        case 4u: { return 0xfa83b2dbu; }
        case 5u: { return 0xfd3e0c0du; }
        case 6u: { return 0xfe9e115cu; }
        default: { return 0xff4ecb59u; }
    }
}

// 2^(-i/256) in units of 2^-31.
var<workgroup> powers: array<u32, 256>;

fn make_powers(at: Invocation) {
    for (var i = at.index; i < 256u; i += WORKGROUP) {
        var power = 0x80000000u;
        for (var bit = 0u; bit < 8u; bit++) {
            if ((i >> (7u - bit)) & 1u) == 1u {
                power = wide_product(power, root(bit)).y;
            }
        }
        powers[i] = power;
    }
    workgroupBarrier();
}

// log2(e) / T as mantissa and exponent, for the bits of a positive temperature that is normal or infinite.
fn rate_of(bits: u32) -> vec2<u32> {
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    // Long division of log2(e) in units of 2^-62 by the mantissa, byte by byte; then 8 bits are dropped.
    var rest = 0u;
    var quotient = vec2<u32>(0u);
    for (var byte = 0u; byte < 8u; byte++) {
        let word = select(0xae0bf85du, 0x5c551d94u, byte < 4u);
        rest = (rest << 8u) | ((word >> (24u - 8u * (byte % 4u))) & 0xffu);
        quotient = vec2<u32>((quotient.x << 8u) | (rest / mantissa), (quotient.y << 8u) | (quotient.x >> 24u));
        rest = rest % mantissa;
    }
    return vec2<u32>((quotient.x >> 8u) | (quotient.y << 24u), (bits >> 23u) & 0xffu);
}

fn wide_shift_right(a: vec2<u32>, by: u32) -> vec2<u32> {
    if by >= 32u {
        return vec2<u32>(a.y >> (by - 32u), 0u);
    }
    // In two steps, since a shift by 32 is none.
    return vec2<u32>((a.x >> by) | ((a.y << 1u) << (31u - by)), a.y >> by);
}

fn weight(difference: f32, rate: vec2<u32>) -> vec2<u32> {
    let bits = bitcast<u32>(difference) & 0x7fffffffu;
    if bits >= 0x7f800000u {
        return vec2<u32>(0u);
    }
    var halvings = vec2<u32>(0u);
    if bits >= 0x800000u {
        let shift = i32(rate.y) + 22 - i32(bits >> 23u);
        if shift <= 0 {
            return vec2<u32>(0u);
        }
        if shift < 64 {
            halvings = wide_shift_right(wide_product((bits & 0x7fffffu) | 0x800000u, rate.x), u32(shift));
        }
    }
    if halvings.y > 44u {
        return vec2<u32>(0u);
    }
    let a = wide_product(halvings.x << 8u, 0xb17217f7u).y;
    let a2 = wide_product(a, a).y;
    let a3 = wide_product(a2, a).y;
    let less = a - (a2 >> 9u) + ((a3 / 6u) >> 16u);
    let start = powers[halvings.x >> 24u];
    let power = start - (wide_product(start, less).y >> 8u);
    return wide_shift_right(vec2<u32>(power << 13u, power >> 19u), halvings.y);
}

// `fraction * whole`, rounded down; all of it from 1 on.
fn part_of(fraction: f32, whole: vec2<u32>) -> vec2<u32> {
    if fraction >= 1.0 {
        return whole;
    }
    let scaled = u32(max(fraction, 0.0) * 4294967296.0);
    return wide_sum(wide_product(whole.y, scaled), vec2<u32>(wide_product(whole.x, scaled).y, 0u));
}
