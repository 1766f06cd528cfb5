//! Loading: from a checkpoint's tensors to weights on a device.

use std::path::Path;
use std::sync::Arc;

use dacapo::{BackendKind, Buffer, DType, Device, DeviceOptions, ResidencySet};
use dacapo_ops::quant::{Float, Format, Ggml};
use dacapo_ops::{RopeOptions, RopeScaling, Weight, WeightSource};

use super::LoadProgress;
use super::blocks::{Attention, Linear, Mlp, PreNormLayer, Rope};
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::{self, Checkpoint, LinearSource, LinearWeight, ModelConfig, Tensor, TensorKind};
use crate::error::{Error, Result};

/// Reads the tensors of one checkpoint, and counts what it has read.
pub(crate) struct Loader<'a> {
    device: &'a Device,
    /// The processor, which repacks weights: `device` itself, or another where that is a GPU.
    host: Device,
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    progress: &'a mut dyn FnMut(LoadProgress),
    done: LoadProgress,
    /// Bytes of all weights in memory.
    pub weight_bytes: u64,
    /// Bytes of the weights that every decoded token reads.
    pub bytes_per_token: u64,
    /// Large weights on a GPU, to stay near it.
    pub resident: ResidencySet,
}

impl<'a> Loader<'a> {
    pub fn new(
        device: &'a Device,
        checkpoint: &'a Checkpoint,
        config: &'a ModelConfig,
        progress: &'a mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let is_processor = device.info().backend == BackendKind::Cpu;
        let host = if is_processor { device.clone() } else { Device::open(DeviceOptions::default())? };
        let total_bytes = checkpoint.tensors().iter().map(|t| t.len as u64).sum();
        let done = LoadProgress { done_bytes: 0, total_bytes };
        Ok(Loader {
            device,
            host,
            checkpoint,
            config,
            progress,
            done,
            weight_bytes: 0,
            bytes_per_token: 0,
            resident: ResidencySet::new(device),
        })
    }

    pub fn config(&self) -> &'a ModelConfig {
        self.config
    }

    /// The checkpoint's path, for messages.
    pub fn path(&self) -> &Path {
        self.checkpoint.path()
    }

    /// The linear layer at the module path, `n` outputs and `k` inputs. A bias is needed or ignored, as the
    /// configuration has it.
    pub fn linear(&mut self, path: &str, n: usize, k: usize, with_bias: bool) -> Result<Linear> {
        let source = self.checkpoint.linear(path, n, k)?;
        let bias =
            if with_bias { Some(self.checkpoint.floats(&format!("{path}.bias"), &[n])?) } else { None };
        let weight = Arc::new(self.weight(&source)?);
        let bias = bias.map(|bias| self.floats(bias)).transpose()?;
        self.bytes_per_token += weight.byte_len() as u64;
        Ok(Linear { weight, bias })
    }

    /// The embedding, and the head: a matrix of its own, or the embedding again if they are tied.
    pub fn embedding_and_head(&mut self) -> Result<(Linear, Linear)> {
        let (v, d) = (self.config.vocab_size, self.config.hidden_size);
        let source = self.checkpoint.embedding("model.embed_tokens", v, d)?;
        let weight = Arc::new(self.weight(&source)?);
        let embed = Linear { weight: weight.clone(), bias: None };
        if self.config.tie_word_embeddings {
            self.bytes_per_token += weight.byte_len() as u64;
            return Ok((embed, Linear { weight, bias: None }));
        }
        Ok((embed, self.linear("lm_head", v, d, false)?))
    }

    /// The weight of a norm over the residual stream.
    pub fn norm(&mut self, path: &str) -> Result<Buffer> {
        let tensor = self.checkpoint.floats(&format!("{path}.weight"), &[self.config.hidden_size])?;
        self.floats(tensor)
    }

    /// The weight of a norm over a head.
    pub fn head_norm(&mut self, path: &str) -> Result<Buffer> {
        let tensor = self.checkpoint.floats(&format!("{path}.weight"), &[self.config.head_dim])?;
        self.floats(tensor)
    }

    /// The rotary embedding of the configuration.
    pub fn rope(&mut self) -> Result<Arc<Rope>> {
        let config = self.config;
        let scaling = match config.rope.scaling {
            checkpoint::RopeScaling::None => RopeScaling::None,
            checkpoint::RopeScaling::Linear { factor } => RopeScaling::Linear { factor: factor as f32 },
            checkpoint::RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                RopeScaling::Llama3 {
                    factor: factor as f32,
                    low_freq_factor: low_freq_factor as f32,
                    high_freq_factor: high_freq_factor as f32,
                    original_context: original,
                }
            }
            checkpoint::RopeScaling::Yarn {
                factor,
                original,
                beta_fast,
                beta_slow,
                attention_factor,
                truncate,
            } => RopeScaling::Yarn {
                factor: factor as f32,
                beta_fast: beta_fast as f32,
                beta_slow: beta_slow as f32,
                original_context: original,
                attention_factor: Some(attention_factor as f32),
                mscale: None,
                mscale_all_dim: None,
                truncate,
            },
            checkpoint::RopeScaling::Factors => {
                let tensor = self.checkpoint.floats("rope_freqs.weight", &[config.head_dim / 2])?;
                RopeScaling::Factors(self.host_floats(tensor)?)
            }
        };
        let frequencies = scaling.frequencies(config.rope.theta as f32, config.head_dim);
        let inv_freq = self.device.upload(&frequencies.inv_freq, &[frequencies.inv_freq.len()])?;
        let options = RopeOptions {
            interleaved: config.rope.interleaved,
            attention_factor: frequencies.attention_factor,
        };
        Ok(Arc::new(Rope { inv_freq, options }))
    }

    fn weight(&mut self, source: &LinearSource<'_>) -> Result<Weight> {
        let (format, parts) = describe(&source.weight)?;
        let mut buffers = parts.iter().map(|t| self.host.map(&t.file, t.offset, DType::U8, &[t.len]));
        let codes = buffers.next().expect("every weight has codes")?;
        let (scales, biases) = (buffers.next().transpose()?, buffers.next().transpose()?);
        // Formats without biases have none of any length.
        let nothing = codes.slice_view(0, &[0])?;
        let scales = scales.map(|scales| (scales, biases.unwrap_or(nothing)));
        let weight =
            Weight::load(&self.host, &WeightSource { format, n: source.n, k: source.k, codes, scales })
                .map_err(|error| match error {
                    dacapo::Error::OutOfMemory { .. } => no_room(error, parts[0]),
                    error => Error::BadWeight {
                        path: parts[0].file.path().to_path_buf(),
                        tensor: parts[0].file_name.clone(),
                        reason: error.to_string(),
                    },
                })?;
        let weight = match self.device.info().backend {
            // They have just been written: they are there.
            BackendKind::Cpu => weight,
            _ => {
                let weight = self.upload(&weight, &parts)?;
                self.resident.add(weight.data())?;
                weight
            }
        };
        for tensor in parts {
            tensor.file.release(tensor.offset..tensor.offset + tensor.len);
            self.count(tensor);
        }
        self.weight_bytes += weight.byte_len() as u64;
        Ok(weight)
    }

    /// The weight that these tensors became, on the device. Large ones tell on the way how far they are.
    fn upload(&mut self, weight: &Weight, parts: &[&Tensor]) -> Result<Weight> {
        let stored: u64 = parts.iter().map(|tensor| tensor.len as u64).sum();
        let (before, all) = (self.done, weight.byte_len().max(1) as u128);
        let progress = &mut self.progress;
        let report = &mut |there: usize| {
            let done_bytes = before.done_bytes + (u128::from(stored) * there as u128 / all) as u64;
            progress(LoadProgress { done_bytes, ..before });
        };
        weight.upload(self.device, report).map_err(|error| no_room(error, parts[0]))
    }

    /// A small tensor of floats as F32.
    fn floats(&mut self, tensor: &Tensor) -> Result<Buffer> {
        let values = self.host_floats(tensor)?;
        let buffer = self.device.upload(&values, &tensor.shape).map_err(|error| no_room(error, tensor))?;
        self.count(tensor);
        self.weight_bytes += 4 * values.len() as u64;
        self.bytes_per_token += 4 * values.len() as u64;
        Ok(buffer)
    }

    fn host_floats(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        let float = float_of(tensor)?;
        let bytes = tensor.bytes();
        let values: Vec<f32> = (0..tensor.elements()).map(|i| float.read(bytes, i)).collect();
        match values.iter().position(|v| !v.is_finite()) {
            None => Ok(values),
            Some(i) => Err(Error::BadWeight {
                path: tensor.file.path().to_path_buf(),
                tensor: tensor.file_name.clone(),
                reason: format!("expected finite numbers, found {} at element {i}", values[i]),
            }),
        }
    }

    fn count(&mut self, tensor: &Tensor) {
        self.done.done_bytes += tensor.len as u64;
        (self.progress)(self.done);
    }
}

impl Attention {
    /// The attention of a layer, at the module path: without norms over heads, with the layer's window.
    pub fn load(loader: &mut Loader<'_>, path: &str, layer: usize, rope: &Arc<Rope>) -> Result<Self> {
        let c = loader.config;
        let (d, q, kv) = (c.hidden_size, c.heads * c.head_dim, c.kv_heads * c.head_dim);
        Ok(Attention {
            q: loader.linear(&format!("{path}.q_proj"), q, d, c.attention_bias)?,
            k: loader.linear(&format!("{path}.k_proj"), kv, d, c.attention_bias)?,
            v: loader.linear(&format!("{path}.v_proj"), kv, d, c.attention_bias)?,
            o: loader.linear(&format!("{path}.o_proj"), d, q, c.attention_output_bias)?,
            q_norm: None,
            k_norm: None,
            window: c.sliding_windows.get(layer).copied().flatten(),
            rope: rope.clone(),
        })
    }
}

impl PreNormLayer {
    /// The layer at the module path, around its attention.
    pub fn load(loader: &mut Loader<'_>, path: &str, attention: Attention) -> Result<Self> {
        Ok(PreNormLayer {
            input_norm: loader.norm(&format!("{path}.input_layernorm"))?,
            attention,
            post_attention_norm: loader.norm(&format!("{path}.post_attention_layernorm"))?,
            mlp: Mlp::load(loader, &format!("{path}.mlp"))?,
        })
    }
}

impl Mlp {
    /// The gated MLP at the module path.
    pub fn load(loader: &mut Loader<'_>, path: &str) -> Result<Self> {
        let (d, i, bias) =
            (loader.config.hidden_size, loader.config.intermediate_size, loader.config.mlp_bias);
        Ok(Mlp {
            gate: loader.linear(&format!("{path}.gate_proj"), i, d, bias)?,
            up: loader.linear(&format!("{path}.up_proj"), i, d, bias)?,
            down: loader.linear(&format!("{path}.down_proj"), d, i, bias)?,
            act: match loader.config.hidden_act {
                checkpoint::Activation::Silu => dacapo_ops::ActivationFn::Silu,
                checkpoint::Activation::Gelu => dacapo_ops::ActivationFn::Gelu,
                checkpoint::Activation::GeluTanh => dacapo_ops::ActivationFn::GeluTanh,
            },
        })
    }
}

/// The format in which a weight is stored, and its tensors: codes, then scales and biases if it has them.
pub(crate) fn describe<'a>(weight: &LinearWeight<'a>) -> Result<(Format, Vec<&'a Tensor>)> {
    match *weight {
        LinearWeight::Dense(tensor) => Ok((Format::Dense(float_of(tensor)?), vec![tensor])),
        LinearWeight::Affine { weight, scales, biases, bits, group } => {
            let float = float_of(scales)?;
            let format = Format::Affine { bits: bits as u8, group: group as u8, float };
            if !format.is_valid() {
                return Err(unsupported(weight, "affine codes of 2, 3, 4, 5, 6 or 8 bits", &format.name()));
            }
            Ok((format, vec![weight, scales, biases]))
        }
        LinearWeight::Ggml(tensor) => Ok((ggml_format(tensor)?, vec![tensor])),
        LinearWeight::Fp { weight, scales, mode } => Ok((Format::Fp(mode), vec![weight, scales])),
        LinearWeight::Fp8 { weight, scales } => {
            Ok((Format::Fp8 { float: float_of(scales)? }, vec![weight, scales]))
        }
    }
}

fn ggml_format(tensor: &Tensor) -> Result<Format> {
    let TensorKind::Ggml(kind) = tensor.kind else { return Ok(Format::Dense(float_of(tensor)?)) };
    let format = match kind {
        GgmlType::Q4_0 => Ggml::Q4_0,
        GgmlType::Q4_1 => Ggml::Q4_1,
        GgmlType::Q5_0 => Ggml::Q5_0,
        GgmlType::Q5_1 => Ggml::Q5_1,
        GgmlType::Q8_0 => Ggml::Q8_0,
        GgmlType::Q2_K => Ggml::Q2_K,
        GgmlType::Q3_K => Ggml::Q3_K,
        GgmlType::Q4_K => Ggml::Q4_K,
        GgmlType::Q5_K => Ggml::Q5_K,
        GgmlType::Q6_K => Ggml::Q6_K,
        GgmlType::IQ2_XXS => Ggml::IQ2_XXS,
        GgmlType::IQ2_XS => Ggml::IQ2_XS,
        GgmlType::IQ2_S => Ggml::IQ2_S,
        GgmlType::IQ3_XXS => Ggml::IQ3_XXS,
        GgmlType::IQ3_S => Ggml::IQ3_S,
        GgmlType::IQ4_NL => Ggml::IQ4_NL,
        GgmlType::IQ4_XS => Ggml::IQ4_XS,
        GgmlType::TQ1_0 => Ggml::TQ1_0,
        GgmlType::TQ2_0 => Ggml::TQ2_0,
        GgmlType::MXFP4 => Ggml::MXFP4,
        other => {
            let known: Vec<_> = Ggml::ALL.iter().map(|g| g.name()).collect();
            return Err(unsupported(tensor, &format!("F32, F16, BF16, {}", known.join(", ")), other.name()));
        }
    };
    Ok(Format::Ggml(format))
}

/// Memory that a tensor did not get; other errors as they are.
fn no_room(error: dacapo::Error, tensor: &Tensor) -> Error {
    let what = || format!("tensor {:?}", tensor.file_name);
    Error::no_room(error, what, "a checkpoint with fewer bits for each weight")
}

fn float_of(tensor: &Tensor) -> Result<Float> {
    tensor.kind.dtype().and_then(Float::from_dtype).ok_or_else(|| Error::WrongType {
        path: tensor.file.path().to_path_buf(),
        tensor: tensor.file_name.clone(),
        expected: "F32, F16 or BF16".into(),
        found: tensor.kind.to_string(),
    })
}

fn unsupported(tensor: &Tensor, expected: &str, found: &str) -> Error {
    Error::UnsupportedQuantization {
        path: tensor.file.path().to_path_buf(),
        tensor: tensor.file_name.clone(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}
