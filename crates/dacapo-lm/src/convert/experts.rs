//! Experts: the matrices of all in one tensor, as MLX's folders and GGUF files have them, and what both say about them.

use std::collections::HashSet;

use dacapo_ops::quant::{Format, Fp};
use serde_json::{Map, Value, json};

use super::input::{Input, Matrix, dense};
use super::metadata::Keys;
use super::unconvertible;
use crate::checkpoint::{Checkpoint, ExpertSource, ExpertsConfig, ModelConfig};
use crate::error::Result;

const PARTS: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// Whether a tensor is a part of experts.
fn is_of_experts(name: &str) -> bool {
    [".experts.", ".switch_mlp."].iter().any(|part| name.contains(part))
}

/// The tensors of a folder with a stack for each projection of a layer's experts, in the place of whatever the folder has, by
/// the names that MLX's models have.
///
/// # Errors
/// [`Error::Unconvertible`](crate::Error::Unconvertible) if there are tensors among the experts that are none of these; what the
/// checkpoint finds.
pub(super) fn stacked(
    checkpoint: &Checkpoint,
    model: &ModelConfig,
    inputs: Vec<Input>,
) -> Result<Vec<Input>> {
    let Some(experts) = &model.experts else { return Ok(inputs) };
    let (mut out, mut known, mut done) = (vec![], HashSet::new(), HashSet::new());
    for input in inputs {
        if !is_of_experts(&input.name) {
            out.push(input);
            continue;
        }
        let layer = input.layer().filter(|&layer| experts.layers.get(layer).is_some_and(|&some| some));
        if let Some(layer) = layer.filter(|layer| !done.contains(layer)) {
            for stack in of_layer(checkpoint, model, experts, layer)? {
                known.extend(stack.parts().map(|part| part.name.clone()));
                out.push(stack);
            }
            done.insert(layer);
        }
        if layer.is_none() || !known.contains(&input.name) {
            let found = format!("tensor {:?}", input.file_name);
            return Err(unconvertible(checkpoint.path(), "experts of a known kind", found));
        }
    }
    Ok(out)
}

/// The stacks of a layer, and their biases.
fn of_layer(
    checkpoint: &Checkpoint,
    model: &ModelConfig,
    experts: &ExpertsConfig,
    layer: usize,
) -> Result<Vec<Input>> {
    let (block, module) = match model.architecture.as_str() {
        "mixtral" => ("block_sparse_moe", "switch_mlp"),
        "gpt-oss" => ("mlp", "experts"),
        _ => ("mlp", "switch_mlp"),
    };
    let block = format!("model.layers.{layer}.{block}");
    let mut out = vec![];
    for part in PARTS {
        let [n, k] = match part {
            "down_proj" => [model.hidden_size, experts.width],
            _ => [experts.width, model.hidden_size],
        };
        let shape = [experts.count, n, k];
        let matrices = matrices(checkpoint, &block, part, shape)?;
        out.push(Input::of(format!("{block}.{module}.{part}.weight"), shape.to_vec(), matrices));
        if model.architecture == "gpt-oss" {
            let (tensor, [first, step]) = checkpoint.expert_biases(&block, part, [experts.count, n])?;
            let all = Matrix::whole(dense(tensor), vec![tensor.clone()], experts.count);
            let name = format!("{block}.{module}.{part}.bias");
            let mut biases = Input::of(name, vec![experts.count, n], vec![all.every(first, step)]);
            biases.by_element()?;
            out.push(biases);
        }
    }
    Ok(out)
}

/// The matrices of a projection, `[n, k]` of each expert after the other.
fn matrices(
    checkpoint: &Checkpoint,
    block: &str,
    part: &str,
    [count, n, k]: [usize; 3],
) -> Result<Vec<Matrix>> {
    let mut out = vec![];
    for i in 0..count {
        out.push(match checkpoint.expert(block, part, i, [count, n, k])? {
            ExpertSource::Stacked(weight, _) => return Ok(vec![Matrix::of_weight(&weight, count * n)?]),
            ExpertSource::Own(weight) => Matrix::of_weight(&weight, n)?,
            ExpertSource::Rows(tensor) => Matrix::whole(dense(&tensor), vec![tensor], n),
            ExpertSource::Columns { tensor, first, step } => {
                Matrix::whole(dense(&tensor), vec![tensor], n).every(first, step).turned()
            }
            ExpertSource::Blocks { blocks, scales, first, step } => {
                Matrix::whole(Some(Format::Fp(Fp::MxFp4)), vec![blocks, scales], n).every(first, step)
            }
        });
    }
    Ok(out)
}

/// The keys of a GGUF file; `architecture` is the name there.
pub(super) fn add_keys(keys: &mut Keys, architecture: &str, model: &ModelConfig) {
    let Some(experts) = &model.experts else { return };
    let key = |name: &str| format!("{architecture}.{name}");
    keys.count_of(&key("expert_count"), experts.count);
    keys.count_of(&key("expert_used_count"), experts.chosen);
    if model.architecture != "mixtral" {
        keys.count_of(&key("expert_feed_forward_length"), experts.width);
    }
    if let Some(width) = experts.shared_width {
        keys.count_of(&key("expert_shared_feed_forward_length"), width);
    }
}

/// What `config.json` says about experts, in the words of the family.
pub(super) fn add_config(config: &mut Map<String, Value>, model: &ModelConfig) {
    let Some(experts) = &model.experts else { return };
    let more = match model.architecture.as_str() {
        "mixtral" | "gpt-oss" => json!({
            "num_local_experts": experts.count,
            "num_experts_per_tok": experts.chosen,
        }),
        _ => {
            let plain = |layer: &usize| !experts.layers[*layer];
            json!({
                "num_experts": experts.count,
                "num_experts_per_tok": experts.chosen,
                "moe_intermediate_size": experts.width,
                "norm_topk_prob": experts.normalized,
                "decoder_sparse_step": 1,
                "mlp_only_layers": (0..experts.layers.len()).filter(plain).collect::<Vec<_>>(),
            })
        }
    };
    if let Value::Object(more) = more {
        config.extend(more);
    }
    if let Some(width) = experts.shared_width {
        config.insert("shared_expert_intermediate_size".into(), width.into());
    }
}
