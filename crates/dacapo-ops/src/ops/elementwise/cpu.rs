//! The CPU twins of elementwise arithmetic.
//!
//! Sums, products and scalings are plain loops: the compiler makes vectors of them, and no order of rounding
//! depends on how.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};

use super::Params;
use crate::check::{plan_elements, plan_rows};
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::simd::Level;

pub(super) fn plan<const OUT: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_elements(ctx, OUT)
}

pub(super) fn plan_bias(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_rows(ctx, ctx.len(1), &[0])
}

fn binary(tile: &Tile<'_>, f: impl Fn(f32, f32) -> f32) {
    let mut block = tile.write::<f32>(2);
    let start = block.first_col();
    let out = block.slice();
    let a = &tile.read::<f32>(0)[start..][..out.len()];
    let b = &tile.read::<f32>(1)[start..][..out.len()];
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = f(a, b);
    }
}

pub(super) fn run_add(tile: &Tile<'_>) {
    binary(tile, |a, b| a + b);
}

pub(super) fn run_mul(tile: &Tile<'_>) {
    binary(tile, |a, b| a * b);
}

pub(super) fn run_add_in_place(tile: &Tile<'_>) {
    let mut block = tile.write::<f32>(0);
    let start = block.first_col();
    for (x, &b) in block.slice().iter_mut().zip(&tile.read::<f32>(1)[start..]) {
        *x += b;
    }
}

pub(super) fn run_add_bias(tile: &Tile<'_>) {
    let bias = tile.read::<f32>(1);
    for row in tile.write::<f32>(0).slice().chunks_exact_mut(bias.len()) {
        for (x, &b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

pub(super) fn run_scale(tile: &Tile<'_>) {
    let Params { value } = tile.params();
    let mut block = tile.write::<f32>(1);
    let start = block.first_col();
    for (out, &x) in block.slice().iter_mut().zip(&tile.read::<f32>(0)[start..]) {
        *out = x * value;
    }
}

pub(super) fn run_scale_in_place(tile: &Tile<'_>) {
    let Params { value } = tile.params();
    for x in tile.write::<f32>(0).slice() {
        *x *= value;
    }
}

#[inline(always)]
fn softcap_body<L: Lanes>(l: L, x: &mut [f32], cap: f32) {
    for part in x.chunks_mut(LANES) {
        let v = l.div(l.load_part(part, 0.0), l.splat(cap));
        l.store_part(l.mul(l.splat(cap), math::tanh(l, v)), part);
    }
}

leveled! {
    /// `x = cap * tanh(x / cap)`.
    pub(crate) fn softcap(x: &mut [f32], cap: f32) = softcap_body;
}

pub(super) fn run_softcap(tile: &Tile<'_>) {
    let Params { value } = tile.params();
    let mut block = tile.write::<f32>(1);
    let start = block.first_col();
    let out = block.slice();
    out.copy_from_slice(&tile.read::<f32>(0)[start..][..out.len()]);
    softcap(Level::best(), out, value);
}

pub(super) fn run_softcap_in_place(tile: &Tile<'_>) {
    let Params { value } = tile.params();
    softcap(Level::best(), tile.write::<f32>(0).slice(), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn softcap_agrees_with_the_formula_at_every_level(
            x in prop::collection::vec(-300f32..300.0, 1..70),
            cap in 1f32..60.0,
        ) {
            let mut scalar = x.clone();
            softcap(Level::Scalar, &mut scalar, cap);
            for (&x, &got) in x.iter().zip(&scalar) {
                let want = f64::from(cap) * (f64::from(x) / f64::from(cap)).tanh();
                prop_assert!((f64::from(got) - want).abs() <= 6e-7 * want.abs(), "{x}: {got}, not {want}");
            }
            for level in Level::available() {
                let mut out = x.clone();
                softcap(level, &mut out, cap);
                prop_assert_eq!(&out, &scalar);
            }
        }
    }
}
