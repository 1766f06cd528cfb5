//! The CPU twin of argmax.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};

use super::Params;
use crate::lanes::{LANES, Lanes, leveled};
use crate::simd::Level;

pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    let rows = ctx.chunk(ctx.len(1), 1, 4);
    CpuPlan::new(ctx.len(1).div_ceil(rows), 1).split(1, Split::chunks(rows))
}

#[inline(always)]
fn largest_body<L: Lanes>(l: L, x: &[f32]) -> f32 {
    let mut largest = l.splat(f32::NEG_INFINITY);
    for part in x.chunks(LANES) {
        // In this order a NaN in `x` leaves what is there.
        largest = l.max(l.load_part(part, f32::NEG_INFINITY), largest);
    }
    l.max_lane(largest)
}

leveled! {
    /// The largest element that is a number; minus infinity if there is none.
    pub(crate) fn largest(x: &[f32]) -> f32 = largest_body;
}

/// First index of the largest element.
pub(crate) fn argmax(level: Level, x: &[f32]) -> usize {
    let largest = largest(level, x);
    x.iter().position(|&v| v == largest).unwrap_or(0)
}

pub(super) fn run(tile: &Tile<'_>) {
    let dim = tile.params::<Params>().dim as usize;
    let x = tile.read::<f32>(0);
    let mut block = tile.write::<u32>(1);
    let start = block.first_col() * dim;
    for (row, out) in x[start..].chunks_exact(dim).zip(block.slice()) {
        *out = argmax(Level::best(), row) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_first_of_the_largest(x in prop::collection::vec(0u8..9, 1..100)) {
            // 8 stands for NaN.
            let x: Vec<f32> = x.iter().map(|&v| if v == 8 { f32::NAN } else { f32::from(v) - 4.0 }).collect();
            let mut want = 0;
            for (i, v) in x.iter().enumerate() {
                if *v > x[want] || (x[want].is_nan() && !v.is_nan()) {
                    want = i;
                }
            }
            for level in Level::available() {
                prop_assert_eq!(argmax(level, &x), want);
            }
        }
    }

    #[test]
    fn minus_infinity_beats_nan() {
        assert_eq!(argmax(Level::best(), &[f32::NAN, f32::NEG_INFINITY, f32::NEG_INFINITY]), 1);
        assert_eq!(argmax(Level::best(), &[f32::NAN; 3]), 0);
    }
}
