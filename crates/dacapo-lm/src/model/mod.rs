//! Models: weights on a device, and what computes with them.

mod arch;
mod blocks;
pub(crate) mod cache;
mod decoder;
pub(crate) mod delta_net;
pub(crate) mod load;
mod moe;
pub(crate) mod pass;
pub(crate) mod rope;

use std::path::Path;
use std::sync::Arc;

use dacapo::{DType, Device, ResidencySet};

use crate::checkpoint::{Checkpoint, DeltaNets, ModelConfig};
use crate::error::{Error, Result};
use crate::session::{Session, SessionOptions};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use arch::Architecture;
use load::Loader;
use pass::Pass;
use rope::LengthFrequencies;

/// How a model is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Never quantize activations, and keep keys and values in F32: slower, for checking. Default: no; products
    /// with quantized weights take int8 activations in blocks of 32, keys and values are kept in F16.
    pub exact: bool,
    /// Most positions of a session. Default: what the model was made for.
    pub context: Option<usize>,
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of tensors that are on the device: read, made ready and, where that is a GPU, uploaded.
    pub done_bytes: u64,
    /// Bytes of all tensors in the checkpoint.
    pub total_bytes: u64,
}

/// Memory that a model takes and moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of all weights in memory.
    pub weight_bytes: u64,
    /// Bytes of weights read for one generated token.
    pub bytes_per_token: u64,
    /// Bytes of keys and values for one position, as long as the context is within all windows.
    pub kv_bytes_per_position: u64,
    /// Bytes that layers with a state keep of a text, however long it is.
    pub state_bytes: u64,
}

/// A loaded model. A handle; clones are the same model.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    device: Device,
    config: ModelConfig,
    /// Or why there is none: a model computes without text.
    tokenizer: Result<Tokenizer>,
    template: Result<Option<ChatTemplate>>,
    architecture: Box<dyn Architecture>,
    footprint: Footprint,
    exact: bool,
    context: usize,
    /// Its large weights, on a GPU: they stay resident as long as the model lives.
    #[expect(dead_code, reason = "held until the model goes")]
    resident: ResidencySet,
    /// Rotations that depend on the length of the context.
    length_frequencies: Option<LengthFrequencies>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let config = &self.inner.config;
        write!(f, "{} model of {} layers, {} wide", config.architecture, config.layers, config.hidden_size)
    }
}

impl Model {
    /// Loads the checkpoint at `path`: an MLX or Hugging Face folder, or a GGUF file.
    ///
    /// # Errors
    /// What [`Checkpoint::open`] and [`from_checkpoint`](Self::from_checkpoint) refuse.
    pub fn load(
        device: &Device,
        path: &Path,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Model> {
        Self::from_checkpoint(device, &Checkpoint::open(path)?, options, progress)
    }

    /// Loads an opened checkpoint.
    ///
    /// # Errors
    /// An unknown architecture; a tensor that is missing or has another shape, type or quantization than the
    /// configuration asks for; scales that are not finite; memory that is not there. A tokenizer or template that is
    /// missing or broken is no error before it is asked for.
    pub fn from_checkpoint(
        device: &Device,
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Model> {
        let config = checkpoint.model_config()?;
        let tokenizer = Tokenizer::from_checkpoint(checkpoint);
        let template = ChatTemplate::from_checkpoint(checkpoint);
        let mut loader = Loader::new(device, checkpoint, &config, progress)?;
        let architecture = arch::load(&mut loader)?;
        let Loader { weight_bytes, bytes_per_token, resident, .. } = loader;
        let kv_elements = 2 * config.attention_layers() * config.kv_heads * config.head_dim;
        let kv_bytes_per_position = (kv_elements * kv_dtype(options.exact).size()) as u64;
        let state_bytes = config.delta_nets.as_ref().map_or(0, DeltaNets::state_bytes);
        let length_frequencies = LengthFrequencies::new(&config.rope);
        let context = options.context.unwrap_or(config.context_length).max(1);
        Ok(Model {
            inner: Arc::new(Inner {
                device: device.clone(),
                config,
                tokenizer,
                template,
                architecture,
                footprint: Footprint { weight_bytes, bytes_per_token, kv_bytes_per_position, state_bytes },
                exact: options.exact,
                context,
                resident,
                length_frequencies,
            }),
        })
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.inner.config
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// If the checkpoint has none, or it is broken.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.inner.tokenizer.as_ref().map_err(Clone::clone)
    }

    /// The chat template, if the checkpoint has one.
    ///
    /// # Errors
    /// If it is broken.
    pub fn chat_template(&self) -> Result<Option<&ChatTemplate>> {
        self.inner.template.as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// Memory that the model takes and moves.
    pub fn footprint(&self) -> Footprint {
        self.inner.footprint
    }

    /// Most positions of a session.
    pub fn context(&self) -> usize {
        self.inner.context
    }

    /// Whether activations are never quantized.
    pub fn is_exact(&self) -> bool {
        self.inner.exact
    }

    /// A new session: an empty context.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn session(&self) -> Result<Session> {
        self.session_with(SessionOptions::default())
    }

    /// A new session that runs its passes in this way.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn session_with(&self, options: SessionOptions) -> Result<Session> {
        Session::new(self, options, 1)
    }

    /// Encodes a forward pass.
    pub(crate) fn forward(&self, pass: &mut Pass<'_>) -> Result<()> {
        self.inner.architecture.forward(pass)
    }

    /// The frequencies of rotations that depend on the length of the context.
    pub(crate) fn length_frequencies(&self) -> Option<&LengthFrequencies> {
        self.inner.length_frequencies.as_ref()
    }

    /// Element type of the KV cache.
    pub(crate) fn kv_dtype(&self) -> DType {
        kv_dtype(self.inner.exact)
    }

    /// Refuses token ids that the model does not have.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let vocabulary = self.inner.config.vocab_size;
        match tokens.iter().find(|&&token| token as usize >= vocabulary) {
            Some(&token) => Err(Error::TokenOutOfRange { token, vocabulary }),
            None => Ok(()),
        }
    }
}

fn kv_dtype(exact: bool) -> DType {
    if exact { DType::F32 } else { DType::F16 }
}
