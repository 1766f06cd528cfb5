//! The inner loop over dense panels: `acc = acc + sum(w * a)` for each 32 values along k, the inner sum by fma.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.

use super::pack;
use super::vector::{Vector, for_levels};
use crate::quant::Float;
use crate::quant::panel::{BLOCK, ROWS};
use crate::simd::Level;

const F32: usize = Float::F32 as usize;
const F16: usize = Float::F16 as usize;
const BF16: usize = Float::BF16 as usize;

/// How far ahead values are asked for, in bytes.
const PREFETCH: usize = 8192;

#[inline(always)]
unsafe fn load<V: Vector, const FLOAT: usize>(values: *const u8, at: usize) -> V::Float {
    match FLOAT {
        F32 => V::load(values.cast::<f32>().add(at)),
        F16 => V::load_f16(values.add(2 * at)),
        _ => V::load_bf16(values.add(2 * at)),
    }
}

/// A group of `M` tokens, whole rows. `x` is `[k, M]`; `values`, and `acc` with 16 values for each token, start at the rows in question.
#[inline(always)]
unsafe fn pass<V: Vector, const FLOAT: usize, const M: usize>(
    values: *const u8,
    x: *const f32,
    k: usize,
    acc: *mut f32,
) {
    let bytes = ROWS * if FLOAT == F32 { 4 } else { 2 };
    let mut total = [V::splat(0.0); M];
    let mut from = 0;
    while from < k {
        let mut sum = [V::splat(0.0); M];
        for i in from..(from + BLOCK).min(k) {
            if M == 1 {
                V::prefetch_far(values.wrapping_add(PREFETCH + i * bytes));
            }
            let w = load::<V, FLOAT>(values, i * ROWS);
            for (m, sum) in sum.iter_mut().enumerate() {
                *sum = V::fma(w, V::splat(*x.add(i * M + m)), *sum);
            }
        }
        for m in 0..M {
            total[m] = V::add(total[m], sum[m]);
        }
        from += BLOCK;
    }
    for (m, total) in total.into_iter().enumerate() {
        V::store(acc.add(m * ROWS), total);
    }
}

#[inline(always)]
unsafe fn run_panel<V: Vector, const FLOAT: usize>(values: &[u8], x: &[f32], k: usize, acc: &mut [f32]) {
    let size = if FLOAT == F32 { 4 } else { 2 };
    let tokens = acc.len() / ROWS;
    for lane in (0..ROWS).step_by(V::LANES) {
        let values = values.as_ptr().add(lane * size);
        for (token, m) in pack::groups(tokens, V::TOKENS) {
            let (x, acc) = (x.as_ptr().add(token * k), acc.as_mut_ptr().add(token * ROWS + lane));
            match m {
                8 => pass::<V, FLOAT, 8>(values, x, k, acc),
                4 => pass::<V, FLOAT, 4>(values, x, k, acc),
                2 => pass::<V, FLOAT, 2>(values, x, k, acc),
                _ => pass::<V, FLOAT, 1>(values, x, k, acc),
            }
        }
    }
}

for_levels! {
    /// # Safety
    /// The level must be available; `values` holds `k` values of 16 rows, `x` those of each of `acc`'s tokens.
    unsafe fn panel<const FLOAT: usize>(values: &[u8], x: &[f32], k: usize, acc: &mut [f32]) = run_panel;
}

/// Sets `acc` (16 for each token) to the products of one dense panel with activations `x`, packed by
/// [`super::pack`], for each group of M tokens `[k, M]`. Panics if the lengths do not fit each other or the processor lacks the level.
pub fn run(level: Level, float: Float, values: &[u8], x: &[f32], k: usize, acc: &mut [f32]) {
    assert!(values.len() >= ROWS * k * float.size() && x.len() >= acc.len() / ROWS * k);
    assert!(level.is_available(), "{} is not available here", level.name());
    // SAFETY: the level is available, and the lengths cover what a pass reads and writes, as just checked.
    unsafe {
        match float {
            Float::F32 => panel::<F32>(level, values, x, k, acc),
            Float::F16 => panel::<F16>(level, values, x, k, acc),
            Float::BF16 => panel::<BF16>(level, values, x, k, acc),
        }
    }
}
