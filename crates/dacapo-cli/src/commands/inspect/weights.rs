//! How a checkpoint's weights are stored, and how many there are.

use std::collections::{BTreeMap, HashSet};

use dacapo_lm::Checkpoint;
use dacapo_lm::checkpoint::{Tensor, TensorKind};
use serde::Serialize;
use serde_json::Value;

/// What all tensors amount to.
#[derive(Debug, Default, Serialize)]
pub struct Weights {
    /// Numbers that the model was trained to have.
    pub parameters: u64,
    /// Bytes that store them, scales included.
    pub bytes: u64,
    /// Bits for a parameter, everything included.
    pub bits_per_weight: f64,
    /// Formats, the largest first.
    pub formats: Vec<Format>,
}

/// A format of storage and what is stored so.
#[derive(Debug, Serialize)]
pub struct Format {
    /// Its name, as in "Q4_0" or "affine 4-bit, groups of 64".
    pub format: String,
    /// Weights stored so; scales and biases belong to theirs.
    pub tensors: usize,
    /// Their parameters.
    pub parameters: u64,
    /// Their bytes, scales included.
    pub bytes: u64,
}

/// Counts a checkpoint's weights.
pub fn summarize(checkpoint: &Checkpoint) -> Weights {
    let mut formats: BTreeMap<String, Format> = BTreeMap::new();
    let mut weights = Weights::default();
    let companions = companions(checkpoint);
    for tensor in checkpoint.tensors().iter().filter(|tensor| !companions.contains(tensor.name.as_str())) {
        let stored = Stored::of(checkpoint, tensor);
        weights.parameters += stored.parameters;
        weights.bytes += stored.bytes;
        let entry = formats.entry(stored.format.clone()).or_insert_with(|| Format {
            format: stored.format,
            tensors: 0,
            parameters: 0,
            bytes: 0,
        });
        entry.tensors += 1;
        entry.parameters += stored.parameters;
        entry.bytes += stored.bytes;
    }
    weights.formats = formats.into_values().collect();
    weights.formats.sort_by_key(|format| std::cmp::Reverse(format.bytes));
    weights.bits_per_weight = 8.0 * weights.bytes as f64 / weights.parameters.max(1) as f64;
    weights
}

/// Names of the scales and biases that belong to a quantized weight.
fn companions(checkpoint: &Checkpoint) -> HashSet<String> {
    let packed = checkpoint.tensors().iter().filter(|tensor| tensor.kind == TensorKind::U32);
    packed
        .filter_map(|tensor| tensor.name.strip_suffix(".weight"))
        .flat_map(|path| [format!("{path}.scales"), format!("{path}.biases")])
        .collect()
}

/// A weight with everything that belongs to it.
struct Stored {
    format: String,
    parameters: u64,
    bytes: u64,
}

impl Stored {
    fn of(checkpoint: &Checkpoint, tensor: &Tensor) -> Self {
        Self::packed(checkpoint, tensor).unwrap_or_else(|| Stored {
            format: tensor.kind.to_string(),
            parameters: tensor.elements() as u64,
            bytes: tensor.len as u64,
        })
    }

    /// A weight that MLX has packed into words, with scales and, in its affine mode, biases beside it.
    fn packed(checkpoint: &Checkpoint, tensor: &Tensor) -> Option<Self> {
        let path = tensor.name.strip_suffix(".weight").filter(|_| tensor.kind == TensorKind::U32)?;
        let scales = checkpoint.tensor(&format!("{path}.scales"))?;
        let biases = checkpoint.tensor(&format!("{path}.biases"));
        let (group, mode) = listed(checkpoint.config()?, path);
        let parameters = (scales.elements() as u64).checked_mul(group?)?;
        let bits = (tensor.len as u64 * 8).checked_div(parameters)?;
        let mode = mode.unwrap_or("affine");
        Some(Stored {
            format: format!("{mode} {bits}-bit, groups of {}, {} scales", group?, scales.kind),
            parameters,
            bytes: (tensor.len + scales.len + biases.map_or(0, |biases| biases.len)) as u64,
        })
    }
}

/// Group size and mode of the module at `path`, from its own entry in the configuration or the one for all.
fn listed<'a>(config: &'a Value, path: &str) -> (Option<u64>, Option<&'a str>) {
    let all = config.get("quantization").or_else(|| config.get("quantization_config"));
    let own = all.and_then(|all| all.get(path)).filter(|entry| entry.is_object());
    let entry = own.or(all);
    let get = |key| entry.and_then(|entry| entry.get(key));
    (get("group_size").and_then(Value::as_u64), get("mode").and_then(Value::as_str))
}
