//! The CPU twin of the quantization of activations.

use crate::lanes::{LANES, Lanes, leveled};
use crate::ops::matmul::codes::META;
use crate::quant::panel::BLOCK;

/// Blocks whose largest magnitude is below this become zeros: its reciprocal would not be finite.
const TINY: f32 = 1e-35;

/// Quantizes whole blocks, as the formula in [`super::quantize_q8`] says.
#[inline(always)]
fn blocks<L: Lanes>(l: L, x: &[f32], q: &mut [i8], meta: &mut [f32]) {
    let (x, _) = x.as_chunks::<BLOCK>();
    let (q, _) = q.as_chunks_mut::<BLOCK>();
    let (meta, _) = meta.as_chunks_mut::<META>();
    for ((x, q), meta) in x.iter().zip(q).zip(meta) {
        let (x, _) = x.as_chunks::<LANES>();
        let [first, last] = [l.load(&x[0]), l.load(&x[1])];
        let largest = f32::from_bits(l.max_magnitude(first, last));
        if largest < TINY {
            (*q, *meta) = ([0; BLOCK], [0.0; META]);
            continue;
        }
        if !largest.is_finite() {
            (*q, *meta) = ([0; BLOCK], [f32::NAN; META]);
            continue;
        }
        let (scale, inverse) = (largest / 127.0, l.splat(127.0 / largest));
        let (q, _) = q.as_chunks_mut::<LANES>();
        let first = l.store_i8(l.mul(first, inverse), &mut q[0]);
        let last = l.store_i8(l.mul(last, inverse), &mut q[1]);
        *meta = [scale, scale * (first + last) as f32, scale * first as f32, scale * last as f32];
    }
}

leveled! {
    /// Quantizes whole blocks of 32: 32 codes and [`META`] values each.
    pub fn quantize(x: &[f32], q: &mut [i8], meta: &mut [f32]) = blocks;
}
