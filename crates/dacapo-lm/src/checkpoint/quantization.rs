//! How a module's weight is stored: plain floats, MLX's groups, GGML blocks, or 8-bit floats with scales.
//!
//! MLX writes a `quantization` object into `config.json`. Its entries per module path are binding; for a
//! module that it does not list, group size and bits follow from the tensors' shapes, as in mlx-lm. A module
//! without `scales` is not quantized, whatever the configuration says.

use dacapo_ops::quant::{FP8_BLOCK, Fp};
use serde_json::Value;

use super::folder::json_kind;
use super::tensor::{Tensor, TensorKind};
use super::{Checkpoint, Source};
use crate::error::{Error, Result};

/// Bits of an affine code that can be run.
const BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];
/// Inputs that share an affine scale.
const GROUPS: [usize; 3] = [32, 64, 128];

/// What can be run of 8-bit floats.
const FP8: &str = "F8_E4M3 matrices with weight_scale_inv for squares of 128";

/// The weight of a linear layer or an embedding, `[n, k]`, and its additive bias.
#[derive(Debug, Clone, Copy)]
pub struct LinearSource<'a> {
    /// Outputs of a linear layer; rows of an embedding.
    pub n: usize,
    /// Inputs of a linear layer; width of an embedding.
    pub k: usize,
    /// The weight.
    pub weight: LinearWeight<'a>,
    /// Added to the product, `[n]` floats. Not the `biases` of affine groups.
    pub bias: Option<&'a Tensor>,
}

/// How a weight is stored.
#[derive(Debug, Clone, Copy)]
pub enum LinearWeight<'a> {
    /// F32, F16 or BF16, `[n, k]`.
    Dense(&'a Tensor),
    /// MLX's affine quantization: `w = scale * code + bias` with one scale and bias for each group of inputs.
    Affine {
        /// Packed codes, U32, `[n, k * bits / 32]`: a row is one little-endian bit stream.
        weight: &'a Tensor,
        /// Floats, `[n, k / group]`.
        scales: &'a Tensor,
        /// Floats of the same type, `[n, k / group]`.
        biases: &'a Tensor,
        /// Bits of a code: 2, 3, 4, 5, 6 or 8.
        bits: usize,
        /// Inputs in a group: 32, 64 or 128.
        group: usize,
    },
    /// Blocks of a GGML format, `[n, k]` elements.
    Ggml(&'a Tensor),
    /// MLX's groups of small floats.
    Fp {
        /// Packed floats, U32, `[n, k * bits / 32]`: a row is one little-endian bit stream.
        weight: &'a Tensor,
        /// A byte for each group, U8, `[n, k / group]`.
        scales: &'a Tensor,
        /// The mode, which tells bits and group.
        mode: Fp,
    },
    /// 8-bit floats, F8_E4M3, `[n, k]`, with a scale for each square of 128.
    Fp8 {
        /// The floats.
        weight: &'a Tensor,
        /// Floats, `[n / 128, k / 128]`, rounded up.
        scales: &'a Tensor,
    },
}

impl Checkpoint {
    /// The linear layer at the module path `path` (as in `model.layers.0.mlp.up_proj`) with `n` outputs and
    /// `k` inputs, and its bias if it has one.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongType`]; [`Error::Config`] if the
    /// quantization configuration contradicts the tensors; [`Error::UnsupportedQuantization`].
    pub fn linear(&self, path: &str, n: usize, k: usize) -> Result<LinearSource<'_>> {
        let weight = self.weight(path, &[n], k)?;
        let bias = self.tensor(&format!("{path}.bias"));
        if let Some(bias) = bias {
            check_shape(bias, &[n])?;
            check_float(bias)?;
        }
        Ok(LinearSource { n, k, weight, bias })
    }

    /// The embedding at the module path `path`, `n` rows of width `k`.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub fn embedding(&self, path: &str, n: usize, k: usize) -> Result<LinearSource<'_>> {
        Ok(LinearSource { n, k, weight: self.weight(path, &[n], k)?, bias: None })
    }

    /// The matrices `[n, k]` of `count` experts that one tensor holds, at the module path `path`.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub(crate) fn stack(&self, path: &str, count: usize, n: usize, k: usize) -> Result<LinearWeight<'_>> {
        self.weight(path, &[count, n], k)
    }

    /// A matrix of `n` rows, or a stack of them.
    fn weight(&self, path: &str, n: &[usize], k: usize) -> Result<LinearWeight<'_>> {
        let weight = self.require(&format!("{path}.weight"))?;
        if let Some(scales) = self.tensor(&format!("{path}.scales")) {
            return self.affine(path, weight, scales, n, k, None);
        }
        let shape = [n, &[k]].concat();
        match weight.kind {
            TensorKind::U32 => Err(Error::MissingTensor {
                path: self.path().to_path_buf(),
                tensor: format!("{path}.scales"),
            }),
            TensorKind::Ggml(_) => {
                check_shape(weight, &shape)?;
                Ok(LinearWeight::Ggml(weight))
            }
            TensorKind::F8E4M3 => match *n {
                [n] => self.fp8(path, weight, n, k),
                _ => Err(not_among(weight, FP8, format!("shape {:?}", weight.shape))),
            },
            _ => {
                check_float(weight)?;
                // GGUF files have a single row as a vector.
                if !(n == [1] && weight.shape == [k]) {
                    check_shape(weight, &shape)?;
                }
                Ok(LinearWeight::Dense(weight))
            }
        }
    }

    /// 8-bit floats as DeepSeek and Qwen write them.
    fn fp8<'a>(&'a self, path: &str, weight: &'a Tensor, n: usize, k: usize) -> Result<LinearWeight<'a>> {
        check_shape(weight, &[n, k])?;
        let block = self.quantization().and_then(|(_, value)| value.get("weight_block_size"));
        if let Some(block) = block.filter(|block| **block != serde_json::json!([FP8_BLOCK, FP8_BLOCK])) {
            return Err(not_among(weight, FP8, format!("squares of {block}")));
        }
        let scales = self.tensor(&format!("{path}.weight_scale_inv"));
        let scales = scales.ok_or_else(|| not_among(weight, FP8, "no such tensor".into()))?;
        check_float(scales)?;
        check_shape(scales, &[n.div_ceil(FP8_BLOCK), k.div_ceil(FP8_BLOCK)])?;
        Ok(LinearWeight::Fp8 { weight, scales })
    }

    /// Small floats in the mode that the configuration names for the module, or that the shapes show.
    fn fp<'a>(
        &'a self,
        weight: &'a Tensor,
        scales: &'a Tensor,
        n: &[usize],
        k: usize,
        mode: Option<&str>,
    ) -> Result<LinearWeight<'a>> {
        let with_last = |last: usize| [n, &[last]].concat();
        let fits = |fp: &Fp| {
            let words = k.checked_mul(fp.bits()).map(|bits| bits / 32);
            k.is_multiple_of(32)
                && words.is_some_and(|words| weight.shape == with_last(words))
                && scales.shape == with_last(k / fp.group())
        };
        if weight.kind != TensorKind::U32 {
            return Err(wrong_type(weight, "U32, since the module has scales"));
        }
        let found = match mode.filter(|&mode| mode != "affine") {
            Some(name) => Fp::ALL.into_iter().find(|fp| fp.name() == name).filter(fits),
            None => Fp::ALL.into_iter().find(fits),
        };
        let mode = found.ok_or_else(|| {
            let mode = mode.map_or(String::new(), |mode| format!(" in mode {mode:?}"));
            let found = format!("shape {:?} with 8-bit scales {:?}{mode}", weight.shape, scales.shape);
            not_among(weight, "the shapes of mxfp4, mxfp8 or nvfp4", found)
        })?;
        Ok(LinearWeight::Fp { weight, scales, mode })
    }

    /// Whether a tensor is part of how a weight is stored, as scales and biases are, rather than a parameter itself.
    pub(crate) fn belongs_to_weight(&self, name: &str) -> bool {
        if let Some(module) = name.strip_suffix(".weight_scale_inv") {
            return self.tensor(&format!("{module}.weight")).is_some();
        }
        let module = [".scales", ".biases"].iter().find_map(|suffix| name.strip_suffix(suffix));
        module.is_some_and(|module| {
            let part = |suffix: &str| self.tensor(&format!("{module}.{suffix}"));
            part("weight").is_some() && part("scales").is_some()
        })
    }

    /// The weight at the module path `path` with the shape of its values, as the tensors themselves have it: matrices, or
    /// stacks of them.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub(crate) fn stored(&self, path: &str) -> Result<(Vec<usize>, LinearWeight<'_>)> {
        let weight = self.require(&format!("{path}.weight"))?;
        let mut shape = weight.shape.clone();
        let Some(scales) = self.tensor(&format!("{path}.scales")) else {
            let stored = match weight.kind {
                TensorKind::Ggml(_) => LinearWeight::Ggml(weight),
                TensorKind::F8E4M3 => match *shape {
                    [n, k] => self.fp8(path, weight, n, k)?,
                    _ => return Err(not_among(weight, FP8, format!("shape {shape:?}"))),
                },
                _ => {
                    check_float(weight)?;
                    LinearWeight::Dense(weight)
                }
            };
            return Ok((shape, stored));
        };
        let outer = shape[..shape.len().max(1) - 1].to_vec();
        let (words, groups) = (weight.shape.last().copied(), scales.shape.last().copied());
        let (words, groups) = (words.unwrap_or(0), groups.unwrap_or(0));
        if scales.kind == TensorKind::U8 {
            // Either the width of the words or that of the groups tells how many values there are.
            let listed = self.listed(path)?.map(|listed| listed.mode);
            let mode = listed.as_deref().or(self.top_level_mode());
            let named = |fp: &Fp| mode.is_none_or(|mode| mode == "affine" || mode == fp.name());
            let fits = |fp: &Fp| words.saturating_mul(32) / fp.bits() == groups.saturating_mul(fp.group());
            let fp = Fp::ALL.into_iter().find(|fp| named(fp) && fits(fp));
            let k = fp.map_or(0, |fp| groups.saturating_mul(fp.group()));
            if let Some(last) = shape.last_mut() {
                *last = k;
            }
            return Ok((shape, self.fp(weight, scales, &outer, k, mode)?));
        }
        let fits = |bits: usize, group: usize| words.checked_mul(32) == groups.checked_mul(group * bits);
        let (bits, group) = match self.listed(path)? {
            Some(listed) => (listed.bits, listed.group),
            None => {
                // Several pairs may have the same tensors; the configuration's comes first.
                let top = |key: &str| Some(self.quantization()?.1.get(key)?.as_u64()? as usize);
                let pairs = GROUPS.iter().flat_map(|&group| BITS.iter().map(move |&bits| (bits, group)));
                let mut all = top("bits").zip(top("group_size")).into_iter().chain(pairs);
                all.find(|&(bits, group)| {
                    BITS.contains(&bits) && GROUPS.contains(&group) && fits(bits, group)
                })
                .ok_or_else(|| unsupported(weight, format!("{words} words with {groups} scales")))?
            }
        };
        let k = groups.saturating_mul(group);
        if let Some(last) = shape.last_mut() {
            *last = k;
        }
        Ok((shape, self.affine(path, weight, scales, &outer, k, Some((bits, group)))?))
    }

    fn affine<'a>(
        &'a self,
        path: &str,
        weight: &'a Tensor,
        scales: &'a Tensor,
        n: &[usize],
        k: usize,
        known: Option<(usize, usize)>,
    ) -> Result<LinearWeight<'a>> {
        let listed = self.listed(path)?;
        if scales.kind == TensorKind::U8 {
            let mode = listed.as_ref().map(|listed| listed.mode.as_str()).or(self.top_level_mode());
            return self.fp(weight, scales, n, k, mode);
        }
        if let Some(Listed { mode, .. }) = listed.as_ref().filter(|l| l.mode != "affine") {
            return Err(unsupported(weight, format!("mode {mode:?} with scales in {}", scales.kind)));
        }
        if weight.kind != TensorKind::U32 {
            return Err(wrong_type(weight, "U32, since the module has scales"));
        }
        check_float(scales)?;
        let (bits, group) = match (listed, known) {
            (Some(listed), _) => (listed.bits, listed.group),
            (None, Some(known)) => known,
            (None, None) => infer(weight, scales, k)?,
        };
        if !BITS.contains(&bits) {
            return Err(unsupported(weight, format!("{bits} bits for {k} inputs")));
        }
        if !GROUPS.contains(&group) || !k.is_multiple_of(group) {
            return Err(unsupported(weight, format!("groups of {group} for {k} inputs")));
        }
        let with_last = |last: usize| [n, &[last]].concat();
        check_shape(weight, &with_last(k / group * bits * group / 32))?;
        check_shape(scales, &with_last(k / group))?;
        let biases = self.require(&format!("{path}.biases"))?;
        check_shape(biases, &with_last(k / group))?;
        if biases.kind != scales.kind {
            return Err(wrong_type(biases, &format!("{}, as the scales", scales.kind)));
        }
        Ok(LinearWeight::Affine { weight, scales, biases, bits, group })
    }

    /// The configuration's `quantization`, or its copy under `quantization_config`.
    fn quantization(&self) -> Option<(&'static str, &Value)> {
        let config = match &self.source {
            Source::Folder(folder) => folder.config(),
            Source::Gguf(_) => return None,
        };
        ["quantization", "quantization_config"]
            .into_iter()
            .find_map(|key| Some((key, config.get(key).filter(|value| !value.is_null())?)))
    }

    fn top_level_mode(&self) -> Option<&str> {
        self.quantization()?.1.get("mode")?.as_str()
    }

    /// What the configuration says about the module at `path`.
    fn listed(&self, path: &str) -> Result<Option<Listed>> {
        let Some((key, quantization)) = self.quantization() else { return Ok(None) };
        let entry = super::names::in_folder(path).find_map(|name| quantization.get(&name));
        let Some(entry) = entry else { return Ok(None) };
        let key = format!("{key}.{path}");
        let fail = |key: &str, expected: &str, found: String| {
            Error::config(&self.config_path(), key, expected, found)
        };
        // `true` quantizes with the numbers at the top, which the shapes repeat.
        match entry {
            Value::Bool(true) => return Ok(None),
            Value::Bool(false) => {
                return Err(fail(&key, "a quantized module, since it has scales", "false".into()));
            }
            Value::Object(_) => {}
            other => return Err(fail(&key, "an object or false", json_kind(other).into())),
        }
        let number = |name: &str| -> Result<usize> {
            match entry.get(name).and_then(Value::as_u64).and_then(|v| usize::try_from(v).ok()) {
                Some(value) => Ok(value),
                None => {
                    let found = entry.get(name).map_or("nothing".into(), Value::to_string);
                    Err(fail(&format!("{key}.{name}"), "a positive integer", found))
                }
            }
        };
        // An entry without a mode is affine, even below a top level of another mode.
        let mode = match entry.get("mode") {
            None | Some(Value::Null) => "affine",
            Some(Value::String(mode)) => mode,
            Some(other) => {
                return Err(fail(&format!("{key}.mode"), "a string", json_kind(other).into()));
            }
        };
        Ok(Some(Listed { bits: number("bits")?, group: number("group_size")?, mode: mode.to_string() }))
    }
}

/// An entry of the quantization configuration.
struct Listed {
    bits: usize,
    group: usize,
    mode: String,
}

/// Bits and group of a module with `k` inputs, from the last dimensions of its tensors.
fn infer(weight: &Tensor, scales: &Tensor, k: usize) -> Result<(usize, usize)> {
    let words = weight.shape.last().copied().unwrap_or(0);
    let groups = scales.shape.last().copied().unwrap_or(0);
    match words.checked_mul(32) {
        Some(code_bits) if k > 0 && groups > 0 && k.is_multiple_of(groups) && code_bits.is_multiple_of(k) => {
            Ok((code_bits / k, k / groups))
        }
        _ => Err(unsupported(weight, format!("{words} words and {groups} scales for {k} inputs"))),
    }
}

/// A module with scales that are not those of affine groups that can be run.
fn unsupported(tensor: &Tensor, found: String) -> Error {
    not_among(tensor, "affine codes of 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128", found)
}

fn not_among(tensor: &Tensor, expected: &str, found: String) -> Error {
    Error::UnsupportedQuantization {
        path: tensor.file.path().to_path_buf(),
        tensor: tensor.file_name.clone(),
        expected: expected.into(),
        found,
    }
}

pub(super) fn wrong_type(tensor: &Tensor, expected: &str) -> Error {
    Error::WrongType {
        path: tensor.file.path().to_path_buf(),
        tensor: tensor.file_name.clone(),
        expected: expected.to_string(),
        found: tensor.kind.to_string(),
    }
}

/// Checks a tensor's shape.
pub(super) fn check_shape(tensor: &Tensor, expected: &[usize]) -> Result<()> {
    if tensor.shape == expected {
        return Ok(());
    }
    Err(Error::WrongShape {
        path: tensor.file.path().to_path_buf(),
        tensor: tensor.file_name.clone(),
        expected: expected.to_vec(),
        found: tensor.shape.clone(),
    })
}

/// Checks that a tensor holds floats that the kernels read.
pub(super) fn check_float(tensor: &Tensor) -> Result<()> {
    if tensor.kind.is_float() { Ok(()) } else { Err(wrong_type(tensor, "F32, F16 or BF16")) }
}
