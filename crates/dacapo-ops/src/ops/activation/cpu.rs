//! The CPU twins of the activation functions.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};

use super::{ActivationFn, Params};
use crate::check::plan_elements;
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::simd::Level;

pub(super) fn plan<const OUT: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_elements(ctx, OUT)
}

#[inline(always)]
fn silu<L: Lanes>(l: L, x: L::V) -> L::V {
    math::swish(l, x, x)
}

#[inline(always)]
fn gelu<L: Lanes>(l: L, x: L::V) -> L::V {
    let one_plus_erf = math::one_plus_erf(l, l.mul(x, l.splat(std::f32::consts::FRAC_1_SQRT_2)));
    l.mul(l.mul(x, l.splat(0.5)), one_plus_erf)
}

/// Since (1 + tanh u) / 2 = 1 / (1 + e^-2u), the approximation is x / (1 + e^-2u).
#[inline(always)]
fn gelu_tanh<L: Lanes>(l: L, x: L::V) -> L::V {
    let two_u = 2.0 * (2.0 / std::f32::consts::PI).sqrt();
    let cubic = l.fma(l.mul(x, x), l.splat(two_u * 0.044_715), l.splat(two_u));
    math::swish(l, x, l.mul(x, cubic))
}

#[inline(always)]
fn map<L: Lanes>(l: L, x: &[f32], up: Option<&[f32]>, out: &mut [f32], f: impl Fn(L::V) -> L::V) {
    for (i, (x, out)) in x.chunks(LANES).zip(out.chunks_mut(LANES)).enumerate() {
        let mut v = f(l.load_part(x, 0.0));
        if let Some(up) = up {
            v = l.mul(v, l.load_part(&up[i * LANES..][..x.len()], 0.0));
        }
        l.store_part(v, out);
    }
}

#[inline(always)]
fn apply_body<L: Lanes>(l: L, function: ActivationFn, x: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
    match function {
        ActivationFn::Silu => map(l, x, up, out, |v| silu(l, v)),
        ActivationFn::Gelu => map(l, x, up, out, |v| gelu(l, v)),
        ActivationFn::GeluTanh => map(l, x, up, out, |v| gelu_tanh(l, v)),
        ActivationFn::Sigmoid => map(l, x, up, out, |v| math::sigmoid(l, v)),
    }
}

leveled! {
    /// `out = function(x)`, times `up` where there is one.
    pub(crate) fn apply(function: ActivationFn, x: &[f32], up: Option<&[f32]>, out: &mut [f32]) = apply_body;
}

pub(super) fn run(tile: &Tile<'_>) {
    let params: Params = tile.params();
    let mut block = tile.write::<f32>(1);
    let start = block.first_col();
    let out = block.slice();
    let x = &tile.read::<f32>(0)[start..][..out.len()];
    apply(Level::best(), params.function(), x, None, out);
}

pub(super) fn run_gated(tile: &Tile<'_>) {
    let params: Params = tile.params();
    let mut block = tile.write::<f32>(2);
    let start = block.first_col();
    let out = block.slice();
    let gate = &tile.read::<f32>(0)[start..][..out.len()];
    let up = &tile.read::<f32>(1)[start..][..out.len()];
    apply(Level::best(), params.function(), gate, Some(up), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn formula(function: ActivationFn, x: f64) -> f64 {
        match function {
            ActivationFn::Silu => x / (1.0 + (-x).exp()),
            // 1 + erf is checked beside its definition; here its relation to GELU, through a fine integral of
            // the normal density.
            ActivationFn::Gelu => {
                let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let steps = 2000;
                let h = x / f64::from(steps);
                let inner: f64 = (1..steps).map(|i| density(f64::from(i) * h)).sum();
                x * (0.5 + h * (inner + (density(0.0) + density(x)) / 2.0))
            }
            ActivationFn::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
            }
            ActivationFn::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_formula_at_every_level(
            rows in prop::collection::vec((-12f32..12.0, -3f32..3.0), 1..70),
            which in 0usize..4,
            gated in any::<bool>(),
        ) {
            let function = ActivationFn::ALL[which];
            let (x, up): (Vec<f32>, Vec<f32>) = rows.iter().copied().unzip();
            let up = gated.then_some(&up[..]);
            let mut scalar = vec![f32::NAN; x.len()];
            apply(Level::Scalar, function, &x, up, &mut scalar);
            for (i, (&x, &got)) in x.iter().zip(&scalar).enumerate() {
                let up = up.map_or(1.0, |u| f64::from(u[i]));
                let want = formula(function, f64::from(x)) * up;
                let slack = 4e-7 * (1.0 + f64::from(x).abs()) * up.abs();
                prop_assert!((f64::from(got) - want).abs() <= slack + 1e-30, "{function:?}({x}) = {got}, not {want}");
            }
            for level in Level::available() {
                let mut out = vec![0.0; x.len()];
                apply(level, function, &x, up, &mut out);
                prop_assert_eq!(&out, &scalar);
            }
        }
    }

    #[test]
    fn far_values_stay_finite() {
        let x = [-1e30, -200.0, -60.0, 60.0, 200.0, 1e10];
        for function in ActivationFn::ALL {
            let mut out = [f32::NAN; 6];
            apply(Level::best(), function, &x, None, &mut out);
            assert!(out[..3].iter().all(|v| v.abs() < 1e-5), "{function:?} {out:?}");
            let far = if function == ActivationFn::Sigmoid { [1.0; 3] } else { [60.0, 200.0, 1e10] };
            assert_eq!(out[3..], far, "{function:?}");
        }
    }
}
