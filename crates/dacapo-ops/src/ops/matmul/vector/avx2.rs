//! AVX2, FMA and F16C, perhaps with VNNI: eight rows in one register.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one operation under the trait's contract.

use std::arch::x86_64::*;

use super::Vector;

/// Eight rows in one register; with `VNNI`, dot products of bytes are one instruction.
#[derive(Debug, Clone, Copy)]
pub struct Eight<const VNNI: bool>;

/// AVX2 alone.
pub type Avx2 = Eight<false>;
/// AVX2 with VNNI.
pub type AvxVnni = Eight<true>;

impl<const VNNI: bool> Vector for Eight<VNNI> {
    const LANES: usize = 8;
    const TOKENS: usize = 4;
    const TILE: (usize, usize) = (1, if VNNI { 6 } else { 4 });
    type Float = __m256;
    type Word = __m256i;
    /// With VNNI i32. Otherwise, up to 4 bits: pairs of products as i16, of which eight of magnitude 2 * 15 * 127 fit; above that i32.
    type Sum = __m256i;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        _mm256_set1_ps(value)
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        _mm256_loadu_ps(from)
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m256 {
        _mm256_cvtph_ps(_mm_loadu_si128(from.cast()))
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m256 {
        let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> __m256i {
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> __m256i {
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        _mm256_storeu_ps(to, value)
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        _mm256_add_ps(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        _mm256_mul_ps(a, b)
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        _mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> __m256i {
        _mm256_loadu_si256(from.cast())
    }
    #[inline(always)]
    unsafe fn shift_right(a: __m256i, by: u32) -> __m256i {
        _mm256_srl_epi32(a, _mm_cvtsi32_si128(by as i32))
    }
    #[inline(always)]
    unsafe fn shift_left(a: __m256i, by: u32) -> __m256i {
        _mm256_sll_epi32(a, _mm_cvtsi32_si128(by as i32))
    }
    #[inline(always)]
    unsafe fn and(a: __m256i, mask: u32) -> __m256i {
        _mm256_and_si256(a, _mm256_set1_epi32(mask as i32))
    }
    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        _mm256_or_si256(a, b)
    }
    #[inline(always)]
    unsafe fn to_float(a: __m256i) -> __m256 {
        _mm256_cvtepi32_ps(a)
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut u8, value: __m256i) {
        _mm256_storeu_si256(to.cast(), value)
    }
    #[inline(always)]
    unsafe fn sum_from(offset: i32) -> __m256i {
        // Without VNNI not every sum has room for an offset while it is made.
        _mm256_set1_epi32(if VNNI { offset } else { 0 })
    }
    #[inline(always)]
    unsafe fn sum_dot<const BITS: usize>(sum: __m256i, codes: __m256i, activations: u32) -> __m256i {
        let activations = _mm256_set1_epi32(activations as i32);
        if VNNI {
            return _mm256_dpbusd_avx_epi32(sum, codes, activations);
        }
        if BITS <= 4 {
            return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, activations));
        }
        let sums = if BITS < 8 {
            _mm256_madd_epi16(_mm256_maddubs_epi16(codes, activations), _mm256_set1_epi16(1))
        } else {
            // A pair of full 8-bit products does not fit an i16: the halves of a code separately.
            let nibble = _mm256_set1_epi8(15);
            let low = _mm256_maddubs_epi16(_mm256_and_si256(codes, nibble), activations);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
            let high = _mm256_maddubs_epi16(high, activations);
            _mm256_add_epi32(
                _mm256_madd_epi16(low, _mm256_set1_epi16(1)),
                _mm256_madd_epi16(high, _mm256_set1_epi16(16)),
            )
        };
        _mm256_add_epi32(sum, sums)
    }
    #[inline(always)]
    unsafe fn sum_finish<const BITS: usize>(sum: __m256i, offset: i32) -> __m256i {
        if VNNI {
            return sum;
        }
        let sum = if BITS <= 4 { _mm256_madd_epi16(sum, _mm256_set1_epi16(1)) } else { sum };
        _mm256_add_epi32(sum, _mm256_set1_epi32(offset))
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
