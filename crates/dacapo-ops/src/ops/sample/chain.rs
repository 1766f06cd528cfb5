//! The chain of filters, and the draw.

use super::SampleParams;
use super::philox::below;
use super::weight::{ONE_BITS, Rate, weight};
use crate::ops::argmax::argmax_row;
use crate::ops::top_k::{Key, largest};
use crate::simd::Level;

/// Applies penalties to biased logits, in place.
pub(super) fn penalize(p: &SampleParams, logits: &mut [f32], counts: &[u32]) {
    let none = p.repetition_penalty == 1.0 && p.frequency_penalty == 0.0 && p.presence_penalty == 0.0;
    if none {
        return;
    }
    for (logit, &count) in logits.iter_mut().zip(counts) {
        if count == 0 {
            continue;
        }
        if *logit > 0.0 {
            *logit /= p.repetition_penalty;
        } else {
            *logit *= p.repetition_penalty;
        }
        *logit -= count as f32 * p.frequency_penalty + p.presence_penalty;
    }
}

/// The token for these logits, after bias and penalties.
pub(super) fn choose(p: &SampleParams, logits: &[f32], position: u32) -> usize {
    let best = argmax_row(Level::best(), logits);
    let max = logits[best];
    // Nothing to draw among: all is NaN or minus infinity, or one is infinite.
    if p.temperature < f32::MIN_POSITIVE || p.temperature.is_nan() || !max.is_finite() {
        return best;
    }
    let mut kept = candidates(p, logits, max);
    if p.min_p > 0.0 {
        let (floor, rate) = (part(p.min_p, 1 << ONE_BITS), Rate::new(1.0));
        kept.retain(|&i| weight(logits[i] - max, rate) >= floor);
    }
    draw(p, logits, max, &kept, position).unwrap_or(best)
}

/// `fraction * whole`, rounded down; all of it from 1 on.
fn part(fraction: f32, whole: u64) -> u64 {
    if fraction >= 1.0 {
        return whole;
    }
    let fraction = (fraction * 4_294_967_296.0) as u32;
    ((u128::from(fraction) * u128::from(whole)) >> 32) as u64
}

/// Tokens that top-k and top-p keep, in order of their index.
fn candidates(p: &SampleParams, logits: &[f32], max: f32) -> Vec<usize> {
    let rate = Rate::new(1.0);
    let weight = |i: usize| weight(logits[i] - max, rate);
    let limited = p.top_k > 0 && (p.top_k as usize) < logits.len();
    let order = |k: usize| -> Vec<usize> { largest(logits, k).iter().map(|key| key.index()).collect() };
    let mut kept = if limited { order(p.top_k as usize) } else { Vec::new() };
    if p.top_p < 1.0 {
        let total: u64 =
            if limited { kept.iter().map(|&i| weight(i)).sum() } else { (0..logits.len()).map(weight).sum() };
        let goal = part(p.top_p, total).max(1);
        if !limited {
            kept = order(FIRST_LOOK);
        }
        let mut reached = reach(&kept, weight, goal);
        if reached.is_none() {
            // Most often a few tokens hold nearly all, but not here.
            let mut keys: Vec<Key> = logits.iter().enumerate().map(|(i, &v)| Key::new(v, i)).collect();
            keys.sort_unstable_by(|a, b| b.cmp(a));
            kept = keys.into_iter().map(Key::index).collect();
            reached = reach(&kept, weight, goal);
        }
        kept.truncate(reached.unwrap_or(kept.len()));
    } else if !limited {
        return (0..logits.len()).collect();
    }
    kept.sort_unstable();
    kept
}

/// Tokens that top-p looks at before it sorts them all.
const FIRST_LOOK: usize = 256;

/// How many of the tokens it takes for their weights to reach `goal`.
fn reach(tokens: &[usize], weight: impl Fn(usize) -> u64, goal: u64) -> Option<usize> {
    let mut sum = 0;
    let at = tokens.iter().position(|&i| {
        sum += weight(i);
        sum >= goal
    })?;
    Some(at + 1)
}

/// Draws one of the kept tokens with its probability at the temperature.
fn draw(p: &SampleParams, logits: &[f32], max: f32, kept: &[usize], position: u32) -> Option<usize> {
    let rate = Rate::new(p.temperature);
    let mut sum = 0;
    let sums: Vec<u64> = kept
        .iter()
        .map(|&i| {
            sum += weight(logits[i] - max, rate);
            sum
        })
        .collect();
    let goal = below(sum, [p.seed_low, p.seed_high], position);
    kept.get(sums.partition_point(|&s| s <= goal)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The chain as its definition reads, on a full sort; the probabilities of all tokens.
    fn probabilities(p: &SampleParams, logits: &[f32]) -> Vec<f64> {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if p.top_k > 0 {
            order.truncate(p.top_k as usize);
        }
        let max = logits[order[0]];
        let softmax = |order: &[usize], t: f64| -> Vec<f64> {
            let w: Vec<f64> = order.iter().map(|&i| (f64::from(logits[i] - max) / t).exp()).collect();
            let sum: f64 = w.iter().sum();
            w.iter().map(|w| w / sum).collect()
        };
        if p.top_p < 1.0 {
            let mut sum = 0.0;
            let probs = softmax(&order, 1.0);
            let n = probs.iter().take_while(|&&v| {
                let before = sum;
                sum += v;
                before < f64::from(p.top_p) - 1e-12
            });
            let n = n.count();
            order.truncate(n.max(1));
        }
        let probs = softmax(&order, 1.0);
        let order: Vec<usize> = order
            .iter()
            .zip(&probs)
            .filter(|&(_, &v)| v >= f64::from(p.min_p) * probs[0] * (1.0 - 1e-12))
            .map(|(&i, _)| i)
            .collect();
        let mut all = vec![0.0; logits.len()];
        for (i, v) in order.iter().zip(softmax(&order, f64::from(p.temperature))) {
            all[*i] = v;
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn draws_follow_the_definition(
            logits in prop::collection::vec(-4f32..4.0, 2..30),
            long in any::<bool>(),
            top_k in prop_oneof![Just(0u32), 1u32..12],
            top_p in prop_oneof![Just(1f32), 0.2f32..0.95],
            min_p in prop_oneof![Just(0f32), 0.02f32..0.5],
            temperature in 0.4f32..2.0,
            seed in any::<u64>(),
        ) {
            // Longer than the first look of top-p, with the mass among many.
            let logits: Vec<f32> = if long {
                (0..600).map(|i| logits[i % logits.len()] * 0.2 + (i as f32) * 1e-3).collect()
            } else {
                logits
            };
            let p = SampleParams { temperature, top_k, top_p, min_p, ..SampleParams::GREEDY }.with_seed(seed);
            let want = probabilities(&p, &logits);
            let draws = 4000;
            let mut seen = vec![0u32; logits.len()];
            for position in 0..draws {
                seen[choose(&p, &logits, position)] += 1;
            }
            for (i, (&n, &want)) in seen.iter().zip(&want).enumerate() {
                let got = f64::from(n) / f64::from(draws);
                let spread = 6.0 * (want * (1.0 - want) / f64::from(draws)).sqrt();
                prop_assert!((got - want).abs() <= spread + 1e-9, "token {i}: {got}, not {want}");
            }
        }
    }

    #[test]
    fn the_same_seed_and_position_give_the_same_token() {
        let logits: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        let p = SampleParams { temperature: 1.0, ..SampleParams::GREEDY }.with_seed(11);
        let all: Vec<usize> = (0..50).map(|position| choose(&p, &logits, position)).collect();
        let again: Vec<usize> = (0..50).rev().map(|position| choose(&p, &logits, position)).collect();
        assert!(all.iter().eq(again.iter().rev()));
        let other: Vec<usize> = (0..50).map(|position| choose(&p.with_seed(12), &logits, position)).collect();
        assert_ne!(all, other);
    }

    #[test]
    fn degenerate_logits_give_a_token() {
        let p = SampleParams { temperature: 1.0, top_p: 0.9, min_p: 0.1, ..SampleParams::GREEDY };
        assert_eq!(choose(&p, &[f32::NAN; 4], 0), 0);
        assert_eq!(choose(&p, &[f32::NEG_INFINITY; 4], 0), 0);
        assert_eq!(choose(&p, &[0.0, f32::INFINITY, 1.0], 0), 1);
        assert_eq!(choose(&p, &[f32::NAN, 3.0, f32::NAN], 0), 1);
        assert_eq!(choose(&SampleParams { top_p: 0.0, ..p }, &[1.0, 2.0, 1.5], 3), 1);
        assert_eq!(choose(&SampleParams { temperature: f32::NAN, ..p }, &[1.0, 2.0, 1.5], 3), 1);
        assert_eq!(
            choose(&SampleParams { top_p: f32::NAN, min_p: f32::NAN, ..p }, &[-900.0, 2.0, -900.0], 3),
            1
        );
    }

    #[test]
    fn penalties_follow_their_formulas() {
        let p = SampleParams {
            repetition_penalty: 2.0,
            frequency_penalty: 0.25,
            presence_penalty: 0.5,
            ..SampleParams::GREEDY
        };
        let mut logits = [3.0, -3.0, 3.0, 0.0];
        penalize(&p, &mut logits, &[0, 1, 2, 1]);
        assert_eq!(logits, [3.0, -6.75, 0.5, -0.75]);
        let mut logits = [3.0, -3.0];
        penalize(&SampleParams::GREEDY, &mut logits, &[4, 4]);
        assert_eq!(logits, [3.0, -3.0]);
    }
}
