//! Exponential, hyperbolic tangent, logistic, softplus and error function on vectors.
//!
//! The exponential splits its argument into n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite, 1980) and sums a
//! polynomial in r. The polynomials' coefficients are near-minimax fits of our own.

use super::Lanes;

/// Below this the exponential is 0.
const EXP_MIN: f32 = -87.0;
/// Above this the exponential stays at its value here, 2.4e38.
const EXP_MAX: f32 = 88.37;
/// ln 2 in two parts; the first has few enough bits that its product with n is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// exp(r) - 1 for the remainder of `x`, and 2^n.
#[inline(always)]
fn reduce<L: Lanes>(l: L, x: L::V) -> (L::V, L::V) {
    let n = l.round(l.mul(x, l.splat(std::f32::consts::LOG2_E)));
    let r = l.fma(n, l.splat(-LN2_HIGH), x);
    let r = l.fma(n, l.splat(-LN2_LOW), r);
    let mut q = l.splat(1.395_060_2e-3);
    for c in [8.368_953e-3, 4.166_620_4e-2, 0.166_665_18, 0.5] {
        q = l.fma(q, r, l.splat(c));
    }
    (l.fma(l.mul(q, r), r, r), l.pow2(n))
}

/// e^x: exactly 0 below -87, at most 2.4e38; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(l: L, x: L::V) -> L::V {
    let clamped = l.min(l.splat(EXP_MAX), l.max(l.splat(EXP_MIN), x));
    let (p, s) = reduce(l, clamped);
    l.if_less(x, l.splat(EXP_MIN), l.splat(0.0), l.fma(s, p, s))
}

/// tanh x = (e^2x - 1) / (e^2x + 1), accurate near 0 too.
#[inline(always)]
pub(crate) fn tanh<L: Lanes>(l: L, x: L::V) -> L::V {
    // Beyond 10 the result is 1 in single precision.
    let x = l.min(l.splat(10.0), l.max(l.splat(-10.0), x));
    let (p, s) = reduce(l, l.add(x, x));
    let em1 = l.fma(s, p, l.sub(s, l.splat(1.0)));
    l.div(em1, l.add(em1, l.splat(2.0)))
}

/// x / (1 + e^(-k x)): SiLU for k = 1.
#[inline(always)]
pub(crate) fn swish<L: Lanes>(l: L, x: L::V, kx: L::V) -> L::V {
    let e = exp(l, l.sub(l.splat(0.0), kx));
    l.div(x, l.add(l.splat(1.0), e))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid<L: Lanes>(l: L, x: L::V) -> L::V {
    swish(l, l.splat(1.0), x)
}

/// ln(1 + e^x), to a few roundings where it is tiny too.
///
/// It is max(x, 0) + ln(1 + y) for y = e^-|x|, and ln(1 + y) = 2 artanh(z) for z = y / (2 + y) <= 1/3, whose series ends soon.
#[inline(always)]
pub(crate) fn softplus<L: Lanes>(l: L, x: L::V) -> L::V {
    let zero = l.splat(0.0);
    let y = exp(l, l.if_less(x, zero, x, l.sub(zero, x)));
    let z = l.div(y, l.add(y, l.splat(2.0)));
    let t = l.mul(z, z);
    let mut series = l.splat(1.0 / 15.0);
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = l.fma(series, t, l.splat(1.0 / odd));
    }
    l.fma(l.add(z, z), series, l.max(x, zero))
}

/// 1 + erf x, without cancellation for negative x.
#[inline(always)]
pub(crate) fn one_plus_erf<L: Lanes>(l: L, x: L::V) -> L::V {
    let zero = l.splat(0.0);
    let one = l.splat(1.0);
    let z = l.if_less(x, zero, l.sub(zero, x), x);
    // |x| < 1: erf x = x P(x^2).
    let t = l.mul(x, x);
    let mut near = l.splat(7.889_123e-5);
    for c in [
        -8.020_842e-4,
        5.189_535_5e-3,
        -2.685_444_5e-2,
        0.112_836,
        -0.376_126_27,
        std::f32::consts::FRAC_2_SQRT_PI,
    ] {
        near = l.fma(near, t, l.splat(c));
    }
    let near = l.fma(near, x, one);
    // 1 <= |x| <= 4: erfc |x| = exp(Q(|x|)); beyond, less than a rounding error of 1.
    let zc = l.min(l.splat(4.0), z);
    let mut log = l.splat(-2.168_676_3e-5);
    for c in [
        4.413_353e-4,
        -4.204_556_3e-3,
        2.520_824e-2,
        -0.108_418_55,
        -0.633_219_9,
        -1.129_578_4,
        1.880_370_5e-4,
    ] {
        log = l.fma(log, zc, l.splat(c));
    }
    let erfc = l.if_less(l.splat(4.0), z, zero, exp(l, log));
    let far = l.if_less(x, zero, erfc, l.sub(l.splat(2.0), erfc));
    l.if_less(z, one, near, far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::{LANES, leveled};
    use crate::simd::Level;

    #[inline(always)]
    fn map_body<L: Lanes>(l: L, which: usize, x: &[f32; LANES], y: &mut [f32; LANES]) {
        let v = l.load(x);
        let r = match which {
            0 => exp(l, v),
            1 => tanh(l, v),
            2 => swish(l, v, v),
            3 => one_plus_erf(l, v),
            _ => softplus(l, v),
        };
        l.store(r, y);
    }
    leveled! {
        fn map(which: usize, x: &[f32; LANES], y: &mut [f32; LANES]) = map_body;
    }

    fn at(level: Level, which: usize, x: f32) -> f32 {
        let mut y = [0.0; LANES];
        map(level, which, &[x; LANES], &mut y);
        y[0]
    }

    fn samples() -> impl Iterator<Item = f32> {
        (-20_000..=20_000).map(|i| i as f32 * 0.004_37).chain((1..60).map(|i| (-(i as f32)).exp2()))
    }

    #[test]
    fn exp_is_within_two_roundings() {
        for x in samples().filter(|x| (-86.9..88.3).contains(x)) {
            let want = f64::from(x).exp();
            let got = f64::from(at(Level::Scalar, 0, x));
            assert!((got - want).abs() <= 1.5e-7 * want, "exp({x}) = {got}, not {want}");
        }
        assert_eq!(at(Level::Scalar, 0, f32::NEG_INFINITY), 0.0);
        assert_eq!(at(Level::Scalar, 0, 0.0), 1.0);
        assert!(at(Level::Scalar, 0, f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_a_few_roundings_everywhere() {
        for x in samples() {
            let want = f64::from(x).tanh();
            let got = f64::from(at(Level::Scalar, 1, x));
            assert!((got - want).abs() <= 4e-7 * want.abs(), "tanh({x}) = {got}, not {want}");
        }
    }

    #[test]
    fn swish_matches_its_formula() {
        for x in samples() {
            let want = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            let got = f64::from(at(Level::Scalar, 2, x));
            assert!((got - want).abs() <= 3e-7 * want.abs() + 1e-35, "swish({x}) = {got}, not {want}");
        }
    }

    #[test]
    fn softplus_is_within_a_few_roundings_everywhere() {
        for x in samples().filter(|x| *x > -86.9) {
            let want = f64::from(x).exp().ln_1p();
            let got = f64::from(at(Level::Scalar, 4, x));
            assert!((got - want).abs() <= 4e-7 * want, "softplus({x}) = {got}, not {want}");
        }
        assert_eq!((at(Level::Scalar, 4, -200.0), at(Level::Scalar, 4, 200.0)), (0.0, 200.0));
    }

    #[test]
    fn error_function_matches_its_series() {
        // erf x = 2/sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (1*3*...*(2n+1)), all terms positive.
        let erf = |x: f64| {
            let (mut term, mut sum, mut n) = (x, x, 0.0);
            while term.abs() > 1e-18 * sum.abs() && n < 400.0 {
                n += 1.0;
                term *= 2.0 * x * x / (2.0 * n + 1.0);
                sum += term;
            }
            2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
        };
        for x in samples().filter(|x| x.abs() < 9.0) {
            let want = 1.0 + erf(f64::from(x));
            let got = f64::from(at(Level::Scalar, 3, x));
            assert!((got - want).abs() <= 1.2e-7 + 1.5e-7 * want, "1 + erf({x}) = {got}, not {want}");
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        for level in Level::available() {
            for which in 0..5 {
                for x in samples().chain([f32::INFINITY, f32::NEG_INFINITY, -0.0]) {
                    let (a, b) = (at(level, which, x), at(Level::Scalar, which, x));
                    assert_eq!(a.to_bits(), b.to_bits(), "{level:?} function {which} of {x}: {a} and {b}");
                }
            }
        }
    }
}
