// Exponential, hyperbolic tangent, logistic, softplus and error function: the formulas of `lanes/math.rs`. The built-in ones may
// be off by many units in the last place.

// `value`, but x if it is NaN: compilers may drop NaN where it is compared, but not where its bits are.
fn kept_if_nan(x: f32, value: f32) -> f32 {
    return select(value, x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}

// exp(r) - 1 for the remainder r of x, and 2^n.
fn exp_parts(x: f32) -> vec2<f32> {
    let n = round(x * 1.442695);
    // The first part of ln 2 has so few bits that its product with n is exact.
    var r = fma(n, -0.6933594, x);
    r = fma(n, 2.1219444e-4, r);
    var q = fma(1.3950602e-3, r, 8.368953e-3);
    q = fma(q, r, 4.1666204e-2);
    q = fma(q, r, 0.16666518);
    q = fma(q, r, 0.5);
    return vec2<f32>(fma(q * r, r, r), bitcast<f32>(u32(i32(n) + 127) << 23u));
}

// e^x: exactly 0 below -87, at most 2.4e38; NaN stays NaN.
fn exp_of(x: f32) -> f32 {
    let parts = exp_parts(clamp(x, -87.0, 88.37));
    let value = select(fma(parts.y, parts.x, parts.y), 0.0, x < -87.0);
    return kept_if_nan(x, value);
}

// tanh x = (e^2x - 1) / (e^2x + 1), accurate near 0 too.
fn tanh_of(x: f32) -> f32 {
    let bounded = clamp(x, -10.0, 10.0);
    let parts = exp_parts(bounded + bounded);
    let less_one = fma(parts.y, parts.x, parts.y - 1.0);
    let value = less_one / (less_one + 2.0);
    return kept_if_nan(x, value);
}

// x / (1 + e^-kx): SiLU for k = 1.
fn swish(x: f32, kx: f32) -> f32 {
    return x / (1.0 + exp_of(-kx));
}

// ln(1 + e^x), to a few roundings where it is tiny too.
fn softplus(x: f32) -> f32 {
    let y = exp_of(-abs(x));
    let z = y / (2.0 + y);
    let t = z * z;
    var series = fma(0.06666667, t, 0.07692308);
    series = fma(series, t, 0.09090909);
    series = fma(series, t, 0.11111111);
    series = fma(series, t, 0.14285715);
    series = fma(series, t, 0.2);
    series = fma(series, t, 0.33333334);
    series = fma(series, t, 1.0);
    return fma(z + z, series, max(x, 0.0));
}

// 1 + erf x, without cancellation for negative x.
fn one_plus_erf(x: f32) -> f32 {
    let z = abs(x);
    let t = x * x;
    var near = fma(7.889123e-5, t, -8.020842e-4);
    near = fma(near, t, 5.1895355e-3);
    near = fma(near, t, -2.6854445e-2);
    near = fma(near, t, 0.112836);
    near = fma(near, t, -0.37612627);
    near = fma(near, t, 1.1283792);
    near = fma(near, x, 1.0);
    let far_z = min(z, 4.0);
    var log = fma(-2.1686763e-5, far_z, 4.413353e-4);
    log = fma(log, far_z, -4.204556e-3);
    log = fma(log, far_z, 2.520824e-2);
    log = fma(log, far_z, -0.10841855);
    log = fma(log, far_z, -0.6332199);
    log = fma(log, far_z, -1.1295784);
    log = fma(log, far_z, 1.8803705e-4);
    let erfc = select(exp_of(log), 0.0, z > 4.0);
    let far = select(2.0 - erfc, erfc, x < 0.0);
    return select(far, near, z < 1.0);
}
