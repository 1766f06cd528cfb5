//! The CPU twin of top-k.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};

use super::Params;

/// An element and its index as one number: greater elements are greater, of equal ones the one with the lower
/// index, and NaN is least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn new(value: f32, index: usize) -> Self {
        // -0 and 0 are equal.
        let bits = (value + 0.0).to_bits();
        let ordered = if value.is_nan() {
            0
        } else if bits >> 31 == 1 {
            !bits
        } else {
            bits | 1 << 31
        };
        Key(u64::from(ordered) << 32 | u64::from(!(index as u32)))
    }

    pub(crate) fn index(self) -> usize {
        !(self.0 as u32) as usize
    }
}

/// The `k` largest elements, largest first.
pub(crate) fn largest(x: &[f32], k: usize) -> Vec<Key> {
    let k = k.min(x.len());
    if k == 0 {
        return Vec::new();
    }
    // The heap's head is the least of those kept; most elements are turned away by one comparison with it.
    let mut kept: BinaryHeap<Reverse<Key>> =
        x[..k].iter().enumerate().map(|(i, &v)| Reverse(Key::new(v, i))).collect();
    let mut least = x[kept.peek().map_or(0, |key| key.0.index())];
    for (i, &v) in x.iter().enumerate().skip(k) {
        // Elements equal to the least come later and lose; NaN is greater than nothing.
        if v > least || (least.is_nan() && !v.is_nan()) {
            if let Some(mut head) = kept.peek_mut() {
                *head = Reverse(Key::new(v, i));
            }
            least = x[kept.peek().map_or(0, |key| key.0.index())];
        }
    }
    kept.into_sorted_vec().into_iter().map(|key| key.0).collect()
}

pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let k = p.k as usize;
    CpuPlan::new(1, ctx.len(1) / k).split(1, Split::rows(k, 1)).split(2, Split::rows(k, 1))
}

pub(super) fn run(tile: &Tile<'_>) {
    let p: Params = tile.params();
    let row = &tile.read::<f32>(0)[tile.y() * p.dim as usize..][..p.dim as usize];
    let (mut values, mut indices) = (tile.write::<f32>(1), tile.write::<u32>(2));
    let keys = largest(row, p.k as usize);
    for ((key, value), index) in keys.iter().zip(values.slice()).zip(indices.slice()) {
        *value = row[key.index()];
        *index = key.index() as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_stable_sort(x in prop::collection::vec(0u8..12, 1..80), k in 1usize..90) {
            let values = [f32::NAN, f32::NEG_INFINITY, -7.5, -1e-40, -0.0, 0.0, 1e-40, 1.0, 1.5, 3e38, f32::INFINITY, 2.0];
            let x: Vec<f32> = x.iter().map(|&v| values[usize::from(v)]).collect();
            let mut want: Vec<usize> = (0..x.len()).collect();
            want.sort_by(|&a, &b| match (x[a].is_nan(), x[b].is_nan()) {
                (false, false) => x[b].partial_cmp(&x[a]).unwrap_or(std::cmp::Ordering::Equal),
                (a, b) => a.cmp(&b),
            });
            want.truncate(k);
            let got: Vec<usize> = largest(&x, k).iter().map(|key| key.index()).collect();
            prop_assert_eq!(got, want);
        }
    }
}
