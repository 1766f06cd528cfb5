//! Weights of tokens, in whole numbers.
//!
//! A token's weight is 2^44 e^((logit - largest) / T), rounded. Whole numbers add up to the same sum in any order, so that
//! every backend draws the same token, however it divides the work; and they are computed with whole numbers, since the
//! floating-point arithmetic of devices differs in the last bit. The error is below 3e-8 of the weight and 2^-44 of the
//! largest: tokens with less than 3e-14 of the largest probability are never drawn.

/// Bits of the largest weight, which is 2 to the power of this.
pub(super) const ONE_BITS: u32 = 44;

/// Logits for which the sum of all weights fits 64 bits: fewer than this.
pub(super) const MOST_LOGITS: usize = 1 << 20;

/// log2(e) in units of 2^-62.
const LOG2_E: u64 = 0x5c55_1d94_ae0b_f85d;
/// ln 2 in units of 2^-32.
const LN_2: u32 = 0xb172_17f7;
/// 2 to the powers -1/2, -1/4 .. -1/256 in units of 2^-32.
const ROOTS: [u32; 8] =
    [0xb504_f334, 0xd744_fccb, 0xeac0_c6e8, 0xf525_7d15, 0xfa83_b2db, 0xfd3e_0c0d, 0xfe9e_115c, 0xff4e_cb59];

/// 2^(-i/256) in units of 2^-31.
static POWERS: [u32; 256] = powers();

const fn powers() -> [u32; 256] {
    let mut all = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut power = 1 << 31;
        let mut bit = 0;
        while bit < 8 {
            if i >> (7 - bit) & 1 == 1 {
                power = high(power, ROOTS[bit]);
            }
            bit += 1;
        }
        all[i] = power;
        i += 1;
    }
    all
}

/// The upper word of a product.
const fn high(a: u32, b: u32) -> u32 {
    ((a as u64 * b as u64) >> 32) as u32
}

/// The biased exponent of a float's bits, and its mantissa with the leading one.
const fn parts(bits: u32) -> (u32, u32) {
    (bits >> 23 & 0xff, bits & 0x7f_ffff | 0x80_0000)
}

/// log2(e) / T: `mantissa * 2^(96 - exponent)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    mantissa: u32,
    exponent: u32,
}

impl Rate {
    /// For a positive temperature that is normal or infinite.
    pub fn new(temperature: f32) -> Self {
        let (exponent, mantissa) = parts(temperature.to_bits());
        Rate { mantissa: ((LOG2_E / u64::from(mantissa)) >> 8) as u32, exponent }
    }
}

/// The weight of a token whose logit is by `difference` greater than the largest, so 0 or less. NaN weighs nothing.
pub(super) fn weight(difference: f32, rate: Rate) -> u64 {
    let bits = difference.to_bits() & 0x7fff_ffff;
    if bits >= 0x7f80_0000 {
        return 0;
    }
    let (exponent, mantissa) = parts(bits);
    // Difference times rate in units of 2^-32. Denormals are 0.
    let mut halvings = 0;
    if exponent > 0 {
        let shift = rate.exponent as i32 + 22 - exponent as i32;
        if shift <= 0 {
            return 0;
        }
        halvings = (u64::from(mantissa) * u64::from(rate.mantissa)).checked_shr(shift as u32).unwrap_or(0);
    }
    let whole = (halvings >> 32) as u32;
    if whole > ONE_BITS {
        return 0;
    }
    (u64::from(power(halvings as u32)) << (ONE_BITS - 31)) >> whole
}

/// 2^-(f / 2^32) in units of 2^-31: from the table for the upper byte, by its series to the third power for the rest.
fn power(f: u32) -> u32 {
    // The rest times ln 2, its square and its cube, in units of 2^-40, 2^-48 and 2^-56.
    let a = high(f << 8, LN_2);
    let a2 = high(a, a);
    let a3 = high(a2, a);
    let less = a - (a2 >> 9) + ((a3 / 6) >> 16);
    let start = POWERS[(f >> 24) as usize];
    start - (high(start, less) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_exponentials() {
        for temperature in [0.01f32, 0.3, 0.7, 1.0, 1.3, 2.5, 100.0] {
            let rate = Rate::new(temperature);
            for i in 0..20_000 {
                let difference = -(i as f32) * 0.001_37 * temperature;
                let want = (f64::from(difference) / f64::from(temperature)).exp() * (1u64 << ONE_BITS) as f64;
                let got = weight(difference, rate) as f64;
                assert!(
                    (got - want).abs() <= 1.0 + want * 3e-8,
                    "{difference} at {temperature}: {got}, not {want}"
                );
            }
        }
    }

    #[test]
    fn weights_at_the_ends() {
        let one = Rate::new(1.0);
        for zero in [0.0, -0.0, -1e-40, -1e-20] {
            assert_eq!(weight(zero, one), 1 << ONE_BITS);
        }
        for far in [-31.3, -1e10, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(weight(far, one), 0);
        }
        assert_eq!(weight(f32::NEG_INFINITY, Rate::new(f32::MAX)), 0);
        assert_eq!(weight(-1e4, Rate::new(f32::INFINITY)), 1 << ONE_BITS);
        assert_eq!(weight(-1e4, Rate::new(f32::MAX)), 1 << ONE_BITS);
        assert_eq!(weight(-1e-4, Rate::new(f32::MIN_POSITIVE)), 0);
        assert_eq!(weight(f32::MIN, one), 0);
    }

    #[test]
    fn weights_fall() {
        let rate = Rate::new(0.8);
        let all: Vec<u64> = (0..200_000).map(|i| weight(i as f32 * -1e-4, rate)).collect();
        assert!(all.is_sorted_by(|a, b| a >= b));
    }
}
