//! Decoding as tokens arrive.

use std::sync::Arc;

use super::pieces::{Pieces, Start};

/// Turns tokens into text one at a time, never splitting a character.
///
/// The texts of all [`push`](Self::push) calls and of [`flush`](Self::flush), put together, are what
/// [`Tokenizer::decode`](super::Tokenizer::decode) gives for the whole sequence.
#[derive(Debug, Clone)]
pub struct DecodeStream {
    pieces: Arc<Pieces>,
    skip_special: bool,
    /// The start of a character whose rest has not come: at most three bytes.
    pending: Vec<u8>,
    start: Start,
}

impl DecodeStream {
    pub(super) fn new(pieces: Arc<Pieces>, skip_special: bool) -> Self {
        let start = pieces.start();
        DecodeStream { pieces, skip_special, pending: Vec::new(), start }
    }

    /// Takes a token; gives the text that is complete with it, if there is any.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let piece = self.pieces.get(id)?;
        if piece.special && self.skip_special {
            return None;
        }
        let bytes = self.start.trim(&piece.bytes);
        self.pending.extend_from_slice(&bytes);
        let text = self.take_complete();
        (!text.is_empty()).then_some(text)
    }

    /// Ends the text: what is left of an incomplete character becomes U+FFFD. The stream is then as new.
    pub fn flush(&mut self) -> Option<String> {
        self.start = self.pieces.start();
        let rest = std::mem::take(&mut self.pending);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }

    /// Takes from `pending` all but an incomplete character at its end; each maximal invalid part becomes
    /// one U+FFFD, as in [`String::from_utf8_lossy`].
    fn take_complete(&mut self) -> String {
        let mut text = String::new();
        let mut used = 0;
        while used < self.pending.len() {
            let rest = &self.pending[used..];
            let (valid, invalid) = match std::str::from_utf8(rest) {
                Ok(_) => (rest.len(), Some(0)),
                Err(e) => (e.valid_up_to(), e.error_len()),
            };
            text.push_str(&String::from_utf8_lossy(&rest[..valid]));
            used += valid;
            match invalid {
                Some(0) => {}
                Some(len) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    used += len;
                }
                None => break,
            }
        }
        self.pending.drain(..used);
        text
    }
}
