//! Tokenizers: text to token ids and back, from a folder's `tokenizer.json` or a GGUF file's metadata.
//!
//! Encoding is done by the `tokenizers` crate. Decoding is done here, byte by byte, so that a stream of tokens
//! and the whole sequence give the same text.

mod decode;
mod gguf;
mod hugging_face;
mod pieces;
mod pre;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use decode::DecodeStream;
pub(crate) use hugging_face::special_token;
use pieces::Pieces;
pub(crate) use pre::name_of as pre_name;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, one_line};

/// A model's tokenizer. Cloning shares the decoding table.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pieces: Arc<Pieces>,
    special: Special,
    bos: Option<u32>,
    eos: Vec<u32>,
    path: PathBuf,
}

/// What `add_special` puts around a text.
#[derive(Debug, Clone, Copy)]
enum Special {
    /// What the post-processor of `tokenizer.json` says.
    Processor,
    /// These tokens.
    Around { before: Option<u32>, after: Option<u32> },
}

impl Tokenizer {
    /// The tokenizer of a checkpoint.
    ///
    /// # Errors
    /// [`Error::MissingFile`] if a folder has no `tokenizer.json`; [`Error::Tokenizer`] if it is broken, or
    /// of a kind that is not known: no byte-pair encoding, a decoder or a `tokenizer.ggml.pre` of another
    /// name.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        match checkpoint.gguf() {
            Some(file) => gguf::load(file),
            None => hugging_face::load(checkpoint),
        }
    }

    /// The ids of `text`; with `add_special` also the tokens that the model expects around it. Names of
    /// special tokens in the text become those tokens.
    ///
    /// # Errors
    /// [`Error::Tokenization`] if a character has no token and there is none for unknown ones.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let by_processor = add_special && matches!(self.special, Special::Processor);
        // The crate checks little of what it loads: what slips through must not end the process.
        let encoding =
            std::panic::catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, by_processor)))
                .map_err(|_| Error::Tokenization(format!("{}: broken", self.path.display())))?
                .map_err(|e| Error::Tokenization(one_line(&e.to_string())))?;
        let mut ids = encoding.get_ids().to_vec();
        if let Special::Around { before, after } = self.special
            && add_special
        {
            if let Some(id) = before {
                ids.insert(0, id);
            }
            ids.extend(after);
        }
        Ok(ids)
    }

    /// The text of `ids`, without special tokens if `skip_special`. Bytes that are no UTF-8 become U+FFFD;
    /// ids that the vocabulary lacks have no text.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut stream = self.decode_stream(skip_special);
        let mut text = String::new();
        for &id in ids {
            text.extend(stream.push(id));
        }
        text.extend(stream.flush());
        text
    }

    /// A decoder that takes one token at a time.
    pub fn decode_stream(&self, skip_special: bool) -> DecodeStream {
        DecodeStream::new(self.pieces.clone(), skip_special)
    }

    /// The bytes that a token stands for; not always whole characters.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(id).map(|piece| &*piece.bytes)
    }

    /// The token's name in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of the token of this name.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether the token is special: it controls, and is no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces.get(id).is_some_and(|piece| piece.special)
    }

    /// The tokens put before and after texts; none where that is a post-processor's affair.
    pub(crate) fn around(&self) -> (Option<u32>, Option<u32>) {
        match self.special {
            Special::Processor => (None, None),
            Special::Around { before, after } => (before, after),
        }
    }

    /// The content of a `tokenizer.json` that encodes and decodes as this one does, but for what is put around texts.
    ///
    /// # Errors
    /// [`Error::Tokenization`] if it cannot be written down.
    pub(crate) fn to_json(&self) -> Result<serde_json::Value> {
        let fail = |e: &dyn std::fmt::Display| Error::Tokenization(one_line(&e.to_string()));
        let text = self.inner.to_string(false).map_err(|e| fail(&e))?;
        let mut json: serde_json::Value = serde_json::from_str(&text).map_err(|e| fail(&e))?;
        if json.get("decoder").is_none_or(serde_json::Value::is_null) {
            json["decoder"] = self.pieces.decoder_json();
        }
        Ok(json)
    }

    /// One more than the highest id. The model's own vocabulary may be larger.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token that starts a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that end a text or a turn.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos
    }

    /// The file that the tokenizer came from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
