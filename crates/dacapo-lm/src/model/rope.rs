//! Rotations of a model: what the configuration says, as tables on the device.

use std::sync::Arc;

use dacapo::{Buffer, Device};
use dacapo_ops::{RopeOptions, RopeScaling};

use super::load::Loader;
use crate::checkpoint::{self, ModelConfig, RopeConfig};
use crate::error::Result;

/// Rotary position embedding, shared by layers.
#[derive(Debug)]
pub(crate) struct Rope {
    /// F32 `[R/2]`, radians per position.
    pub inv_freq: Buffer,
    /// Pairing of elements, factor of cosine and sine.
    pub options: RopeOptions,
    /// Whether the session has frequencies in their place: those for the length of its context.
    pub by_length: bool,
}

/// The rotations of a model's layers.
#[derive(Debug)]
pub(crate) struct Ropes {
    main: Arc<Rope>,
    /// Of layers with a window, where it is another.
    local: Option<Arc<Rope>>,
}

/// Frequencies that depend on the length of the context: LongRoPE's two lists.
#[derive(Debug, Clone)]
pub(crate) struct LengthFrequencies {
    short: Vec<f32>,
    long: Vec<f32>,
    /// Tokens up to which the short ones are for all of them.
    original: usize,
}

impl LengthFrequencies {
    /// The frequencies of the configuration, if they depend on the length.
    pub fn new(config: &RopeConfig) -> Option<Self> {
        let checkpoint::RopeScaling::LongRope { short, long, original, .. } = &config.scaling else {
            return None;
        };
        // In the order of operations of transformers: a last bit of a frequency counts at long distances.
        let (theta, dims) = (config.theta as f32, config.dims);
        let period = |i: usize| theta.powf((2 * i) as f32 / dims as f32);
        let frequencies = |factors: &[f32]| {
            factors.iter().enumerate().map(|(i, factor)| 1.0 / (factor * period(i))).collect()
        };
        Some(LengthFrequencies { short: frequencies(short), long: frequencies(long), original: *original })
    }

    /// Whether a context of so many tokens takes the long list.
    pub fn is_long(&self, tokens: usize) -> bool {
        tokens > self.original
    }

    /// The frequencies of the long list or the short one.
    pub fn list(&self, long: bool) -> &[f32] {
        if long { &self.long } else { &self.short }
    }

    /// A buffer for a session, with the short list.
    pub fn buffer(&self, device: &Device) -> Result<Buffer> {
        Ok(device.upload(&self.short, &[self.short.len()])?)
    }
}

impl Ropes {
    /// The rotations of the configuration.
    pub fn load(loader: &mut Loader<'_>) -> Result<Self> {
        let config = loader.config();
        let main = rope(loader, &config.rope)?;
        let local = config.local_rope.as_ref().map(|local| rope(loader, local)).transpose()?;
        Ok(Ropes { main, local })
    }

    /// The rotation of a layer, if it has one.
    pub fn of_layer(&self, config: &ModelConfig, layer: usize) -> Option<Arc<Rope>> {
        config.rotated.get(layer).copied().unwrap_or(true).then(|| {
            let slides = config.sliding_windows.get(layer).is_some_and(Option::is_some);
            self.local.as_ref().filter(|_| slides).unwrap_or(&self.main).clone()
        })
    }
}

fn rope(loader: &Loader<'_>, config: &RopeConfig) -> Result<Arc<Rope>> {
    let (scaling, factor) = match &config.scaling {
        checkpoint::RopeScaling::None => (RopeScaling::None, 1.0),
        &checkpoint::RopeScaling::Linear { factor } => (RopeScaling::Linear { factor: factor as f32 }, 1.0),
        &checkpoint::RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let scaling = RopeScaling::Llama3 {
                factor: factor as f32,
                low_freq_factor: low_freq_factor as f32,
                high_freq_factor: high_freq_factor as f32,
                original_context: original,
            };
            (scaling, 1.0)
        }
        &checkpoint::RopeScaling::Yarn {
            factor,
            original,
            beta_fast,
            beta_slow,
            attention_factor,
            truncate,
        } => {
            let scaling = RopeScaling::Yarn {
                factor: factor as f32,
                beta_fast: beta_fast as f32,
                beta_slow: beta_slow as f32,
                original_context: original,
                attention_factor: Some(attention_factor as f32),
                mscale: None,
                mscale_all_dim: None,
                truncate,
            };
            (scaling, 1.0)
        }
        checkpoint::RopeScaling::LongRope { short, attention_factor, .. } => {
            (RopeScaling::Factors(short.clone()), *attention_factor as f32)
        }
        checkpoint::RopeScaling::Factors => {
            (RopeScaling::Factors(loader.float_values("rope_freqs.weight", config.dims / 2)?), 1.0)
        }
    };
    let frequencies = scaling.frequencies(config.theta as f32, config.dims);
    let inv_freq = loader.device().upload(&frequencies.inv_freq, &[frequencies.inv_freq.len()])?;
    let options = RopeOptions {
        interleaved: config.interleaved,
        attention_factor: frequencies.attention_factor * factor,
    };
    let by_length = matches!(config.scaling, checkpoint::RopeScaling::LongRope { .. });
    Ok(Arc::new(Rope { inv_freq, options, by_length }))
}
