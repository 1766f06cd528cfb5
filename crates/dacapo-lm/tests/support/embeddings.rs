//! Tiny models that embed texts, with the vectors that transformers makes of them.
//!
//! `tools/oracles/embeddings.py` makes them and says what is in them.

use std::path::{Path, PathBuf};

use dacapo_lm::{EmbedOptions, Model, Pooling};
use serde::Deserialize;

use super::Reference;

/// A fixture as `index.json` lists it.
#[derive(Deserialize)]
pub struct Fixture {
    pub name: String,
    file: String,
    quantized: bool,
    /// What the files say.
    pub pooling: String,
}

pub const POOLINGS: [(&str, Pooling); 3] =
    [("mean", Pooling::Mean), ("cls", Pooling::Cls), ("last", Pooling::Last)];

impl Fixture {
    /// What to load.
    pub fn path(&self) -> PathBuf {
        let folder = folder().join(&self.name);
        if self.file.is_empty() { folder } else { folder.join(&self.file) }
    }

    /// What transformers gave.
    pub fn reference(&self) -> Reference {
        Reference::open(&folder().join(&self.name).join("reference.safetensors"))
    }

    /// What is wrong with the vectors of the tokens, pooled in each way.
    pub fn wrong_vectors(&self, model: &Model) -> Vec<String> {
        // The largest difference in an element of vectors of length 1.
        let limit = match (model.is_exact(), self.quantized) {
            (true, _) => 2e-6,
            (false, false) => 1e-3,
            (false, true) => 1e-2,
        };
        let reference = self.reference();
        let tokens = reference.tokens("tokens").unwrap();
        let check = |(name, pooling)| {
            let options = EmbedOptions { pooling: Some(pooling), ..EmbedOptions::default() };
            let found = model.embedder(&options).unwrap().embed_tokens(&tokens).unwrap();
            let expected = reference.floats(name).unwrap();
            assert_eq!(found.len(), expected.len());
            let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let largest = differences.fold(0.0, |a: f32, b| if b.is_nan() { b } else { a.max(b) });
            let fits = largest <= limit;
            (!fits).then(|| format!("{}: {name}: off by {largest:e}, {limit:e} is allowed", self.name))
        };
        POOLINGS.into_iter().filter_map(check).collect()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embeddings")
}

/// All fixtures.
pub fn fixtures() -> Vec<Fixture> {
    serde_json::from_slice(&std::fs::read(folder().join("index.json")).unwrap()).unwrap()
}

/// Texts whose tokens are in the references of fixtures with a tokenizer of their own.
pub fn texts() -> Vec<String> {
    serde_json::from_slice(&std::fs::read(folder().join("texts.json")).unwrap()).unwrap()
}
