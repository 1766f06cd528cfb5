//! Perplexity: how well a model foresees a text.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::session::Session;

/// How well a text was foreseen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// Mean negative logarithm of the probability of a token, in nats.
    pub mean_nll: f64,
    /// Tokens that were scored.
    pub scored: usize,
}

impl Perplexity {
    /// `exp(mean_nll)`.
    pub fn value(&self) -> f64 {
        self.mean_nll.exp()
    }
}

/// The perplexity of `tokens`, read in windows of `window` tokens that do not overlap, each with an empty context. The
/// first token of a window is not scored.
///
/// If `progress`, called with the tokens read and all of them, breaks, the result is that of the tokens read.
///
/// # Errors
/// [`Error::Option`] if there is no token to score or the window does not fit the context; else as
/// [`Session::logits`].
pub fn perplexity(
    session: &mut Session,
    tokens: &[u32],
    window: usize,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Perplexity> {
    check(session.context(), tokens, window)?;
    let (mut nll, mut scored, mut read) = (0.0, 0, 0);
    for part in tokens.chunks(window) {
        session.truncate(0);
        session.logits(part, &mut |index, logits| {
            if let Some(&next) = part.get(index + 1) {
                nll -= log_probability(logits, next as usize);
                scored += 1;
            }
            ControlFlow::Continue(())
        })?;
        read += part.len();
        if progress(read, tokens.len()).is_break() {
            break;
        }
    }
    Ok(Perplexity { mean_nll: nll / scored.max(1) as f64, scored })
}

/// How far a model is from the one that it was made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// How well the reference foresees the text.
    pub reference: Perplexity,
    /// How well the other one does.
    pub candidate: Perplexity,
    /// Mean over all tokens of the Kullback-Leibler divergence of the candidate's probabilities from the reference's, in
    /// nats.
    pub mean_divergence: f64,
    /// The largest.
    pub max_divergence: f64,
    /// Share of the tokens for which both find the same one likeliest.
    pub same_likeliest: f64,
}

/// Tokens whose logits of the reference are held at once.
const COMPARED: usize = 32;

/// Compares two models with the same vocabulary on a text, in windows as [`perplexity`] reads it. `None` if `progress`
/// broke.
///
/// # Errors
/// As [`perplexity`]; [`Error::Option`] if the vocabularies differ in size.
pub fn compare(
    reference: &mut Session,
    candidate: &mut Session,
    tokens: &[u32],
    window: usize,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Option<Comparison>> {
    check(reference.context().min(candidate.context()), tokens, window)?;
    let (mut nll, mut scored, mut read) = ([0.0; 2], 0, 0);
    let (mut sum, mut max, mut same) = (0.0, 0.0f64, 0);
    for part in tokens.chunks(window) {
        reference.truncate(0);
        candidate.truncate(0);
        for start in (0..part.len()).step_by(COMPARED) {
            let piece = &part[start..(start + COMPARED).min(part.len())];
            let mut rows: Vec<Vec<f32>> = Vec::with_capacity(piece.len());
            reference.logits(piece, &mut |_, logits| {
                rows.push(logits.to_vec());
                ControlFlow::Continue(())
            })?;
            let mut differ = None;
            candidate.logits(piece, &mut |index, logits| {
                let Some(expected) = rows.get(index).filter(|row| row.len() == logits.len()) else {
                    differ = Some(logits.len());
                    return ControlFlow::Break(());
                };
                let divergence = divergence(expected, logits);
                sum += divergence;
                max = max.max(divergence);
                same += usize::from(likeliest(expected) == likeliest(logits));
                if let Some(&next) = part.get(start + index + 1) {
                    nll[0] -= log_probability(expected, next as usize);
                    nll[1] -= log_probability(logits, next as usize);
                    scored += 1;
                }
                ControlFlow::Continue(())
            })?;
            if let Some(found) = differ {
                let expected = format!("{} tokens, as the reference", rows.first().map_or(0, Vec::len));
                return Err(Error::Option { option: "vocabulary", expected, found: found.to_string() });
            }
            read += piece.len();
            if progress(read, tokens.len()).is_break() {
                return Ok(None);
            }
        }
    }
    let perplexity = |nll: f64| Perplexity { mean_nll: nll / scored.max(1) as f64, scored };
    Ok(Some(Comparison {
        reference: perplexity(nll[0]),
        candidate: perplexity(nll[1]),
        mean_divergence: sum / tokens.len() as f64,
        max_divergence: max,
        same_likeliest: same as f64 / tokens.len() as f64,
    }))
}

/// Index of the largest, of several the first.
fn likeliest(logits: &[f32]) -> usize {
    let first = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (1..logits.len()).fold(0, first)
}

/// Divergence of the probabilities of `logits` from those of `reference`.
fn divergence(reference: &[f32], logits: &[f32]) -> f64 {
    let normalizer = |logits: &[f32]| {
        let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        max + logits.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln()
    };
    let (p_sum, q_sum) = (normalizer(reference), normalizer(logits));
    let terms = reference.iter().zip(logits).map(|(&p, &q)| {
        let p = f64::from(p) - p_sum;
        // A probability that rounds to 0 adds nothing, whatever it is compared with.
        match p.exp() {
            0.0 => 0.0,
            share => share * (p - (f64::from(q) - q_sum)),
        }
    });
    terms.sum::<f64>().max(0.0)
}

fn check(context: usize, tokens: &[u32], window: usize) -> Result<()> {
    if window < 2 || window > context {
        let expected = format!("from 2 to the {context} positions of the context");
        return Err(Error::Option { option: "window", expected, found: window.to_string() });
    }
    if tokens.len() < 2 {
        let found = tokens.len().to_string();
        return Err(Error::Option { option: "tokens", expected: "at least 2".into(), found });
    }
    Ok(())
}

/// Logarithm of the softmax of `logits` at `index`.
fn log_probability(logits: &[f32], index: usize) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    f64::from(logits[index] - max) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_divergence_is_that_of_the_definition() {
        let (p, q) = ([0.5f64, 0.25, 0.25], [0.25f64, 0.25, 0.5]);
        let logits = |shares: [f64; 3], add: f32| shares.map(|share| share.ln() as f32 + add);
        let expected: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        let found = divergence(&logits(p, 3.0), &logits(q, -40.0));
        assert!((found - expected).abs() < 1e-6, "{found}, not {expected}");
        assert!(divergence(&logits(p, 0.0), &logits(p, 100.0)) < 1e-6);
        assert_eq!((likeliest(&logits(p, 0.0)), likeliest(&logits(q, 0.0))), (0, 2));
    }

    #[test]
    fn probabilities_are_a_softmax() {
        let logits = [1.0_f32, -2.0, 0.5, 30.0];
        let total: f64 = (0..4).map(|i| log_probability(&logits, i).exp()).sum();
        assert!((total - 1.0).abs() < 1e-12);
        assert!((log_probability(&logits, 3) - log_probability(&logits, 0) - 29.0).abs() < 1e-9);
    }
}
