//! Loading of experts: read and repacked one by one, so that memory stays bounded.

use dacapo::{BackendKind, Buffer};
use dacapo_ops::quant::{Format, Fp};
use dacapo_ops::{Experts, Weight, WeightSource};

use super::{Loader, bad_weight, describe, float_of, no_room};
use crate::checkpoint::{ExpertSource, Tensor};
use crate::error::Result;

impl Loader<'_> {
    /// The projection `part` (`gate_proj`, `up_proj`, `down_proj`) of a layer's experts, each `[n, k]`, in the module at `path`.
    pub fn experts(&mut self, path: &str, part: &str, n: usize, k: usize) -> Result<Experts> {
        let numbers = self.config.experts.as_ref().expect("who asks for experts has their configuration");
        let (count, chosen) = (numbers.count, numbers.chosen);
        let mut made: Option<Experts> = None;
        for i in 0..count {
            let source = self.checkpoint.expert(path, part, i, [count, n, k])?;
            let (format, parts, weight) = self.expert(source, n, k)?;
            let experts = match made.take() {
                Some(experts) => experts,
                None => Experts::new(self.device, format, count, n, k).map_err(|e| no_room(e, &parts[0]))?,
            };
            experts.put(i, &weight).map_err(|error| bad_weight(error, &parts[0]))?;
            made = Some(experts);
            self.release(&parts);
        }
        let experts = made.expect("there is at least one expert");
        if self.device.info().backend != BackendKind::Cpu {
            self.resident.add(experts.data())?;
        }
        self.weight_bytes += experts.byte_len() as u64;
        self.bytes_per_token += (chosen * experts.expert_bytes()) as u64;
        Ok(experts)
    }

    /// The biases of such a projection, F32 `[E, n]`.
    pub fn experts_bias(&mut self, path: &str, part: &str, n: usize) -> Result<Buffer> {
        let count = self.config.experts.as_ref().map_or(0, |experts| experts.count);
        let (tensor, [first, step]) = self.checkpoint.expert_biases(path, part, [count, n])?;
        let all = self.host_floats(tensor)?;
        let values: Vec<f32> = all.into_iter().skip(first).step_by(step).collect();
        let shaped = Tensor { shape: vec![count, n], len: tensor.len / step, ..tensor.clone() };
        self.upload_floats(&shaped, &values)
    }

    /// The sinks of an attention's heads, F32 `[H]`: a tensor that is no module's weight, but in GGUF files.
    pub fn sinks(&mut self, path: &str) -> Result<Buffer> {
        let names = [format!("{path}.sinks"), format!("{path}.sinks.weight")];
        let name = names.iter().find(|name| self.checkpoint.tensor(name).is_some()).unwrap_or(&names[0]);
        let tensor = self.checkpoint.floats(name, &[self.config.heads])?;
        self.floats(tensor)
    }

    /// One expert's weight on the processor, its format, and the tensors that it was made of.
    fn expert(&self, source: ExpertSource<'_>, n: usize, k: usize) -> Result<(Format, Vec<Tensor>, Weight)> {
        let (format, parts) = match source {
            ExpertSource::Own(weight) => {
                let (format, parts) = describe(&weight)?;
                (format, parts.into_iter().cloned().collect())
            }
            ExpertSource::Stacked(weight, i) => {
                let (format, parts) = describe(&weight)?;
                (format, parts.into_iter().map(|tensor| tensor.rows(i..i + 1)).collect())
            }
            ExpertSource::Rows(tensor) => (Format::Dense(float_of(&tensor)?), vec![tensor]),
            ExpertSource::Columns { tensor, first, step } => {
                let format = Format::Dense(float_of(&tensor)?);
                let rows = transposed(&tensor, n, first, step);
                let share = vec![part_of(&tensor, first, step)];
                return Ok((format, share, self.repack_bytes(format, [rows, vec![]], n, k, &tensor)?));
            }
            ExpertSource::Blocks { blocks, scales, first, step } => {
                let format = Format::Fp(Fp::MxFp4);
                let rows = [&blocks, &scales].map(|tensor| every(tensor, n * step, first, step));
                let share = [&blocks, &scales].map(|tensor| part_of(tensor, first, step)).to_vec();
                return Ok((format, share, self.repack_bytes(format, rows, n, k, &blocks)?));
            }
        };
        let weight = self.repack(format, &parts, n, k)?;
        Ok((format, parts, weight))
    }

    /// The weight of these codes and scales, in panels, on the processor; `tensor` is where they come from.
    fn repack_bytes(
        &self,
        format: Format,
        [codes, scales]: [Vec<u8>; 2],
        n: usize,
        k: usize,
        tensor: &Tensor,
    ) -> Result<Weight> {
        let upload = |bytes: &[u8]| self.host.upload(bytes, &[bytes.len()]);
        let load = || {
            let codes = upload(&codes)?;
            let apart = !matches!(format, Format::Dense(_));
            let scales = if apart { Some((upload(&scales)?, codes.slice_view(0, &[0])?)) } else { None };
            Weight::load(&self.host, &WeightSource { format, n, k, codes, scales })
        };
        load().map_err(|error| bad_weight(error, tensor))
    }
}

/// The share of a tensor's bytes that every so many of its rows or columns are, for what counts and releases them. Pages that are
/// given back too early are read again.
fn part_of(tensor: &Tensor, first: usize, step: usize) -> Tensor {
    let share = tensor.len / step;
    Tensor { offset: tensor.offset + first * share, len: share, ..tensor.clone() }
}

/// Every `step`-th of the tensor's `rows` rows from `first` on.
fn every(tensor: &Tensor, rows: usize, first: usize, step: usize) -> Vec<u8> {
    let bytes = tensor.bytes();
    let row = (bytes.len() / rows.max(1)).max(1);
    bytes.chunks_exact(row).skip(first).step_by(step).flatten().copied().collect()
}

/// The columns `first + step * i` of the tensor for i below `n`, as rows.
fn transposed(tensor: &Tensor, n: usize, first: usize, step: usize) -> Vec<u8> {
    let bytes = tensor.bytes();
    let (columns, elements) = (n * step, tensor.elements().max(1));
    let size = bytes.len() / elements;
    let mut out = Vec::with_capacity(bytes.len() / step);
    for column in (first..columns).step_by(step) {
        for row in bytes.chunks_exact((columns * size).max(1)) {
            out.extend_from_slice(&row[column * size..(column + 1) * size]);
        }
    }
    out
}
