//! Vectors of sixteen `f32` lanes, the same on every instruction set.
//!
//! A kernel is written once, generic over [`Lanes`], and compiled once for each [`Level`]. Every operation is
//! defined lane by lane and every reduction folds in one fixed order, so that all levels, the scalar one
//! included, give the same bits for the same input. AVX-512 holds such a vector in one register, AVX2 in two,
//! NEON in four, the scalar level in an array.

pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use half::f16;

use crate::simd::Level;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Arithmetic on vectors of sixteen `f32`. A value of an implementing type proves that its instructions exist.
pub(crate) trait Lanes: Copy {
    /// The vector.
    type V: Copy;
    /// Whether a kernel can keep sixteen whole vectors in registers (otherwise four).
    const WIDE: bool;

    fn splat(self, x: f32) -> Self::V;
    fn load(self, x: &[f32; LANES]) -> Self::V;
    fn load_f16(self, x: &[f16; LANES]) -> Self::V;
    fn store(self, v: Self::V, to: &mut [f32; LANES]);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a` where it is greater than `b`, else `b` (also where either is NaN).
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` where it is less than `b`, else `b` (also where either is NaN).
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The nearest whole number, halves to even.
    fn round(self, v: Self::V) -> Self::V;
    /// 2 to the power of a whole number from -126 to 127.
    fn pow2(self, v: Self::V) -> Self::V;
    /// `yes` where `a < b`, else `no`.
    fn if_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;

    /// The bits of the largest magnitude in both vectors. Those of infinity are above those of numbers, those of NaN
    /// above all.
    #[inline(always)]
    fn max_magnitude(self, v: Self::V, w: Self::V) -> u32 {
        let mut lanes = [[0.0; LANES]; 2];
        self.store(v, &mut lanes[0]);
        self.store(w, &mut lanes[1]);
        lanes.iter().flatten().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff))
    }

    /// Stores the nearest whole numbers, halves to even, and returns their sum. For numbers from -127.4 to 127.4.
    #[inline(always)]
    fn store_i8(self, v: Self::V, to: &mut [i8; LANES]) -> i32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        let mut sum = 0;
        for (x, to) in lanes.iter().zip(to) {
            // A sum near 1.5 * 2^23 has no room for a fraction.
            let code = (x + 12_582_912.0).to_bits() as i32 - 0x4b40_0000;
            *to = code as i8;
            sum += code;
        }
        sum
    }

    /// Sum of all lanes: lane i with lane i+8, then i+4, i+2, i+1.
    fn sum(self, v: Self::V) -> f32;

    /// The largest lane.
    #[inline(always)]
    fn max_lane(self, v: Self::V) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        lanes.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a })
    }

    /// Loads up to sixteen elements; lanes beyond them are `fill`.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::V {
        if let Ok(full) = x.try_into() {
            return self.load(full);
        }
        let mut lanes = [fill; LANES];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// Stores the first lanes into up to sixteen elements.
    #[inline(always)]
    fn store_part(self, v: Self::V, to: &mut [f32]) {
        if let Ok(full) = to.try_into() {
            return self.store(v, full);
        }
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        let n = to.len();
        to.copy_from_slice(&lanes[..n]);
    }
}

/// The level itself, or the best one that this processor has if it lacks the one asked for.
pub(crate) fn usable(level: Level) -> Level {
    let best = Level::best();
    if level <= best { level } else { best }
}

/// Defines `fn name(level, arguments)`, which runs a generic `fn body(lanes, arguments)` compiled for each level.
macro_rules! leveled {
    ($(#[$attr:meta])* $vis:vis fn $name:ident ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)? = $body:path;) => {
        $(#[$attr])*
        // A kernel's arguments are what its formula has.
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(level: $crate::simd::Level, $($arg: $ty),*) $(-> $ret)? {
            use $crate::simd::Level;
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function's own target features.
                $body(unsafe { $crate::lanes::x86::Avx512::new() }, $($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: this function's own target features.
                $body(unsafe { $crate::lanes::x86::Avx2::new() }, $($arg),*)
            }
            match $crate::lanes::usable(level) {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `usable` gives only levels whose instructions were found on this processor.
                Level::Avx512 | Level::Amx => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Level::Avx2 | Level::AvxVnni => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                Level::Neon | Level::NeonDot | Level::NeonI8mm => $body($crate::lanes::neon::Neon, $($arg),*),
                _ => $body($crate::lanes::scalar::Scalar, $($arg),*),
            }
        }
    };
}
pub(crate) use leveled;
