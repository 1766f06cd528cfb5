//! Where the weights of experts lie: in a tensor each, or together in one, in the ways of several formats.

use super::quantization::{check_float, check_shape, wrong_type};
use super::{Checkpoint, LinearWeight, Tensor, TensorKind};
use crate::error::Result;

/// The matrix `[n, k]` of one expert.
#[derive(Debug)]
pub(crate) enum ExpertSource<'a> {
    /// A weight of its own.
    Own(LinearWeight<'a>),
    /// The matrix of this number in a stack of all.
    Stacked(LinearWeight<'a>, usize),
    /// Rows of floats, `[n, k]`.
    Rows(Tensor),
    /// Every `step`-th column from `first` on of `[k, n * step]` floats.
    Columns { tensor: Tensor, first: usize, step: usize },
    /// Every `step`-th row from `first` on of `[n * step, k]` 4-bit floats, blocks of 16 bytes each of which has a scale.
    Blocks { blocks: Tensor, scales: Tensor, first: usize, step: usize },
}

impl Checkpoint {
    /// The projection `part` (`gate_proj`, `up_proj` or `down_proj`) of expert number `i` of `count`, `[n, k]`, in the module at
    /// `path`.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub(crate) fn expert(
        &self,
        path: &str,
        part: &str,
        i: usize,
        [count, n, k]: [usize; 3],
    ) -> Result<ExpertSource<'_>> {
        let has = |module: &str| self.tensor(&format!("{module}.weight")).is_some();
        // MLX and GGUF. gpt-oss has no module of its own for the stacks.
        let together = ["switch_mlp", "experts"].map(|module| format!("{path}.{module}.{part}"));
        if let Some(module) = together.iter().find(|module| has(module)) {
            return Ok(ExpertSource::Stacked(self.stack(module, count, n, k)?, i));
        }
        if let Some(source) = self.fused(path, part, i, [count, n, k])? {
            return Ok(source);
        }
        // Mixtral's have other names.
        let short = match part {
            "gate_proj" => "w1",
            "up_proj" => "w3",
            _ => "w2",
        };
        let names = [part, short].map(|part| format!("{path}.experts.{i}.{part}"));
        let module = names.iter().find(|module| has(module)).unwrap_or(&names[0]);
        Ok(ExpertSource::Own(self.linear(module, n, k)?.weight))
    }

    /// The same in Hugging Face's folders that have all experts together, gate and up in one tensor: gpt-oss's rows take turns,
    /// those of others follow each other.
    fn fused(
        &self,
        path: &str,
        part: &str,
        i: usize,
        [count, n, k]: [usize; 3],
    ) -> Result<Option<ExpertSource<'_>>> {
        let (name, first, step) = match part {
            "gate_proj" => ("gate_up_proj", 0, 2),
            "up_proj" => ("gate_up_proj", 1, 2),
            other => (other, 0, 1),
        };
        let at = format!("{path}.experts.{name}");
        let of_expert = |tensor: &Tensor| {
            let rows = tensor.rows(i..i + 1);
            Tensor { shape: rows.shape[1..].to_vec(), ..rows }
        };
        if let Some(blocks) = self.tensor(&format!("{at}_blocks")) {
            let scales = self.require(&format!("{at}_scales"))?;
            check_shape(blocks, &[count, n * step, k / 32, 16])?;
            check_shape(scales, &[count, n * step, k / 32])?;
            if let Some(other) = [blocks, scales].into_iter().find(|tensor| tensor.kind != TensorKind::U8) {
                return Err(wrong_type(other, "U8"));
            }
            let (blocks, scales) = (of_expert(blocks), of_expert(scales));
            return Ok(Some(ExpertSource::Blocks { blocks, scales, first, step }));
        }
        let Some(tensor) = self.tensor(&at) else { return Ok(None) };
        check_float(tensor)?;
        // gpt-oss's have inputs before outputs.
        if self.tensor(&format!("{at}_bias")).is_some() {
            check_shape(tensor, &[count, k, n * step])?;
            return Ok(Some(ExpertSource::Columns { tensor: of_expert(tensor), first, step }));
        }
        check_shape(tensor, &[count, n * step, k])?;
        Ok(Some(ExpertSource::Rows(of_expert(tensor).rows(first * n..(first + 1) * n))))
    }

    /// The biases of a projection of all experts, `[count, n]`: of a tensor's row, every so many elements from the first.
    ///
    /// # Errors
    /// As [`floats`](Self::floats).
    pub(crate) fn expert_biases(
        &self,
        path: &str,
        part: &str,
        [count, n]: [usize; 2],
    ) -> Result<(&Tensor, [usize; 2])> {
        let own = format!("{path}.experts.{part}.bias");
        if self.tensor(&own).is_some() {
            return Ok((self.floats(&own, &[count, n])?, [0, 1]));
        }
        let (name, turns) = match part {
            "gate_proj" => ("gate_up_proj_bias", [0, 2]),
            "up_proj" => ("gate_up_proj_bias", [1, 2]),
            _ => ("down_proj_bias", [0, 1]),
        };
        Ok((self.floats(&format!("{path}.experts.{name}"), &[count, n * turns[1]])?, turns))
    }
}
