//! The CPU twins of the RMS norms.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};

use super::Params;
use crate::check::plan_rows;
use crate::lanes::{LANES, Lanes, leveled};
use crate::simd::Level;

pub(super) fn plan<const OUT: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_rows(ctx, ctx.params::<Params>().dim as usize, &[OUT])
}

pub(super) fn plan_add(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_rows(ctx, ctx.params::<Params>().dim as usize, &[3, 4])
}

/// 1 / sqrt(mean(x^2) + eps). Sixteen partial sums, folded at the end.
#[inline(always)]
fn inverse_rms<L: Lanes>(l: L, x: &[f32], eps: f32) -> f32 {
    let mut sum = l.splat(0.0);
    for part in x.chunks(LANES) {
        let v = l.load_part(part, 0.0);
        sum = l.fma(v, v, sum);
    }
    1.0 / (l.sum(sum) / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn norm_body<L: Lanes>(l: L, x: &[f32], weight: Option<&[f32]>, out: &mut [f32], dim: usize, eps: f32) {
    for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
        let inverse = l.splat(inverse_rms(l, x, eps));
        for (i, (x, out)) in x.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
            let mut v = l.mul(l.load_part(x, 0.0), inverse);
            if let Some(weight) = weight {
                v = l.mul(v, l.load_part(&weight[i * LANES..][..x.len()], 0.0));
            }
            l.store_part(v, out);
        }
    }
}

leveled! {
    /// Normalizes each row of `dim` elements.
    pub(crate) fn norm(x: &[f32], weight: Option<&[f32]>, out: &mut [f32], dim: usize, eps: f32) = norm_body;
}

#[inline(always)]
fn norm_in_place_body<L: Lanes>(l: L, x: &mut [f32], weight: Option<&[f32]>, dim: usize, eps: f32) {
    for x in x.chunks_exact_mut(dim) {
        let inverse = l.splat(inverse_rms(l, x, eps));
        for (i, x) in x.chunks_mut(LANES).enumerate() {
            let mut v = l.mul(l.load_part(x, 0.0), inverse);
            if let Some(weight) = weight {
                v = l.mul(v, l.load_part(&weight[i * LANES..][..x.len()], 0.0));
            }
            l.store_part(v, x);
        }
    }
}

leveled! {
    /// Normalizes each row of `dim` elements in place.
    pub(crate) fn norm_in_place(x: &mut [f32], weight: Option<&[f32]>, dim: usize, eps: f32) = norm_in_place_body;
}

#[inline(always)]
fn add_body<L: Lanes>(l: L, a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((a, b), out) in a.chunks(LANES).zip(b.chunks(LANES)).zip(out.chunks_mut(LANES)) {
        l.store_part(l.add(l.load_part(a, 0.0), l.load_part(b, 0.0)), out);
    }
}

leveled! {
    /// Adds element by element.
    pub(crate) fn add(a: &[f32], b: &[f32], out: &mut [f32]) = add_body;
}

pub(super) fn run(tile: &Tile<'_>) {
    let Params { dim, eps } = tile.params();
    let mut block = tile.write::<f32>(2);
    let start = block.first_row() * dim as usize;
    let out = block.slice();
    let x = &tile.read::<f32>(0)[start..][..out.len()];
    norm(Level::best(), x, Some(tile.read(1)), out, dim as usize, eps);
}

pub(super) fn run_unit(tile: &Tile<'_>) {
    let Params { dim, eps } = tile.params();
    let mut block = tile.write::<f32>(1);
    let start = block.first_row() * dim as usize;
    let out = block.slice();
    let x = &tile.read::<f32>(0)[start..][..out.len()];
    norm(Level::best(), x, None, out, dim as usize, eps);
}

pub(super) fn run_add(tile: &Tile<'_>) {
    let Params { dim, eps } = tile.params();
    let (mut sums, mut outs) = (tile.write::<f32>(3), tile.write::<f32>(4));
    let start = sums.first_row() * dim as usize;
    let (sum, out) = (sums.slice(), outs.slice());
    let x = &tile.read::<f32>(0)[start..][..sum.len()];
    let residual = &tile.read::<f32>(1)[start..][..sum.len()];
    add(Level::best(), x, residual, sum);
    norm(Level::best(), sum, Some(tile.read(2)), out, dim as usize, eps);
}

pub(super) fn run_in_place(tile: &Tile<'_>) {
    let Params { dim, eps } = tile.params();
    let mut block = tile.write::<f32>(0);
    norm_in_place(Level::best(), block.slice(), Some(tile.read(1)), dim as usize, eps);
}

pub(super) fn run_unit_in_place(tile: &Tile<'_>) {
    let Params { dim, eps } = tile.params();
    let mut block = tile.write::<f32>(0);
    norm_in_place(Level::best(), block.slice(), None, dim as usize, eps);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn formula(x: &[f32], weight: Option<&[f32]>, eps: f32) -> Vec<f64> {
        let mean = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / x.len() as f64;
        let rms = (mean + f64::from(eps)).sqrt();
        x.iter()
            .enumerate()
            .map(|(i, &v)| f64::from(v) / rms * weight.map_or(1.0, |w| f64::from(w[i])))
            .collect()
    }

    proptest! {
        #[test]
        fn agrees_with_the_formula_at_every_level(
            rows in 1usize..4,
            row in prop::collection::vec((-30f32..30.0, -2f32..2.0), 1..150),
            weighted in any::<bool>(),
        ) {
            let dim = row.len();
            let weight: Vec<f32> = row.iter().map(|r| r.1).collect();
            let weight = weighted.then_some(&weight[..]);
            let x: Vec<f32> = (0..rows).flat_map(|r| row.iter().map(move |v| v.0 * (r as f32 + 0.5))).collect();
            let mut scalar = vec![f32::NAN; x.len()];
            norm(Level::Scalar, &x, weight, &mut scalar, dim, 1e-6);
            for (x, got) in x.chunks(dim).zip(scalar.chunks(dim)) {
                for (want, &got) in formula(x, weight, 1e-6).iter().zip(got) {
                    prop_assert!((f64::from(got) - want).abs() <= 1e-6 * want.abs() + 1e-30, "{got} {want}");
                }
            }
            for level in Level::available() {
                let mut out = vec![0.0; x.len()];
                norm(level, &x, weight, &mut out, dim, 1e-6);
                prop_assert_eq!(&out, &scalar);
                let mut out = x.clone();
                norm_in_place(level, &mut out, weight, dim, 1e-6);
                prop_assert_eq!(&out, &scalar);
            }
        }
    }
}
