//! Loading: from a checkpoint's tensors to weights on a device.

mod experts;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use dacapo::{BackendKind, Buffer, DType, Device, DeviceOptions, ResidencySet};
use dacapo_ops::quant::{FP8_BLOCK, Float, Format, Ggml};
use dacapo_ops::{Weight, WeightSource};

use super::LoadProgress;
use super::blocks::Linear;
use crate::checkpoint::ggml::GgmlType;
use crate::checkpoint::{Checkpoint, LinearSource, LinearWeight, ModelConfig, Tensor, TensorKind};
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

    /// Linear layers without biases whose rows follow each other in one matrix: `n` has the outputs of each.
    pub fn linear_parts<const N: usize>(
        &mut self,
        path: &str,
        n: [usize; N],
        k: usize,
    ) -> Result<[Linear; N]> {
        let source = self.checkpoint.linear(path, n.iter().sum(), k)?;
        let mut linears = Vec::with_capacity(N);
        let mut first = 0;
        for n in n {
            let weight = Arc::new(self.weight_rows(&source, first..first + n)?);
            self.bytes_per_token += weight.byte_len() as u64;
            linears.push(Linear { weight, bias: None });
            first += n;
        }
        Ok(linears.try_into().expect("a layer for each part"))
    }

    /// Linear layers without biases whose rows lie in pieces in one matrix of `n` rows: the pieces of each, in the order in which
    /// they become its outputs.
    pub fn linear_pieces<const N: usize>(
        &mut self,
        path: &str,
        n: usize,
        k: usize,
        pieces: [Vec<Range<usize>>; N],
    ) -> Result<[Linear; N]> {
        let source = self.checkpoint.linear(path, n, k)?;
        let mut linears = Vec::with_capacity(N);
        for pieces in pieces {
            let weight = Arc::new(self.weight_pieces(&source, &pieces)?);
            self.bytes_per_token += weight.byte_len() as u64;
            linears.push(Linear { weight, bias: None });
        }
        Ok(linears.try_into().expect("a layer for each part"))
    }

    /// An embedding: `n` rows of width `k`.
    pub fn embedding(&mut self, path: &str, n: usize, k: usize) -> Result<Linear> {
        let source = self.checkpoint.embedding(path, n, k)?;
        Ok(Linear { weight: Arc::new(self.weight(&source)?), bias: None })
    }

    /// A tensor as wide as the residual stream.
    pub fn vector(&mut self, name: &str) -> Result<Buffer> {
        self.floats(self.checkpoint.floats(name, &[self.config.hidden_size])?)
    }

    /// The weight of an RMSNorm over the residual stream.
    pub fn norm(&mut self, path: &str) -> Result<Buffer> {
        self.norm_of(path, self.config.hidden_size)
    }

    /// The weight of an RMSNorm over so many elements.
    pub fn norm_of(&mut self, path: &str, width: usize) -> Result<Buffer> {
        let tensor = self.checkpoint.floats(&format!("{path}.weight"), &[width])?;
        let mut values = self.host_floats(tensor)?;
        let offset = self.config.norm_offset as f32;
        values.iter_mut().for_each(|value| *value += offset);
        self.upload_floats(tensor, &values)
    }

    /// The weight of an RMSNorm over so many elements, as it is stored in every family.
    pub fn plain_norm(&mut self, path: &str, width: usize) -> Result<Buffer> {
        self.floats(self.checkpoint.floats(&format!("{path}.weight"), &[width])?)
    }

    /// A vector of so many floats, each as `map` makes it.
    pub fn mapped(&mut self, name: &str, len: usize, map: impl Fn(f32) -> f32) -> Result<Buffer> {
        let tensor = self.checkpoint.floats(name, &[len])?;
        let values: Vec<f32> = self.host_floats(tensor)?.into_iter().map(map).collect();
        self.upload_floats(tensor, &values)
    }

    /// Whether the checkpoint has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.tensor(name).is_some()
    }

    /// The weight of a depthwise convolution, `[taps, channels]` on the device. Files have a channel's taps together, with or
    /// without a dimension of 1 beside them.
    pub fn depthwise(&mut self, path: &str, channels: usize, taps: usize) -> Result<Buffer> {
        let tensor = self.checkpoint.require(&format!("{path}.weight"))?;
        let shapes: [&[usize]; 3] = [&[channels, 1, taps], &[channels, taps, 1], &[channels, taps]];
        if !shapes.contains(&tensor.shape.as_slice()) {
            return Err(Error::WrongShape {
                path: tensor.file.path().to_path_buf(),
                tensor: tensor.file_name.clone(),
                expected: vec![channels, 1, taps],
                found: tensor.shape.clone(),
            });
        }
        let values = self.host_floats(tensor)?;
        let turned: Vec<f32> =
            (0..taps * channels).map(|i| values[i % channels * taps + i / channels]).collect();
        let tensor = Tensor { shape: vec![taps, channels], ..tensor.clone() };
        self.upload_floats(&tensor, &turned)
    }

    /// The values of a tensor, `[len]` floats.
    pub fn float_values(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        self.host_floats(self.checkpoint.floats(name, &[len])?)
    }

    /// Where the weights go.
    pub fn device(&self) -> &Device {
        self.device
    }

    fn weight(&mut self, source: &LinearSource<'_>) -> Result<Weight> {
        self.weight_rows(source, 0..source.n)
    }

    /// Some rows of a weight, as a weight of their own.
    fn weight_rows(&mut self, source: &LinearSource<'_>, rows: Range<usize>) -> Result<Weight> {
        let (format, parts) = describe(&source.weight)?;
        let parts = parts_of_rows(format, &parts, &rows)?;
        let buffers = parts.iter().map(|t| self.host.map(&t.file, t.offset, DType::U8, &[t.len]));
        let buffers = buffers.collect::<dacapo::Result<Vec<_>>>()?;
        self.repacked(format, rows.len(), source.k, &parts, buffers)
    }

    /// Rows of a weight that lie in pieces, as a weight of their own: put together in memory first.
    fn weight_pieces(&mut self, source: &LinearSource<'_>, pieces: &[Range<usize>]) -> Result<Weight> {
        let (format, parts) = describe(&source.weight)?;
        let partial = pieces.iter().find(|rows| !rows.len().is_multiple_of(FP8_BLOCK));
        if let (Format::Fp8 { .. }, Some(rows)) = (format, partial) {
            let expected = format!("pieces of multiples of {FP8_BLOCK} rows in {format}");
            return Err(unsupported(parts[0], &expected, &format!("one of {}", rows.len())));
        }
        let rows = pieces.iter().map(|rows| parts_of_rows(format, &parts, rows));
        let pieces_of = rows.collect::<Result<Vec<_>>>()?;
        let mut buffers = Vec::with_capacity(parts.len());
        for (i, tensor) in parts.iter().enumerate() {
            let bytes: Vec<u8> =
                pieces_of.iter().flat_map(|parts| parts[i].bytes().iter().copied()).collect();
            buffers.push(self.host.upload(&bytes, &[bytes.len()]).map_err(|error| no_room(error, tensor))?);
        }
        let gathered: Vec<Tensor> = pieces_of.into_iter().flatten().collect();
        let n = pieces.iter().map(Range::len).sum();
        self.repacked(format, n, source.k, &gathered, buffers)
    }

    /// The weight whose codes, scales and biases are in these buffers, which hold these tensors.
    fn repacked(
        &mut self,
        format: Format,
        n: usize,
        k: usize,
        parts: &[Tensor],
        buffers: Vec<Buffer>,
    ) -> Result<Weight> {
        let weight = self.on_host(format, n, k, parts, buffers)?;
        let weight = match self.device.info().backend {
            // They have just been written: they are there.
            BackendKind::Cpu => weight,
            _ => {
                let weight = self.upload(&weight, parts)?;
                self.resident.add(weight.data())?;
                weight
            }
        };
        self.release(parts);
        self.weight_bytes += weight.byte_len() as u64;
        Ok(weight)
    }

    /// The weight `[n, k]` of these tensors, in panels, on the processor.
    fn repack(&self, format: Format, parts: &[Tensor], n: usize, k: usize) -> Result<Weight> {
        let buffers = parts.iter().map(|t| self.host.map(&t.file, t.offset, DType::U8, &[t.len]));
        self.on_host(format, n, k, parts, buffers.collect::<dacapo::Result<Vec<_>>>()?)
    }

    /// As [`repack`](Self::repack), of what is in these buffers.
    fn on_host(
        &self,
        format: Format,
        n: usize,
        k: usize,
        parts: &[Tensor],
        buffers: Vec<Buffer>,
    ) -> Result<Weight> {
        let mut buffers = buffers.into_iter();
        let codes = buffers.next().expect("every weight has codes");
        let (scales, biases) = (buffers.next(), buffers.next());
        // Formats without biases have none of any length.
        let nothing = codes.slice_view(0, &[0])?;
        let scales = scales.map(|scales| (scales, biases.unwrap_or(nothing)));
        Weight::load(&self.host, &WeightSource { format, n, k, codes, scales })
            .map_err(|error| bad_weight(error, &parts[0]))
    }

    /// Gives back the pages of tensors that have been read, and counts them.
    fn release(&mut self, parts: &[Tensor]) {
        for tensor in parts {
            tensor.file.release(tensor.offset..tensor.offset + tensor.len);
            self.count(tensor);
        }
    }

    /// The weight that these tensors became, on the device. Large ones tell on the way how far they are.
    fn upload(&mut self, weight: &Weight, parts: &[Tensor]) -> Result<Weight> {
        let stored: u64 = parts.iter().map(|tensor| tensor.len as u64).sum();
        let (before, all) = (self.done, weight.byte_len().max(1) as u128);
        let progress = &mut self.progress;
        let report = &mut |there: usize| {
            let done_bytes = before.done_bytes + (u128::from(stored) * there as u128 / all) as u64;
            progress(LoadProgress { done_bytes, ..before });
        };
        weight.upload(self.device, report).map_err(|error| no_room(error, &parts[0]))
    }

    /// A small tensor of floats as F32.
    fn floats(&mut self, tensor: &Tensor) -> Result<Buffer> {
        let values = self.host_floats(tensor)?;
        self.upload_floats(tensor, &values)
    }

    /// The values that a tensor became, on the device.
    fn upload_floats(&mut self, tensor: &Tensor, values: &[f32]) -> Result<Buffer> {
        let buffer = self.device.upload(values, &tensor.shape).map_err(|error| no_room(error, tensor))?;
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

/// What these rows of a weight need of its tensors.
fn parts_of_rows(format: Format, parts: &[&Tensor], rows: &Range<usize>) -> Result<Vec<Tensor>> {
    let Format::Fp8 { .. } = format else {
        // A vector stands for a single row.
        let some = |tensor: &&Tensor| match tensor.shape.len() {
            1 => (*tensor).clone(),
            _ => tensor.rows(rows.clone()),
        };
        return Ok(parts.iter().map(some).collect());
    };
    let [codes, scales] = parts else { unreachable!("codes and scales") };
    if !rows.start.is_multiple_of(FP8_BLOCK) {
        let expected = format!("projections that begin at multiples of {FP8_BLOCK} rows in {format}");
        return Err(unsupported(codes, &expected, &format!("one at row {}", rows.start)));
    }
    let squares = rows.start / FP8_BLOCK..rows.end.div_ceil(FP8_BLOCK);
    Ok(vec![codes.rows(rows.clone()), scales.rows(squares)])
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

/// Why a weight could not be loaded.
fn bad_weight(error: dacapo::Error, tensor: &Tensor) -> Error {
    match error {
        dacapo::Error::OutOfMemory { .. } => no_room(error, tensor),
        error => Error::BadWeight {
            path: tensor.file.path().to_path_buf(),
            tensor: tensor.file_name.clone(),
            reason: error.to_string(),
        },
    }
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
