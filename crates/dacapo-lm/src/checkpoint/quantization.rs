//! How a module's weight is stored: plain floats, MLX's affine groups, or GGML blocks.
//!
//! MLX writes a `quantization` object into `config.json`. Its entries per module path are binding; for a
//! module that it does not list, group size and bits follow from the tensors' shapes, as in mlx-lm. A module
//! without `scales` is not quantized, whatever the configuration says.

use serde_json::Value;

use super::folder::json_kind;
use super::tensor::{Tensor, TensorKind};
use super::{Checkpoint, Source};
use crate::error::{Error, Result};

/// Bits of an affine code that can be run.
const BITS: [usize; 6] = [2, 3, 4, 5, 6, 8];
/// Inputs that share an affine scale.
const GROUPS: [usize; 3] = [32, 64, 128];

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
}

impl Checkpoint {
    /// The linear layer at the module path `path` (as in `model.layers.0.mlp.up_proj`) with `n` outputs and
    /// `k` inputs, and its bias if it has one.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongType`]; [`Error::Config`] if the
    /// quantization configuration contradicts the tensors; [`Error::UnsupportedQuantization`].
    pub fn linear(&self, path: &str, n: usize, k: usize) -> Result<LinearSource<'_>> {
        let weight = self.weight(path, n, k)?;
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
        Ok(LinearSource { n, k, weight: self.weight(path, n, k)?, bias: None })
    }

    fn weight(&self, path: &str, n: usize, k: usize) -> Result<LinearWeight<'_>> {
        let weight = self.require(&format!("{path}.weight"))?;
        if let Some(scales) = self.tensor(&format!("{path}.scales")) {
            return self.affine(path, weight, scales, n, k);
        }
        match weight.kind {
            TensorKind::U32 => Err(Error::MissingTensor {
                path: self.path().to_path_buf(),
                tensor: format!("{path}.scales"),
            }),
            TensorKind::Ggml(_) => {
                check_shape(weight, &[n, k])?;
                Ok(LinearWeight::Ggml(weight))
            }
            _ => {
                check_float(weight)?;
                check_shape(weight, &[n, k])?;
                Ok(LinearWeight::Dense(weight))
            }
        }
    }

    fn affine<'a>(
        &'a self,
        path: &str,
        weight: &'a Tensor,
        scales: &'a Tensor,
        n: usize,
        k: usize,
    ) -> Result<LinearWeight<'a>> {
        let listed = self.listed(path)?;
        if let Some(Listed { mode, .. }) = listed.as_ref().filter(|l| l.mode != "affine") {
            return Err(unsupported(weight, format!("mode {mode:?}, which is not supported yet")));
        }
        if scales.kind == TensorKind::U8 {
            let found = match self.top_level_mode() {
                None | Some("affine") => "8-bit scales, which are not supported yet".to_string(),
                Some(mode) => format!("mode {mode:?}, which is not supported yet"),
            };
            return Err(unsupported(weight, found));
        }
        if weight.kind != TensorKind::U32 {
            return Err(wrong_type(weight, "U32, since the module has scales"));
        }
        check_float(scales)?;
        let (bits, group) = match listed {
            Some(listed) => (listed.bits, listed.group),
            None => infer(weight, scales, k)?,
        };
        if !BITS.contains(&bits) {
            return Err(unsupported(weight, format!("{bits} bits for {k} inputs")));
        }
        if !GROUPS.contains(&group) || !k.is_multiple_of(group) {
            return Err(unsupported(weight, format!("groups of {group} for {k} inputs")));
        }
        check_shape(weight, &[n, k / group * bits * group / 32])?;
        check_shape(scales, &[n, k / group])?;
        let biases = self.require(&format!("{path}.biases"))?;
        check_shape(biases, &[n, k / group])?;
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

fn unsupported(tensor: &Tensor, found: String) -> Error {
    Error::UnsupportedQuantization {
        path: tensor.file.path().to_path_buf(),
        tensor: tensor.file_name.clone(),
        expected: "affine codes of 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128".into(),
        found,
    }
}

fn wrong_type(tensor: &Tensor, expected: &str) -> Error {
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
