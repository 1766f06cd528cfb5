//! Sixteen lanes in four AArch64 Advanced SIMD registers. Every AArch64 processor has these instructions.

use std::arch::aarch64::*;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::{LANES, Lanes};

/// The Advanced SIMD level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon;

type V = [float32x4_t; 4];

#[inline(always)]
fn pair(a: V, b: V, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> V {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

impl Lanes for Neon {
    type V = V;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        // SAFETY: part of AArch64.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> V {
        let p = x.as_ptr();
        // SAFETY: part of AArch64; the array has sixteen elements.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))] }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> V {
        let mut wide = [0.0; LANES];
        x.convert_to_f32_slice(&mut wide);
        self.load(&wide)
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut [f32; LANES]) {
        let p = to.as_mut_ptr();
        // SAFETY: part of AArch64; the array has sixteen elements.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
            vst1q_f32(p.add(8), v[2]);
            vst1q_f32(p.add(12), v[3]);
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        // SAFETY: part of AArch64.
        pair(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        // SAFETY: part of AArch64.
        pair(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        // SAFETY: part of AArch64.
        pair(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        // SAFETY: part of AArch64.
        pair(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        // SAFETY: part of AArch64.
        std::array::from_fn(|i| unsafe { vfmaq_f32(c[i], a[i], b[i]) })
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        // SAFETY: part of AArch64. Not `vmaxq_f32`, which treats NaN in another way.
        pair(a, b, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        // SAFETY: part of AArch64. Not `vminq_f32`, which treats NaN in another way.
        pair(a, b, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }
    #[inline(always)]
    fn round(self, v: V) -> V {
        // SAFETY: part of AArch64.
        v.map(|v| unsafe { vrndnq_f32(v) })
    }
    #[inline(always)]
    fn pow2(self, v: V) -> V {
        // SAFETY: part of AArch64.
        v.map(|v| unsafe {
            let n = vaddq_s32(vcvtnq_s32_f32(v), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(n))
        })
    }
    #[inline(always)]
    fn if_less(self, a: V, b: V, yes: V, no: V) -> V {
        // SAFETY: part of AArch64.
        std::array::from_fn(|i| unsafe { vbslq_f32(vcltq_f32(a[i], b[i]), yes[i], no[i]) })
    }
    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        // SAFETY: part of AArch64.
        unsafe {
            let four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
}
