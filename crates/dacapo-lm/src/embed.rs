//! Embeddings: one vector for a text, from an encoder or a decoder.

use std::ops::ControlFlow;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::session::{Session, SessionOptions};

/// How the states of a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The state of the first token, which encoders like BERT put before every text.
    Cls,
    /// The state of the last token, which has seen all of a text in a decoder.
    Last,
}

/// How texts are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedOptions {
    /// Default: what the checkpoint says; where it says nothing, the mean for encoders and the last for decoders.
    pub pooling: Option<Pooling>,
    /// Whether vectors are scaled to a length of 1. Default: yes.
    pub normalize: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        EmbedOptions { pooling: None, normalize: true }
    }
}

/// Turns texts into vectors, one after the other. Texts do not see each other.
#[derive(Debug)]
pub struct Embedder {
    session: Session,
    pooling: Pooling,
    normalize: bool,
}

impl Model {
    /// An embedder.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn embedder(&self, options: &EmbedOptions) -> Result<Embedder> {
        let config = self.config();
        let usual = if config.causal { Pooling::Last } else { Pooling::Mean };
        // Tokens that see each other in both directions are read in one pass.
        let pass = if config.causal { 1 } else { self.context() };
        Ok(Embedder {
            session: Session::new(self, SessionOptions::default(), pass)?,
            pooling: options.pooling.or(config.pooling).unwrap_or(usual),
            normalize: options.normalize,
        })
    }
}

impl Embedder {
    /// The model.
    pub fn model(&self) -> &Model {
        self.session.model()
    }

    /// How states are pooled.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The vector of a text, as wide as the model, with the tokens that its tokenizer puts around a text.
    ///
    /// # Errors
    /// As [`embed_tokens`](Self::embed_tokens), and those of the tokenizer.
    pub fn embed(&mut self, text: &str) -> Result<Vec<f32>> {
        let tokens = self.model().tokenizer()?.encode(text, true)?;
        self.embed_tokens(&tokens)
    }

    /// The vector of these tokens.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`] if they are more than the context, [`Error::TokenOutOfRange`], [`Error::Option`] if
    /// there are none; a failure of the device.
    pub fn embed_tokens(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        if tokens.is_empty() {
            return Err(Error::Option {
                option: "text",
                expected: "at least one token".into(),
                found: "none".into(),
            });
        }
        let mut sum = vec![0.0f64; self.model().config().hidden_size];
        let pooling = self.pooling;
        self.session.restart();
        self.session.states(tokens, &mut |index, row| {
            let counts = match pooling {
                Pooling::Mean => true,
                Pooling::Cls => index == 0,
                Pooling::Last => index + 1 == tokens.len(),
            };
            if counts {
                sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            ControlFlow::Continue(())
        })?;
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        let divisor = match pooling {
            _ if self.normalize => length.max(f64::from(f32::MIN_POSITIVE)),
            Pooling::Mean => tokens.len() as f64,
            Pooling::Cls | Pooling::Last => 1.0,
        };
        Ok(sum.into_iter().map(|value| (value / divisor) as f32).collect())
    }
}
