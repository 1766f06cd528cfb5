//! The CPU twin of layer normalization.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};

use super::Params;
use crate::check::plan_rows;
use crate::lanes::{LANES, Lanes, leveled};
use crate::simd::Level;

pub(super) fn plan<const OUT: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_rows(ctx, ctx.params::<Params>().dim as usize, &[OUT])
}

/// Mean and 1 / sqrt(variance + eps), in two passes: the sum of squares would cancel.
#[inline(always)]
fn moments<L: Lanes>(l: L, x: &[f32], eps: f32) -> (f32, f32) {
    let mut sum = l.splat(0.0);
    for part in x.chunks(LANES) {
        sum = l.add(sum, l.load_part(part, 0.0));
    }
    let mean = l.sum(sum) / x.len() as f32;
    let mut squares = l.splat(0.0);
    for part in x.chunks(LANES) {
        let v = l.sub(l.load_part(part, mean), l.splat(mean));
        squares = l.fma(v, v, squares);
    }
    (mean, 1.0 / (l.sum(squares) / x.len() as f32 + eps).sqrt())
}

#[inline(always)]
fn norm_body<L: Lanes>(
    l: L,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    out: &mut [f32],
    dim: usize,
    eps: f32,
) {
    for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
        let (mean, inverse) = moments(l, x, eps);
        for (i, (x, out)) in x.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
            let part = |all: &[f32]| l.load_part(&all[i * LANES..][..x.len()], 0.0);
            let v = l.mul(l.sub(l.load_part(x, 0.0), l.splat(mean)), l.splat(inverse));
            let bias = bias.map_or(l.splat(0.0), part);
            l.store_part(l.fma(v, part(weight), bias), out);
        }
    }
}

leveled! {
    /// Normalizes each row of `dim` elements.
    pub(crate) fn norm(
        x: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        out: &mut [f32],
        dim: usize,
        eps: f32,
    ) = norm_body;
}

fn run_with(tile: &Tile<'_>, bias: Option<&[f32]>, output: usize) {
    let Params { dim, eps } = tile.params();
    let mut block = tile.write::<f32>(output);
    let start = block.first_row() * dim as usize;
    let out = block.slice();
    let x = &tile.read::<f32>(0)[start..][..out.len()];
    norm(Level::best(), x, tile.read(1), bias, out, dim as usize, eps);
}

pub(super) fn run(tile: &Tile<'_>) {
    run_with(tile, None, 2);
}

pub(super) fn run_bias(tile: &Tile<'_>) {
    run_with(tile, Some(tile.read(2)), 3);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_formula_at_every_level(
            row in prop::collection::vec((-3f32..3.0, -2f32..2.0, -2f32..2.0), 1..150),
            offset in -100f32..100.0,
            biased in any::<bool>(),
        ) {
            let dim = row.len();
            let x: Vec<f32> = row.iter().map(|r| r.0 + offset).chain(row.iter().map(|r| r.0 * 3.0)).collect();
            let (weight, bias): (Vec<f32>, Vec<f32>) = row.iter().map(|r| (r.1, r.2)).unzip();
            let bias = biased.then_some(&bias[..]);
            let mut scalar = vec![f32::NAN; x.len()];
            norm(Level::Scalar, &x, &weight, bias, &mut scalar, dim, 1e-5);
            for (x, got) in x.chunks(dim).zip(scalar.chunks(dim)) {
                let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
                let mean = x.iter().sum::<f64>() / dim as f64;
                let var = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / dim as f64;
                let inverse = 1.0 / (var + 1e-5).sqrt();
                for i in 0..dim {
                    let want = (x[i] - mean) * inverse * f64::from(weight[i]) + bias.map_or(0.0, |b| f64::from(b[i]));
                    // The mean itself is rounded, relative to the size of what it is the mean of.
                    let slack = 1e-6 * (want.abs() + 1.0) + 4e-7 * (mean.abs() + 3.0) * inverse * 2.0;
                    prop_assert!((f64::from(got[i]) - want).abs() <= slack, "{} {want}", got[i]);
                }
            }
            for level in Level::available() {
                let mut out = vec![0.0; x.len()];
                norm(level, &x, &weight, bias, &mut out, dim, 1e-5);
                prop_assert_eq!(&out, &scalar);
            }
        }
    }
}
