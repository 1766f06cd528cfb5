//! Scales of a panel, expanded to f32 for the inner loops, and sums of activations.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.

use super::vector::{Vector, for_levels};
use crate::quant::Float;
use crate::quant::panel::{ROWS, Scales};
use crate::simd::Level;

#[inline(always)]
unsafe fn load<V: Vector>(float: Float, from: *const u8) -> V::Float {
    match float {
        Float::F32 => V::load(from.cast()),
        Float::F16 => V::load_f16(from),
        Float::BF16 => V::load_bf16(from),
    }
}

/// What scales are expanded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// For each step 16 scales and 16 biases.
    Steps,
    /// For each span 16 scales, then 16 biases unless the format has a code for zero.
    Spans,
}

impl Layout {
    /// f32 values that `k` values along a row take.
    pub const fn len(self, scales: Scales, k: usize) -> usize {
        match (self, scales.zero()) {
            (Layout::Steps, _) => k / scales.step() * 2 * ROWS,
            (Layout::Spans, None) => k / scales.span() * 2 * ROWS,
            (Layout::Spans, Some(_)) => k / scales.span() * ROWS,
        }
    }
}

/// Expands one unit for the rows from `lane` on.
#[inline(always)]
unsafe fn expand_unit<V: Vector>(
    scales: Scales,
    layout: Layout,
    unit: *const u8,
    lane: usize,
    out: *mut f32,
) {
    let biased = layout == Layout::Steps || scales.zero().is_none();
    let put = |step: usize, s: V::Float, b: V::Float| {
        if biased {
            V::store(out.add(step * 2 * ROWS + lane), s);
            V::store(out.add((step * 2 + 1) * ROWS + lane), b);
        } else {
            V::store(out.add(step * ROWS + lane), s);
        }
    };
    let half = |row: usize| V::load_f16(unit.add(2 * (row * ROWS + lane)));
    let small = |row: usize| V::load_u8(unit.add(row * ROWS + lane));
    let steps = scales.unit() / scales.step();
    match scales {
        Scales::Affine { float, .. } => {
            let s = load::<V>(float, unit.add(lane * float.size()));
            let b = load::<V>(float, unit.add((ROWS + lane) * float.size()));
            (0..if layout == Layout::Steps { steps } else { 1 }).for_each(|step| put(step, s, b));
        }
        Scales::Symmetric { zero, float } => {
            let s = load::<V>(float, unit.add(2 * lane));
            put(0, s, V::mul(V::splat(-(zero as f32)), s));
        }
        Scales::SymmetricPer16 { zero } => {
            (0..steps).for_each(|step| put(step, half(step), V::mul(V::splat(-(zero as f32)), half(step))));
        }
        Scales::WidePer16 { twice_zero } => {
            let d = load::<V>(Float::F32, unit.add(4 * lane));
            for step in 0..steps {
                let s = V::mul(d, V::to_float(V::load_i8(unit.add((4 + step) * ROWS + lane))));
                put(step, s, V::mul(V::splat(-0.5 * twice_zero as f32), s));
            }
        }
        Scales::MinPer32 => {
            let (d, dmin) = (half(0), V::mul(V::splat(-1.0), half(1)));
            for step in 0..steps {
                let (s, m) = (V::to_float(small(4 + step)), V::to_float(small(4 + steps + step)));
                put(step, V::mul(d, s), V::mul(dmin, m));
            }
        }
        Scales::MinPer16 => {
            let (d, dmin) = (half(0), V::mul(V::splat(-1.0), half(1)));
            for step in 0..steps {
                let both = small(4 + step);
                let (s, m) = (V::to_float(V::and(both, 15)), V::to_float(V::shift_right(both, 4)));
                put(step, V::mul(d, s), V::mul(dmin, m));
            }
        }
        Scales::SignedPer16 { zero } => {
            for step in 0..steps {
                let small = V::to_float(V::load_i8(unit.add((2 + step) * ROWS + lane)));
                let s = V::mul(half(0), small);
                put(step, s, V::mul(V::splat(-(zero as f32)), s));
            }
        }
    }
}

#[inline(always)]
unsafe fn units_of<V: Vector>(scales: Scales, layout: Layout, bytes: &[u8], out: &mut [f32]) {
    let per_unit = layout.len(scales, scales.unit());
    for (unit, out) in bytes.chunks_exact(scales.unit_bytes()).zip(out.chunks_exact_mut(per_unit)) {
        for lane in (0..ROWS).step_by(V::LANES) {
            expand_unit::<V>(scales, layout, unit.as_ptr(), lane, out.as_mut_ptr());
        }
    }
}

/// A loop for each family whose units are of one block or two, and for each type of scales there: what is the same for all units
/// is decided before them.
#[inline(always)]
unsafe fn expand_units<V: Vector>(scales: Scales, layout: Layout, bytes: &[u8], out: &mut [f32]) {
    use Float::{BF16, F16, F32};
    use Scales::{Affine, Symmetric};
    match scales {
        Symmetric { zero, float: F16 } => units_of::<V>(Symmetric { zero, float: F16 }, layout, bytes, out),
        Affine { group, float: F32 } => units_of::<V>(Affine { group, float: F32 }, layout, bytes, out),
        Affine { group, float: F16 } => units_of::<V>(Affine { group, float: F16 }, layout, bytes, out),
        Affine { group, float: BF16 } => units_of::<V>(Affine { group, float: BF16 }, layout, bytes, out),
        scales => units_of::<V>(scales, layout, bytes, out),
    }
}

for_levels! {
    /// # Safety
    /// The level must be available.
    unsafe fn units<>(scales: Scales, layout: Layout, bytes: &[u8], out: &mut [f32]) = expand_units;
}

/// Expands whole units of a panel's scale bytes. What does not fit into `out` is left out. Panics if the processor lacks
/// the level.
pub fn expand(level: Level, scales: Scales, layout: Layout, bytes: &[u8], out: &mut [f32]) {
    assert!(level.is_available(), "{} is not available here", level.name());
    // SAFETY: the level is available; only whole units are read and written.
    unsafe { units(level, scales, layout, bytes, out) }
}

/// The sum of 16 values, by halving: eight pairs at distance 8, then four at 4, and so on.
#[inline(always)]
pub fn sum16(x: &[f32]) -> f32 {
    let x = &x[..16];
    let mut part: [f32; 8] = std::array::from_fn(|i| x[i] + x[i + 8]);
    for width in [4, 2, 1] {
        for i in 0..width {
            part[i] += part[i + width];
        }
    }
    part[0]
}

/// Sums of each `step` (16 or 32) consecutive activations.
pub fn sums(x: &[f32], step: usize, out: &mut [f32]) {
    for (x, out) in x.chunks_exact(step).zip(out) {
        *out = if step == 16 { sum16(x) } else { sum16(x) + sum16(&x[16..]) };
    }
}
