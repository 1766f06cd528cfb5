// Cosine and sine of large angles. The built-in ones have an absolute error of 2^-11, and only between -pi and pi.

// The part of a turn that is beyond whole turns, in units of 2^-32 of a turn, for an angle in radians from pi/4 on
// (Payne and Hanek, 1983): mantissa times 1/(2 pi) to 96 bits, of which the bits around the binary point are taken.
fn turn(angle: f32) -> u32 {
    let bits = bitcast<u32>(angle);
    let mantissa = (bits & 0x7fffffu) | 0x800000u;
    let exponent = i32((bits >> 23u) & 0xffu) - 150;
    let p0 = wide_product(mantissa, 0x28be60dbu);
    let p1 = wide_product(mantissa, 0x9391054au);
    let p2 = wide_product(mantissa, 0x7f09d5f4u);
    let part1 = p1.x + p2.y;
    let upper = wide_sum(p0, vec2<u32>(p1.y, 0u));
    let sum = wide_sum(upper, vec2<u32>(select(0u, 1u, part1 < p1.x), 0u));
    if exponent < 0 {
        let shift = u32(-exponent) & 31u;
        return (sum.x >> shift) | (sum.y << (32u - shift));
    }
    let shift = u32(min(exponent, 31));
    // In two steps, since a shift by 32 is none.
    return (sum.x << shift) | ((part1 >> 1u) >> (31u - shift));
}

// Cosine and sine of an angle in radians.
fn cosine_and_sine(angle: f32) -> vec2<f32> {
    var r = abs(angle);
    var quadrant = 0u;
    if r >= 0.7853981 {
        let part = turn(r);
        quadrant = (part + 0x20000000u) >> 30u;
        r = f32(i32(part - (quadrant << 30u))) * 1.4629181e-9;
    }
    let z = r * r;
    let s = fma(r * z, fma(z, fma(z, -1.9515296e-4, 8.332161e-3), -0.16666655), r);
    let c = fma(z * z, fma(z, fma(z, 2.4433157e-5, -1.3887316e-3), 4.1666646e-2), fma(z, -0.5, 1.0));
    var both = select(vec2<f32>(c, s), vec2<f32>(-s, c), (quadrant & 1u) == 1u);
    both = select(both, -both, (quadrant & 2u) == 2u);
    return vec2<f32>(both.x, select(both.y, -both.y, angle < 0.0));
}
