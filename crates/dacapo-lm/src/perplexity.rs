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
    if window < 2 || window > session.context() {
        let expected = format!("from 2 to the {} positions of the context", session.context());
        return Err(Error::Option { option: "window", expected, found: window.to_string() });
    }
    if tokens.len() < 2 {
        let found = tokens.len().to_string();
        return Err(Error::Option { option: "tokens", expected: "at least 2".into(), found });
    }
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
    fn probabilities_are_a_softmax() {
        let logits = [1.0_f32, -2.0, 0.5, 30.0];
        let total: f64 = (0..4).map(|i| log_probability(&logits, i).exp()).sum();
        assert!((total - 1.0).abs() < 1e-12);
        assert!((log_probability(&logits, 3) - log_probability(&logits, 0) - 29.0).abs() < 1e-9);
    }
}
