//! AVX-512 with VNNI: sixteen rows in one register.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one operation under the trait's contract.

use std::arch::x86_64::*;

use super::Vector;

/// Sixteen rows in one register.
#[derive(Debug, Clone, Copy)]
pub struct Avx512;

impl Vector for Avx512 {
    const LANES: usize = 16;
    const TOKENS: usize = 8;
    const TILE: (usize, usize) = (2, 6);
    type Float = __m512;
    type Word = __m512i;
    type Sum = __m512i;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        _mm512_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        _mm512_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m512 {
        let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> __m512i {
        _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> __m512i {
        _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        _mm512_storeu_ps(to, value)
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        _mm512_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        _mm512_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        _mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> __m512i {
        _mm512_loadu_si512(from.cast())
    }
    #[inline(always)]
    unsafe fn shift_right(a: __m512i, by: u32) -> __m512i {
        _mm512_srl_epi32(a, _mm_cvtsi32_si128(by as i32))
    }
    #[inline(always)]
    unsafe fn shift_left(a: __m512i, by: u32) -> __m512i {
        _mm512_sll_epi32(a, _mm_cvtsi32_si128(by as i32))
    }
    #[inline(always)]
    unsafe fn and(a: __m512i, mask: u32) -> __m512i {
        _mm512_and_si512(a, _mm512_set1_epi32(mask as i32))
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        _mm512_or_si512(a, b)
    }
    #[inline(always)]
    unsafe fn to_float(a: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(a)
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut u8, value: __m512i) {
        _mm512_storeu_si512(to.cast(), value)
    }
    #[inline(always)]
    unsafe fn sum_from(offset: i32) -> __m512i {
        _mm512_set1_epi32(offset)
    }
    #[inline(always)]
    unsafe fn sum_dot<const BITS: usize>(sum: __m512i, codes: __m512i, activations: u32) -> __m512i {
        _mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(activations as i32))
    }
    #[inline(always)]
    unsafe fn sum_finish<const BITS: usize>(sum: __m512i, _: i32) -> __m512i {
        sum
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T0>(at.cast())
    }
    #[inline(always)]
    unsafe fn prefetch_far(at: *const u8) {
        _mm_prefetch::<_MM_HINT_T1>(at.cast())
    }
}
