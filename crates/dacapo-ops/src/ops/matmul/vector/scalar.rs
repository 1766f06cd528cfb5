//! Plain Rust: sixteen rows in arrays. The oracle of the other levels.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one operation under the trait's contract.

use std::array::from_fn;

use half::{bf16, f16};

use super::Vector;

/// Sixteen rows in arrays.
#[derive(Debug, Clone, Copy)]
pub struct Scalar;

impl Vector for Scalar {
    const LANES: usize = 16;
    const TOKENS: usize = 1;
    const TILE: (usize, usize) = (1, 2);
    type Float = [f32; 16];
    type Word = [u32; 16];
    type Sum = [i32; 16];

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 16] {
        [value; 16]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 16] {
        from.cast::<[f32; 16]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> [f32; 16] {
        from.cast::<[u16; 16]>().read_unaligned().map(|bits| f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> [f32; 16] {
        from.cast::<[u16; 16]>().read_unaligned().map(|bits| bf16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    unsafe fn load_u8(from: *const u8) -> [u32; 16] {
        from.cast::<[u8; 16]>().read_unaligned().map(u32::from)
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> [u32; 16] {
        from.cast::<[i8; 16]>().read_unaligned().map(|v| v as i32 as u32)
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 16]) {
        to.cast::<[f32; 16]>().write_unaligned(value)
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn load_words(from: *const u8) -> [u32; 16] {
        from.cast::<[u32; 16]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn shift_right(a: [u32; 16], by: u32) -> [u32; 16] {
        a.map(|a| a >> by)
    }
    #[inline(always)]
    unsafe fn shift_left(a: [u32; 16], by: u32) -> [u32; 16] {
        a.map(|a| a << by)
    }
    #[inline(always)]
    unsafe fn and(a: [u32; 16], mask: u32) -> [u32; 16] {
        a.map(|a| a & mask)
    }
    #[inline(always)]
    unsafe fn or(a: [u32; 16], b: [u32; 16]) -> [u32; 16] {
        from_fn(|i| a[i] | b[i])
    }
    #[inline(always)]
    unsafe fn to_float(a: [u32; 16]) -> [f32; 16] {
        a.map(|a| a as i32 as f32)
    }
    #[inline(always)]
    unsafe fn store_words(to: *mut u8, value: [u32; 16]) {
        to.cast::<[u32; 16]>().write_unaligned(value)
    }
    #[inline(always)]
    unsafe fn sum_from(offset: i32) -> [i32; 16] {
        [offset; 16]
    }
    #[inline(always)]
    unsafe fn sum_dot<const BITS: usize>(sum: [i32; 16], codes: [u32; 16], activations: u32) -> [i32; 16] {
        let activations = activations.to_le_bytes();
        from_fn(|i| {
            let products = codes[i].to_le_bytes().into_iter().zip(activations);
            sum[i] + products.map(|(code, a)| code as i32 * (a as i8) as i32).sum::<i32>()
        })
    }
    #[inline(always)]
    unsafe fn sum_finish<const BITS: usize>(sum: [i32; 16], _: i32) -> [u32; 16] {
        sum.map(|s| s as u32)
    }
    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}
    #[inline(always)]
    unsafe fn prefetch_far(_: *const u8) {}
}
