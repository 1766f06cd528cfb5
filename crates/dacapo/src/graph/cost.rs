//! What dispatches cost in time, learnt from replays that were timed.

use std::time::Duration;

use super::{CapturedNode, CompiledGraph};
use crate::hal::kernel::OpKind;
use crate::profile::ReplayTimes;

/// Kinds of work, and one more for the dispatch itself.
const TERMS: usize = OpKind::Other as usize + 2;
/// The term of the dispatch itself.
const DISPATCH: usize = TERMS - 1;
/// Rounds of the fit. Each brings the model closer to the times; after these it hardly moves.
const ROUNDS: usize = 200;

/// Estimates how long a dispatch takes: nanoseconds for each dispatch, and for each byte that one of its kind touches.
///
/// A device times groups, not dispatches: [`measured`](Self::measured) finds the rates that explain the groups' times best.
/// They hold for the device that was measured, and for work of the same sizes: it is the answer to "how much of this graph
/// may run in 100 ms", not to "how fast is this kernel".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostModel {
    /// Nanoseconds a byte by kind; `None` for a kind that was not seen, which costs as much as the dearest.
    rates: [Option<f32>; TERMS - 1],
    /// Nanoseconds a dispatch.
    dispatch: f32,
}

/// A group of dispatches: how much there is of each term, and how long it took, in nanoseconds.
type Sample = ([f64; TERMS], f64);

impl CostModel {
    /// A model with these rates in nanoseconds a byte, and this time for each dispatch. Kinds that are not named cost as
    /// much as the dearest that is.
    pub fn new(rates: &[(OpKind, f64)], dispatch: Duration) -> Self {
        let mut model = CostModel { rates: [None; TERMS - 1], dispatch: dispatch.as_nanos() as f32 };
        rates.iter().for_each(|&(kind, rate)| model.rates[kind as usize] = Some(rate.max(0.0) as f32));
        model
    }

    /// The model that explains the times of a graph's replays. Of several replays the slowest time of each group counts:
    /// a budget is to hold on a bad day. `None` if no group was timed.
    pub fn measured(graph: &CompiledGraph, replays: &[ReplayTimes]) -> Option<Self> {
        let mut samples: Vec<Option<Sample>> = Vec::new();
        for group in replays.iter().flat_map(|replay| &replay.groups) {
            let took = group.span.duration().as_nanos() as f64;
            if samples.len() <= group.group {
                samples.resize(group.group + 1, None);
            }
            match &mut samples[group.group] {
                Some((_, slowest)) => *slowest = slowest.max(took),
                new => *new = Some((terms(&graph.graph().nodes()[group.nodes.clone()]), took)),
            }
        }
        fit(&samples.into_iter().flatten().collect::<Vec<_>>())
    }

    /// How long a dispatch takes.
    pub fn estimate(&self, node: &CapturedNode) -> Duration {
        Duration::from_nanos(self.nanoseconds(node) as u64)
    }

    pub(super) fn nanoseconds(&self, node: &CapturedNode) -> f64 {
        let dearest = || self.rates.iter().flatten().copied().fold(0.0, f32::max);
        let rate = self.rates[node.kind() as usize].unwrap_or_else(dearest);
        f64::from(self.dispatch) + f64::from(rate) * (node.bytes_read() + node.bytes_written()) as f64
    }
}

fn terms(nodes: &[CapturedNode]) -> [f64; TERMS] {
    let mut terms = [0.0; TERMS];
    for node in nodes {
        terms[node.kind() as usize] += (node.bytes_read() + node.bytes_written()) as f64;
    }
    terms[DISPATCH] = nodes.len() as f64;
    terms
}

/// Rates that are not negative and under which the samples' times are likeliest: those that minimize the divergence from
/// the times to the estimates, by multiplicative updates (Lee and Seung, "Algorithms for Non-negative Matrix
/// Factorization", 2000). The sum of the estimates is that of the times.
fn fit(samples: &[Sample]) -> Option<CostModel> {
    let time: f64 = samples.iter().map(|(_, took)| took).sum();
    let mut totals = [0.0; TERMS];
    samples
        .iter()
        .for_each(|(terms, _)| totals.iter_mut().zip(terms).for_each(|(total, term)| *total += term));
    if samples.is_empty() {
        return None;
    }
    let seen = totals.map(|total| total > 0.0);
    let terms = seen.iter().filter(|&&seen| seen).count() as f64;
    // Each term begins with an even share of the time.
    let mut rates = totals.map(|total| if total > 0.0 { time / total / terms } else { 0.0 });
    for _ in 0..ROUNDS {
        let mut explained = [0.0; TERMS];
        for (terms, took) in samples {
            let estimate: f64 = terms.iter().zip(&rates).map(|(term, rate)| term * rate).sum();
            if estimate > 0.0 {
                explained.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term * took / estimate);
            }
        }
        for ((rate, explained), total) in rates.iter_mut().zip(explained).zip(totals) {
            if total > 0.0 {
                *rate *= explained / total;
            }
        }
    }
    let mut model = CostModel { rates: [None; TERMS - 1], dispatch: rates[DISPATCH] as f32 };
    for (kind, rate) in model.rates.iter_mut().enumerate() {
        *rate = seen[kind].then_some(rates[kind] as f32);
    }
    Some(model)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// From times that rates explain in full, the fit explains them in full.
        #[test]
        fn the_fit_explains_what_can_be_explained(
            rates in prop::array::uniform3(0.0..4.0_f64),
            groups in prop::collection::vec(prop::array::uniform3(0.0..1e6_f64), 3..40),
        ) {
            let samples: Vec<Sample> = groups.iter().map(|bytes| {
                let mut terms = [0.0; TERMS];
                terms[..3].copy_from_slice(bytes);
                terms[DISPATCH] = 1.0;
                (terms, bytes.iter().zip(&rates).map(|(bytes, rate)| bytes * rate).sum::<f64>() + 500.0)
            }).collect();
            let model = fit(&samples).unwrap();
            let estimate = |(terms, _): &Sample| {
                let rates = model.rates.iter().map(|rate| rate.unwrap_or(0.0)).chain([model.dispatch]);
                terms.iter().zip(rates).map(|(term, rate)| term * f64::from(rate)).sum::<f64>()
            };
            let (found, time) = (samples.iter().map(estimate).sum::<f64>(), samples.iter().map(|s| s.1).sum::<f64>());
            prop_assert!((found - time).abs() <= 1e-5 * time, "the sum is kept: {} for {}", found, time);
            for sample in &samples {
                let (found, took) = (estimate(sample), sample.1);
                prop_assert!((found - took).abs() <= 0.05 * took + 0.01 * time, "{} for {}", found, took);
            }
        }
    }

    #[test]
    fn nothing_is_learnt_from_nothing() {
        assert_eq!(fit(&[]), None);
    }
}
