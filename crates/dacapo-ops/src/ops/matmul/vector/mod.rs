//! Vectors of a few rows side by side: what the inner loops of the products are written in.
//!
//! One implementation for each [`Level`](crate::simd::Level). The loops are generic and always inlined into a
//! function that enables the level's instructions; integers are exact and every float operation is one rounding in
//! the same order everywhere, so that all levels give the same bits.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod scalar;

/// `LANES` rows side by side.
///
/// # Safety
/// For every function: the processor has the level's instructions, and pointers are valid for the values read or
/// written, `LANES` of them unless said otherwise. No alignment is assumed.
pub trait Vector: Copy {
    /// Rows: 4, 8 or 16.
    const LANES: usize;
    /// Most tokens that one pass over exact activations should serve, as registers allow: 1, 2, 4 or 8.
    const TOKENS: usize;
    /// Vectors of rows, 1 or 2, and most tokens, up to 6, of a tile whose sums, integers and floats, stay in registers.
    const TILE: (usize, usize);
    /// One f32 for each row.
    type Float: Copy;
    /// One 32-bit word for each row.
    type Word: Copy;
    /// A sum of integer products for each row, in whatever form adds up fastest.
    type Sum: Copy;

    /// The same value in all rows.
    unsafe fn splat(value: f32) -> Self::Float;
    /// Loads f32 values.
    unsafe fn load(from: *const f32) -> Self::Float;
    /// Loads f16 values.
    unsafe fn load_f16(from: *const u8) -> Self::Float;
    /// Loads bf16 values.
    unsafe fn load_bf16(from: *const u8) -> Self::Float;
    /// Loads bytes as unsigned integers.
    unsafe fn load_u8(from: *const u8) -> Self::Word;
    /// Loads bytes as signed integers.
    unsafe fn load_i8(from: *const u8) -> Self::Word;
    /// Stores f32 values.
    unsafe fn store(to: *mut f32, value: Self::Float);
    /// `a + b`.
    unsafe fn add(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a * b`.
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a * b + c`, rounded once.
    unsafe fn fma(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;

    /// Loads words.
    unsafe fn load_words(from: *const u8) -> Self::Word;
    /// Logical shift right.
    unsafe fn shift_right(a: Self::Word, by: u32) -> Self::Word;
    /// Shift left.
    unsafe fn shift_left(a: Self::Word, by: u32) -> Self::Word;
    /// `a & mask` in every row.
    unsafe fn and(a: Self::Word, mask: u32) -> Self::Word;
    /// `a | b`.
    unsafe fn or(a: Self::Word, b: Self::Word) -> Self::Word;
    /// Signed integers to f32, to nearest even.
    unsafe fn to_float(a: Self::Word) -> Self::Float;

    /// Stores words.
    unsafe fn store_words(to: *mut u8, value: Self::Word);

    /// A sum that starts at `offset`.
    unsafe fn sum_from(offset: i32) -> Self::Sum;
    /// Adds the four products of a row's four unsigned bytes, codes of `BITS` bits, with the four signed bytes of
    /// `activations`, none of them -128. At most eight times between `sum_from` and `sum_finish`.
    unsafe fn sum_dot<const BITS: usize>(sum: Self::Sum, codes: Self::Word, activations: u32) -> Self::Sum;
    /// The sums as integers; `offset` is the one they started at.
    unsafe fn sum_finish<const BITS: usize>(sum: Self::Sum, offset: i32) -> Self::Word;

    /// Asks for the cache line at an address that need not be valid.
    unsafe fn prefetch(at: *const u8);
    /// Asks for it from the second-level cache only, which waits for more lines at once than the first.
    unsafe fn prefetch_far(at: *const u8);
}

/// Defines `unsafe fn name<consts>(level, arguments)`, which runs a generic `unsafe fn body<V, consts>(arguments)` compiled
/// for each level. The caller promises that the level is available, and what the body asks for.
macro_rules! for_levels {
    (
        $(#[$attr:meta])*
        unsafe fn $name:ident<$(const $c:ident: $t:ty),*>($($arg:ident: $ty:ty),* $(,)?) = $body:ident;
    ) => {
        $(#[$attr])*
        unsafe fn $name<$(const $c: $t),*>(level: $crate::simd::Level, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2<$(const $c: $t),*>($($arg: $ty),*) {
                // SAFETY: the caller's promise; this function requires the instructions.
                unsafe { $body::<$crate::ops::matmul::vector::avx2::Avx2, $($c),*>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
            unsafe fn avx512<$(const $c: $t),*>($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $body::<$crate::ops::matmul::vector::avx512::Avx512, $($c),*>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
            unsafe fn avx_vnni<$(const $c: $t),*>($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $body::<$crate::ops::matmul::vector::avx2::AvxVnni, $($c),*>($($arg),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            unsafe fn neon_dot<$(const $c: $t),*>($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $body::<$crate::ops::matmul::vector::neon::NeonDot, $($c),*>($($arg),*) }
            }
            use $crate::simd::Level;
            // SAFETY: the caller's promise.
            unsafe {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx512 | Level::Amx => avx512::<$($c),*>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Level::AvxVnni => avx_vnni::<$($c),*>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Level::Avx2 => avx2::<$($c),*>($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    Level::NeonDot | Level::NeonI8mm => neon_dot::<$($c),*>($($arg),*),
                    #[cfg(target_arch = "aarch64")]
                    Level::Neon => $body::<$crate::ops::matmul::vector::neon::Neon, $($c),*>($($arg),*),
                    _ => $body::<$crate::ops::matmul::vector::scalar::Scalar, $($c),*>($($arg),*),
                }
            }
        }
    };
}
pub(super) use for_levels;

/// The value of an expression of a level's [`Vector`], which `$v` names in it.
macro_rules! of_level {
    ($level:expr, $v:ident => $value:expr) => {
        match $level {
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Level::Avx512 | $crate::simd::Level::Amx => {
                type $v = $crate::ops::matmul::vector::avx512::Avx512;
                $value
            }
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Level::AvxVnni => {
                type $v = $crate::ops::matmul::vector::avx2::AvxVnni;
                $value
            }
            #[cfg(target_arch = "x86_64")]
            $crate::simd::Level::Avx2 => {
                type $v = $crate::ops::matmul::vector::avx2::Avx2;
                $value
            }
            #[cfg(target_arch = "aarch64")]
            $crate::simd::Level::Neon | $crate::simd::Level::NeonDot | $crate::simd::Level::NeonI8mm => {
                type $v = $crate::ops::matmul::vector::neon::Neon;
                $value
            }
            _ => {
                type $v = $crate::ops::matmul::vector::scalar::Scalar;
                $value
            }
        }
    };
}
pub(super) use of_level;
