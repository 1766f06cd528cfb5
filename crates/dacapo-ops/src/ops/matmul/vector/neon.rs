//! Advanced SIMD, perhaps with dot products: four rows in one register.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one operation under the trait's contract.

use std::arch::aarch64::*;

use half::f16;

use super::Vector;

/// Four rows in one register; with `DOT`, dot products of bytes are one instruction.
#[derive(Debug, Clone, Copy)]
pub struct Four<const DOT: bool>;

/// Advanced SIMD alone.
pub type Neon = Four<false>;
/// Advanced SIMD with dot products.
pub type NeonDot = Four<true>;

/// `sum` and the four products of each lane's bytes.
///
/// # Safety
/// The processor must have the instruction.
#[inline(always)]
unsafe fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // The intrinsic is not stable yet.
    std::arch::asm!(
        ".arch_extension dotprod",
        "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
        sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
        options(pure, nomem, nostack, preserves_flags)
    );
    sum
}

impl<const DOT: bool> Vector for Four<DOT> {
    const LANES: usize = 4;
    const TOKENS: usize = 4;
    const TILE: (usize, usize) = (1, 6);
    type Float = float32x4_t;
    type Word = uint32x4_t;
    /// Two partial sums for each row: rows 0 and 1, rows 2 and 3. With `DOT` whole sums in the first.
    type Sum = [int32x4_t; 2];

    #[inline(always)]
    unsafe fn splat(value: f32) -> float32x4_t {
        vdupq_n_f32(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> float32x4_t {
        vld1q_f32(from)
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> float32x4_t {
        let bits = from.cast::<[u16; 4]>().read_unaligned();
        vld1q_f32(bits.map(|bits| f16::from_bits(bits).to_f32()).as_ptr())
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> float32x4_t {
        vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(from))))
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> uint32x4_t {
        let bytes = vcreate_u8(from.cast::<u32>().read_unaligned() as u64);
        vmovl_u16(vget_low_u16(vmovl_u8(bytes)))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> uint32x4_t {
        let bytes = vcreate_s8(from.cast::<u32>().read_unaligned() as u64);
        vreinterpretq_u32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes))))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: float32x4_t) {
        vst1q_f32(to, value)
    }
    #[inline(always)]
    unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vaddq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        vmulq_f32(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }
    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> uint32x4_t {
        vreinterpretq_u32_u8(vld1q_u8(from))
    }
    #[inline(always)]
    unsafe fn shift_right(a: uint32x4_t, by: u32) -> uint32x4_t {
        vshlq_u32(a, vdupq_n_s32(-(by as i32)))
    }
    #[inline(always)]
    unsafe fn shift_left(a: uint32x4_t, by: u32) -> uint32x4_t {
        vshlq_u32(a, vdupq_n_s32(by as i32))
    }
    #[inline(always)]
    unsafe fn and(a: uint32x4_t, mask: u32) -> uint32x4_t {
        vandq_u32(a, vdupq_n_u32(mask))
    }
    #[inline(always)]
    unsafe fn or(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        vorrq_u32(a, b)
    }
    #[inline(always)]
    unsafe fn to_float(a: uint32x4_t) -> float32x4_t {
        vcvtq_f32_s32(vreinterpretq_s32_u32(a))
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut u8, value: uint32x4_t) {
        vst1q_u8(to, vreinterpretq_u8_u32(value))
    }
    #[inline(always)]
    unsafe fn sum_from(_: i32) -> [int32x4_t; 2] {
        [vdupq_n_s32(0); 2]
    }
    #[inline(always)]
    unsafe fn sum_dot<const BITS: usize>(
        [first, second]: [int32x4_t; 2],
        codes: uint32x4_t,
        activations: u32,
    ) -> [int32x4_t; 2] {
        let activations = vreinterpretq_s8_u32(vdupq_n_u32(activations));
        let codes = vreinterpretq_u8_u32(codes);
        if DOT {
            if BITS < 8 {
                return [sdot(first, vreinterpretq_s8_u8(codes), activations), second];
            }
            // As below; 128 is no signed byte, so twice 64.
            let codes = vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(128)));
            let half = vdupq_n_s8(64);
            let lift = sdot(sdot(first, half, activations), half, activations);
            return [sdot(lift, codes, activations), second];
        }
        if BITS < 8 {
            let codes = vreinterpretq_s8_u8(codes);
            let low = vmull_s8(vget_low_s8(codes), vget_low_s8(activations));
            return [vpadalq_s16(first, low), vpadalq_s16(second, vmull_high_s8(codes, activations))];
        }
        // Codes above 127 are no signed bytes: take 128 off, and add 128 for every unit of activation.
        let codes = vreinterpretq_s8_u8(veorq_u8(codes, vdupq_n_u8(128)));
        let low = vmull_s8(vget_low_s8(codes), vget_low_s8(activations));
        let lift = vshll_n_s8::<7>(vget_low_s8(activations));
        let high = vmull_high_s8(codes, activations);
        [vpadalq_s16(vpadalq_s16(first, low), lift), vpadalq_s16(vpadalq_s16(second, high), lift)]
    }
    #[inline(always)]
    unsafe fn sum_finish<const BITS: usize>([first, second]: [int32x4_t; 2], offset: i32) -> uint32x4_t {
        let sum = if DOT { first } else { vpaddq_s32(first, second) };
        vreinterpretq_u32_s32(vaddq_s32(sum, vdupq_n_s32(offset)))
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_far(_: *const u8) {}
}
