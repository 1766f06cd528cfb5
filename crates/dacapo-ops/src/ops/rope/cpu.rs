//! The CPU twin of rotary position embedding.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};

use super::Params;
use crate::check::plan_rows;

pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    plan_rows(ctx, p.heads as usize * p.dim as usize, &[0]).scratch(2 * ctx.len(1))
}

/// Cosines and sines, times `factor`, of one position's angles.
pub(crate) fn angles(position: u32, inv_freq: &[f32], factor: f32, cos: &mut [f32], sin: &mut [f32]) {
    for ((cos, sin), &f) in cos.iter_mut().zip(sin).zip(inv_freq) {
        let angle = position as f32 * f;
        *cos = angle.cos() * factor;
        *sin = angle.sin() * factor;
    }
}

/// Rotates one head.
pub(crate) fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32], interleaved: bool) {
    let half = cos.len();
    if interleaved {
        for ((pair, &c), &s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
            let (a, b) = (pair[0], pair[1]);
            pair[0] = a * c - b * s;
            pair[1] = a * s + b * c;
        }
    } else {
        let (first, second) = head.split_at_mut(half);
        for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
        }
    }
}

pub(super) fn run(tile: &Tile<'_>) {
    let p: Params = tile.params();
    let (heads, dim) = (p.heads as usize, p.dim as usize);
    let inv_freq = tile.read::<f32>(1);
    let start = tile.read::<u32>(2)[0];
    let (cos, sin) = tile.scratch()[..2 * inv_freq.len()].split_at_mut(inv_freq.len());
    let mut block = tile.write::<f32>(0);
    let first = block.first_row() as u32;
    for (t, token) in (first..).zip(block.slice().chunks_exact_mut(heads * dim)) {
        angles(start.wrapping_add(t), inv_freq, p.attention_factor, cos, sin);
        for head in token.chunks_exact_mut(dim) {
            rotate(head, cos, sin, p.interleaved != 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rotates_by_the_angle(
            pairs in prop::collection::vec((-3f32..3.0, -3f32..3.0, 1e-6f32..1.0), 1..40),
            rest in prop::collection::vec(-3f32..3.0, 0..5),
            position in 0u32..200_000,
            interleaved in any::<bool>(),
        ) {
            let half = pairs.len();
            let inv_freq: Vec<f32> = pairs.iter().map(|p| p.2).collect();
            let at = |i: usize| if interleaved { (2 * i, 2 * i + 1) } else { (i, i + half) };
            let mut head = vec![0.0; 2 * half];
            for (i, pair) in pairs.iter().enumerate() {
                head[at(i).0] = pair.0;
                head[at(i).1] = pair.1;
            }
            head.extend(&rest);
            let (mut cos, mut sin) = (vec![0.0; half], vec![0.0; half]);
            angles(position, &inv_freq, 1.25, &mut cos, &mut sin);
            rotate(&mut head, &cos, &sin, interleaved);
            for (i, &(a, b, f)) in pairs.iter().enumerate() {
                let (s, c) = f64::from(position as f32 * f).sin_cos();
                let (a, b) = (f64::from(a) * 1.25, f64::from(b) * 1.25);
                let slack = 5e-7 * (a.abs() + b.abs());
                prop_assert!((f64::from(head[at(i).0]) - (a * c - b * s)).abs() <= slack);
                prop_assert!((f64::from(head[at(i).1]) - (a * s + b * c)).abs() <= slack);
            }
            prop_assert_eq!(&head[2 * half..], &rest[..]);
        }
    }
}
