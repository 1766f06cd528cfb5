//! The CPU twin of softmax.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};

use super::Params;
use crate::check::plan_rows;
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::simd::Level;

pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_rows(ctx, ctx.params::<Params>().dim as usize, &[1])
}

#[inline(always)]
fn rows_body<L: Lanes>(l: L, x: &[f32], out: &mut [f32], dim: usize, scale: f32) {
    let factor = l.splat(scale);
    for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
        let mut largest = l.splat(f32::NEG_INFINITY);
        for part in x.chunks(LANES) {
            largest = l.max(l.mul(l.load_part(part, part[0]), factor), largest);
        }
        let largest = l.splat(l.max_lane(largest));
        let mut sum = l.splat(0.0);
        for (x, out) in x.chunks(LANES).zip(out.chunks_mut(LANES)) {
            let e = math::exp(l, l.sub(l.mul(l.load_part(x, 0.0), factor), largest));
            l.store_part(e, out);
            // Read back, so that the lanes beyond the row's end count as 0.
            sum = l.add(sum, l.load_part(out, 0.0));
        }
        let inverse = l.splat(1.0 / l.sum(sum));
        for out in out.chunks_mut(LANES) {
            l.store_part(l.mul(l.load_part(out, 0.0), inverse), out);
        }
    }
}

leveled! {
    /// Softmax of each row of `dim` elements.
    pub(crate) fn rows(x: &[f32], out: &mut [f32], dim: usize, scale: f32) = rows_body;
}

pub(super) fn run(tile: &Tile<'_>) {
    let Params { dim, scale } = tile.params();
    let mut block = tile.write::<f32>(1);
    let start = block.first_row() * dim as usize;
    let out = block.slice();
    rows(Level::best(), &tile.read::<f32>(0)[start..][..out.len()], out, dim as usize, scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_formula_at_every_level(
            x in prop::collection::vec(-40f32..40.0, 1..120),
            scale in 0.05f32..1.5,
            masked in 0usize..200,
        ) {
            let mut x = x;
            if x.len() > 1 && masked < x.len() {
                x[masked] = f32::NEG_INFINITY;
            }
            let mut scalar = vec![f32::NAN; x.len()];
            rows(Level::Scalar, &x, &mut scalar, x.len(), scale);
            let z: Vec<f64> = x.iter().map(|&v| f64::from(v * scale)).collect();
            let largest = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = z.iter().map(|v| (v - largest).exp()).sum();
            for (z, &got) in z.iter().zip(&scalar) {
                let want = (z - largest).exp() / sum;
                // The difference of two numbers of size 60 is off by up to 4e-6, and with it the exponential.
                prop_assert!((f64::from(got) - want).abs() <= 6e-6 * want + 1e-35, "{got}, not {want}");
            }
            for level in Level::available() {
                let mut out = vec![0.0; x.len()];
                rows(level, &x, &mut out, x.len(), scale);
                prop_assert_eq!(&out, &scalar);
            }
        }
    }

    #[test]
    fn a_row_without_a_finite_element_is_not_a_number() {
        let mut out = [0.0; 3];
        rows(Level::best(), &[f32::NEG_INFINITY; 3], &mut out, 3, 1.0);
        assert!(out.iter().all(|v| v.is_nan()));
    }
}
