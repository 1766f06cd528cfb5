//! The gated unit of gpt-oss.

use dacapo::cpu::Tile;
use dacapo::gpu::{GpuTwin, Wgsl};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Dispatch, Kernel, OpKind, Result};

use crate::check;
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::simd::Level;
use crate::wgsl::{EACH, INVOCATION, MATH, each};

/// See [`gated_clamped`].
pub static GATED_CLAMPED: Kernel = Kernel {
    name: "gated_clamped",
    kind: OpKind::Activation,
    bindings: &[Binding::read("gate"), Binding::read("up"), Binding::write("out")],
    cpu: CpuTwin { plan: super::cpu::plan::<2>, run },
    gpu: Some(&TWIN),
};

static TWIN: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("gated_clamped", &[include_str!("clamped.wgsl"), INVOCATION, MATH, EACH])],
    plan: |context| each(context.limits(), context.len(0)),
};

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    alpha: f32,
    limit: f32,
}

/// `out = g sigmoid(alpha g) (u + 1)` with `g = min(gate, limit)` and `u = clamp(up, -limit, limit)`, element by element
/// (gpt-oss, 2025). All are F32 with as many elements.
///
/// # Errors
/// An element type or a length that does not fit.
pub fn gated_clamped(
    enc: &mut CommandEncoder,
    gate: &Buffer,
    up: &Buffer,
    out: &Buffer,
    alpha: f32,
    limit: f32,
) -> Result<()> {
    let name = GATED_CLAMPED.name;
    check::f32s(name, "gate", gate, gate.len())?;
    check::f32s(name, "up", up, gate.len())?;
    check::f32s(name, "out", out, gate.len())?;
    let dispatch = Dispatch::new(&GATED_CLAMPED).buffer(gate).buffer(up).buffer(out);
    enc.dispatch(dispatch.bytes(&Params { alpha, limit }))
}

#[inline(always)]
fn apply_body<L: Lanes>(l: L, gate: &[f32], up: &[f32], out: &mut [f32], alpha: f32, limit: f32) {
    let (most, least, alpha, one) = (l.splat(limit), l.splat(-limit), l.splat(alpha), l.splat(1.0));
    for ((gate, up), out) in gate.chunks(LANES).zip(up.chunks(LANES)).zip(out.chunks_mut(LANES)) {
        // NaN stays what it is: comparisons with it are false.
        let g = l.min(most, l.load_part(gate, 0.0));
        let u = l.max(least, l.min(most, l.load_part(up, 0.0)));
        l.store_part(l.mul(math::swish(l, g, l.mul(alpha, g)), l.add(u, one)), out);
    }
}

leveled! {
    /// The formula of [`gated_clamped`].
    fn apply(gate: &[f32], up: &[f32], out: &mut [f32], alpha: f32, limit: f32) = apply_body;
}

fn run(tile: &Tile<'_>) {
    let Params { alpha, limit } = tile.params();
    let mut block = tile.write::<f32>(2);
    let start = block.first_col();
    let out = block.slice();
    let gate = &tile.read::<f32>(0)[start..][..out.len()];
    let up = &tile.read::<f32>(1)[start..][..out.len()];
    apply(Level::best(), gate, up, out, alpha, limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::normal;

    #[test]
    fn agrees_with_the_formula_at_every_level() {
        let (gate, up): (Vec<f32>, Vec<f32>) =
            normal(1, 203).iter().zip(normal(2, 203)).map(|(g, u)| (5.0 * g, 5.0 * u)).unzip();
        for level in Level::available() {
            let mut out = vec![f32::NAN; gate.len()];
            apply(level, &gate, &up, &mut out, 1.702, 7.0);
            for ((&g, &u), found) in gate.iter().zip(&up).zip(out) {
                let (g, u) = (f64::from(g).min(7.0), f64::from(u).clamp(-7.0, 7.0));
                let want = g / (1.0 + (-1.702 * g).exp()) * (u + 1.0);
                assert!((f64::from(found) - want).abs() < 1e-5, "{found}, not {want}");
            }
        }
        let mut out = [0.0; 2];
        apply(Level::best(), &[f32::NAN, 1.0], &[1.0, f32::NAN], &mut out, 1.702, 7.0);
        assert!(out.iter().all(|v| v.is_nan()));
    }
}
