//! The CPU twin of the quantization of activations.

use crate::ops::matmul::codes::META;
use crate::quant::panel::BLOCK;
use crate::simd::Level;

/// Blocks whose largest magnitude is below this become zeros: its reciprocal would not be finite.
const TINY: f32 = 1e-35;

/// Quantizes one block, as the formula in [`super::quantize_q8`] says.
#[inline(always)]
fn block(x: &[f32; BLOCK], q: &mut [i8; BLOCK], meta: &mut [f32; META]) {
    // Magnitudes order like their bits, and NaN above everything.
    let bits = x.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
    let largest = f32::from_bits(bits);
    if largest < TINY {
        (*q, *meta) = ([0; BLOCK], [0.0; META]);
        return;
    }
    if !largest.is_finite() {
        (*q, *meta) = ([0; BLOCK], [f32::NAN; META]);
        return;
    }
    let (scale, inverse) = (largest / 127.0, 127.0 / largest);
    let mut sums = [0i32; 2];
    for (i, (x, q)) in x.iter().zip(q.iter_mut()).enumerate() {
        // Rounds to nearest even: a sum near 1.5 * 2^23 has no room for a fraction.
        let rounded = (x * inverse + 12_582_912.0).to_bits() as i32 - 0x4b40_0000;
        let code = rounded.clamp(-127, 127);
        *q = code as i8;
        sums[i / 16] += code;
    }
    let [first, last] = sums;
    *meta = [scale, scale * (first + last) as f32, scale * first as f32, scale * last as f32];
}

#[inline(always)]
fn blocks(x: &[f32], q: &mut [i8], meta: &mut [f32]) {
    let (x, _) = x.as_chunks::<BLOCK>();
    let (q, _) = q.as_chunks_mut::<BLOCK>();
    let (meta, _) = meta.as_chunks_mut::<META>();
    for ((x, q), meta) in x.iter().zip(q).zip(meta) {
        block(x, q, meta);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2(x: &[f32], q: &mut [i8], meta: &mut [f32]) {
    blocks(x, q, meta)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn avx512(x: &[f32], q: &mut [i8], meta: &mut [f32]) {
    blocks(x, q, meta)
}

/// Quantizes whole blocks of 32: 32 codes and [`META`] values each. The compiler makes vector code of one plain loop
/// for each level. Panics if the processor lacks the level.
pub fn quantize(level: Level, x: &[f32], q: &mut [i8], meta: &mut [f32]) {
    assert!(level.is_available(), "{} is not available here", level.name());
    match level {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level is available.
        Level::Avx512 => unsafe { avx512(x, q, meta) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level is available.
        Level::Avx2 => unsafe { avx2(x, q, meta) },
        _ => blocks(x, q, meta),
    }
}
