//! How far the logits of one device are from those of another.

use std::ops::ControlFlow;

use dacapo_lm::{Error, Model, Session};

/// Differences between two devices' logits. The mean of each row is taken away before: it changes no probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Positions compared.
    pub positions: usize,
    /// Norm of the differences, by that of the reference.
    pub relative: f64,
    /// Largest difference, in standard deviations of the reference.
    pub largest: f64,
    /// Mean and largest Kullback-Leibler divergence from the reference's distribution, in nats.
    pub divergence: [f64; 2],
    /// Positions at which both think the same token likeliest.
    pub same_top: usize,
}

/// How tokens are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Many at a time, as prompts are.
    Prompt,
    /// One after the other, as they are generated.
    Decode,
}

/// The logits at each of `tokens`, row after row.
pub fn logits(model: &Model, tokens: &[u32], reading: Reading) -> Result<Vec<f32>, Error> {
    let mut session: Session = model.session()?;
    let at_a_time = if reading == Reading::Prompt { tokens.len().max(1) } else { 1 };
    let mut rows = Vec::with_capacity(tokens.len() * model.config().vocab_size);
    for part in tokens.chunks(at_a_time) {
        session.logits(part, &mut |_, row| {
            rows.extend_from_slice(row);
            ControlFlow::Continue(())
        })?;
    }
    Ok(rows)
}

impl Agreement {
    /// Compares rows of `vocabulary` logits. What is no number is as far off as can be.
    pub fn of(found: &[f32], reference: &[f32], vocabulary: usize) -> Self {
        assert_eq!(found.len(), reference.len(), "the same number of logits");
        let (mut largest, mut squares, mut total) = (0_f64, 0.0, 0.0);
        let (mut sum, mut most, mut same_top, mut positions) = (0.0, 0_f64, 0, 0);
        for (a, b) in found.chunks_exact(vocabulary).zip(reference.chunks_exact(vocabulary)) {
            for (x, y) in centred(a).zip(centred(b)) {
                let difference = if (x - y).is_nan() { f64::INFINITY } else { x - y };
                largest = largest.max(difference.abs());
                squares += difference * difference;
                total += y * y;
            }
            let kl: f64 = log_softmax(a).zip(log_softmax(b)).map(|(p, q)| q.exp() * (q - p)).sum();
            let kl = if kl.is_nan() { f64::INFINITY } else { kl };
            sum += kl;
            most = most.max(kl);
            same_top += usize::from(top(a) == top(b));
            positions += 1;
        }
        Agreement {
            positions,
            relative: (squares / total).sqrt(),
            largest: largest / (total / reference.len() as f64).sqrt(),
            divergence: [sum / positions as f64, most],
            same_top,
        }
    }
}

impl std::fmt::Display for Agreement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [mean, most] = self.divergence;
        write!(
            f,
            "relative error {:.2e}, largest {:.2e} deviations, divergence {mean:.1e} (largest {most:.1e}), same top token {}/{}",
            self.relative, self.largest, self.same_top, self.positions
        )
    }
}

fn top(row: &[f32]) -> Option<usize> {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
}

fn centred(row: &[f32]) -> impl Iterator<Item = f64> {
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / row.len() as f64;
    row.iter().map(move |&x| f64::from(x) - mean)
}

fn log_softmax(row: &[f32]) -> impl Iterator<Item = f64> {
    let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    row.iter().map(move |&x| f64::from(x) - max - sum.ln())
}
