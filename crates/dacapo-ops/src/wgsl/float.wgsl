// Arithmetic that has to come out the same on every device, and conversions between floating-point types.
//
// Devices may divide with an error of 2.5 units in the last place, may fuse a product with the sum behind it, may flush
// denormals and need not know NaN. What has to be exact is therefore done on bits.

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

// a * b, rounded before anything else happens to it: the bound between product and sum keeps compilers from fusing them.
fn times(a: f32, b: f32) -> f32 {
    return clamp(a * b, -3.4028235e38, 3.4028235e38);
}

// a / b, correctly rounded, for positive normal numbers with a normal quotient. The device's own division only gives a
// first guess at the quotient of the mantissas.
fn divide(a: f32, b: f32) -> f32 {
    let bits_a = bitcast<u32>(a);
    let bits_b = bitcast<u32>(b);
    let ma = (bits_a & 0x7fffffu) | 0x800000u;
    let mb = (bits_b & 0x7fffffu) | 0x800000u;
    // The quotient is q * 2^-shift with q from 2^23 to 2^24.
    let shift = select(24u, 23u, ma >= mb);
    var q = i32(f32(ma) / f32(mb) * f32(1u << shift));
    // What is left of ma * 2^shift - q * mb. Its value is small, so that 32 bits hold it.
    var rest = i32((ma << shift) - u32(q) * mb);
    let step = i32(mb);
    let off = rest / step - select(0, 1, rest < 0);
    q += off;
    rest -= off * step;
    if rest == step {
        q += 1;
        rest = 0;
    }
    if 2 * rest > step {
        q += 1;
    }
    let exponent = i32(bits_a >> 23u) - i32(bits_b >> 23u) + 127 + 23 - i32(shift);
    return bitcast<f32>(u32((exponent << 23u) + q - 0x800000));
}

// The bits of the f16 nearest to x, ties to even.
fn f16_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude > 0x7f800000u {
        // NaN, with what fits of its payload.
        return sign | 0x7e00u | ((magnitude >> 13u) & 0x3ffu);
    }
    if magnitude >= 0x477ff000u {
        return sign | 0x7c00u;
    }
    if magnitude >= 0x38800000u {
        let even = (magnitude >> 13u) & 1u;
        return sign | ((magnitude - 0x38000000u + 0xfffu + even) >> 13u);
    }
    if magnitude < 0x33000000u {
        return sign;
    }
    // A denormal: a whole number of 2^-24.
    let mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    let shift = 126u - (magnitude >> 23u);
    let whole = mantissa >> shift;
    let rest = mantissa & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    let up = rest > half || (rest == half && (whole & 1u) == 1u);
    return sign | (whole + select(0u, 1u, up));
}

// The bits of the bf16 nearest to x, ties to even.
fn bf16_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return (bits >> 16u) | 0x40u;
    }
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

// The f16 in the lower half of `bits`.
fn f16_value(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let magnitude = bits & 0x7fffu;
    if magnitude >= 0x7c00u {
        // NaN is quiet, as a conversion makes it.
        let quiet = select(0u, 0x400000u, magnitude > 0x7c00u);
        return bitcast<f32>(sign | 0x7f800000u | quiet | ((magnitude & 0x3ffu) << 13u));
    }
    if magnitude >= 0x400u {
        return bitcast<f32>(sign | ((magnitude << 13u) + 0x38000000u));
    }
    return bitcast<f32>(sign | bitcast<u32>(f32(magnitude) * 5.9604645e-8));
}

// The bf16 in the lower half of `bits`.
fn bf16_value(bits: u32) -> f32 {
    return bitcast<f32>(bits << 16u);
}
