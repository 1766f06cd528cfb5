//! Gated delta nets: how Hugging Face's and MLX's folders and GGUF files arrange their tensors, and what they say about them.
//!
//! Folders have value heads in an order in which neighbours share a key head; in GGUF files of Qwen3.5 they go around the key
//! heads. Qwen3-Next's folders have for each key head all rows that belong to it, GGUF files all queries, keys and values
//! before the gates.

use std::collections::HashMap;

use serde_json::{Map as JsonMap, Value, json};

use super::input::{Input, Map};
use super::metadata::Keys;
use super::{special, unconvertible};
use crate::checkpoint::{Checkpoint, DeltaNets, ModelConfig};
use crate::error::Result;
use crate::model::delta_net::interleaved;

/// The middle of the names.
const MODULE: &str = ".linear_attn.";

/// Leaves out what is no part of the model of text: layers that foresee further tokens, and what sees images.
pub(super) fn keep_text(model: &ModelConfig, inputs: &mut Vec<Input>) {
    if model.delta_nets.is_some() {
        let foresees = |name: &str| name.starts_with("mtp.") || name.contains(".mtp.");
        inputs.retain(|input| !foresees(&input.name) && !special::is_vision(&input.name));
    }
}

/// Layer's module and part of a name within a delta net.
fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(MODULE)
}

/// The tensors of a folder as MLX's models have them: norms whole, and convolutions `[C, K, 1]`.
///
/// # Errors
/// If a convolution has another shape.
pub(super) fn folder_to_mlx(model: &ModelConfig, mut inputs: Vec<Input>) -> Result<Vec<Input>> {
    let Some(nets) = &model.delta_nets else { return Ok(inputs) };
    for input in &mut inputs {
        input.add_to_norm(model.norm_offset as f32);
        if let Some((_, "conv1d.weight")) = split(&input.name) {
            turn_convolution(nets, input)?;
        }
    }
    Ok(inputs)
}

/// A convolution `[C, K]`, with or without a dimension of 1 on either side.
fn flatten_convolution(nets: &DeltaNets, input: &mut Input) -> Result<()> {
    let (channels, taps) = (nets.channels(), nets.taps);
    let shapes: [&[usize]; 3] = [&[channels, 1, taps], &[channels, taps, 1], &[channels, taps]];
    if !shapes.contains(&input.shape.as_slice()) {
        return Err(input.wrong_shape(vec![channels, 1, taps]));
    }
    input.reshape(vec![channels, taps]);
    Ok(())
}

/// A convolution `[C, K, 1]`.
fn turn_convolution(nets: &DeltaNets, input: &mut Input) -> Result<()> {
    flatten_convolution(nets, input)?;
    input.shape.push(1);
    Ok(())
}

/// The tensors of a folder as GGUF files have them.
///
/// # Errors
/// If shapes are not those that the configuration tells.
pub(super) fn folder_to_gguf(model: &ModelConfig, inputs: Vec<Input>) -> Result<Vec<Input>> {
    let Some(nets) = &model.delta_nets else { return Ok(inputs) };
    let heads = if is_tiled(model) { Some(to_tiled(nets)) } else { None };
    let mut out = Vec::with_capacity(inputs.len());
    for mut input in inputs {
        let name = input.name.clone();
        let Some((layer, part)) = split(&name) else {
            out.push(input);
            continue;
        };
        match part {
            "in_proj_qkvz.weight" => {
                for (part, rows) in ["in_proj_qkv", "in_proj_z"].into_iter().zip(interleaved(nets)) {
                    let mut piece = input.clone();
                    piece.name = format!("{layer}{MODULE}{part}.weight");
                    let of = nets.channels() + nets.values();
                    piece.select(of, || rows.into_iter().flatten().collect())?;
                    out.push(piece);
                }
                continue;
            }
            "A_log" => {
                input.name = format!("{layer}{MODULE}A");
                input.map = Map::MinusExp;
            }
            "conv1d.weight" => flatten_convolution(nets, &mut input)?,
            _ => {}
        }
        if let Some(heads) = &heads {
            move_heads(nets, heads, part, &mut input)?;
        }
        out.push(input);
    }
    Ok(out)
}

/// The tensors of a GGUF file as MLX's models have them.
///
/// # Errors
/// [`Error::Unconvertible`](crate::Error::Unconvertible) if projections are apart that MLX's models have together; if shapes are
/// not those that the configuration tells.
pub(super) fn gguf_to_mlx(
    checkpoint: &Checkpoint,
    model: &ModelConfig,
    inputs: Vec<Input>,
) -> Result<Vec<Input>> {
    let Some(nets) = &model.delta_nets else { return Ok(inputs) };
    let heads = if nets.tiled { Some(from_tiled(nets)) } else { None };
    let together = model.architecture == "qwen3next";
    let (mut out, mut halves) = (Vec::with_capacity(inputs.len()), HashMap::new());
    for mut input in inputs {
        let name = input.name.clone();
        let Some((layer, part)) = split(&name) else {
            out.push(input);
            continue;
        };
        match part {
            "in_proj_qkv.weight" | "in_proj_z.weight" if together => match halves.remove(layer) {
                None => {
                    halves.insert(layer.to_string(), input);
                }
                Some(other) if part == "in_proj_z.weight" => out.push(joined(nets, layer, other, input)?),
                Some(other) => out.push(joined(nets, layer, input, other)?),
            },
            "in_proj_a.weight" | "in_proj_b.weight" if together => {
                let found = format!("tensor {:?}", input.file_name);
                return Err(unconvertible(checkpoint.path(), "both in ssm_ba", found));
            }
            _ => {
                if part == "A" {
                    input.name = format!("{layer}{MODULE}A_log");
                    input.map = Map::LogOfMinus;
                }
                if part == "conv1d.weight" {
                    flatten_convolution(nets, &mut input)?;
                }
                if let Some(heads) = &heads {
                    move_heads(nets, heads, part, &mut input)?;
                }
                if part == "conv1d.weight" {
                    input.shape.push(1);
                }
                out.push(input);
            }
        }
    }
    match halves.into_values().next() {
        None => Ok(out),
        Some(half) => {
            let found = format!("tensor {:?} alone", half.file_name);
            Err(unconvertible(checkpoint.path(), "attn_qkv and attn_gate of each delta net", found))
        }
    }
}

/// Qwen3-Next's projection of all, from that to queries, keys and values and that to gates.
fn joined(nets: &DeltaNets, layer: &str, qkv: Input, z: Input) -> Result<Input> {
    qkv.check_first(nets.channels())?;
    z.check_first(nets.values())?;
    let mut input = Input::joined(format!("{layer}{MODULE}in_proj_qkvz.weight"), qkv, z)?;
    let all = nets.channels() + nets.values();
    input.select(all, || {
        let mut of = vec![0; all];
        for (row, place) in interleaved(nets).into_iter().flatten().flatten().enumerate() {
            of[place] = row;
        }
        of
    })?;
    Ok(input)
}

/// Whether GGUF files of the family have value heads go around the key heads.
fn is_tiled(model: &ModelConfig) -> bool {
    model.architecture != "qwen3next"
}

/// For each value head of a GGUF file of Qwen3.5, that of a folder.
fn to_tiled(nets: &DeltaNets) -> Vec<usize> {
    let share = nets.value_heads / nets.key_heads;
    (0..nets.value_heads).map(|head| head % nets.key_heads * share + head / nets.key_heads).collect()
}

/// For each value head of a folder, that of a GGUF file of Qwen3.5.
fn from_tiled(nets: &DeltaNets) -> Vec<usize> {
    let share = nets.value_heads / nets.key_heads;
    (0..nets.value_heads).map(|head| head % share * nets.key_heads + head / share).collect()
}

/// Moves value heads in the part of a net; `heads` are those of the source.
fn move_heads(nets: &DeltaNets, heads: &[usize], part: &str, input: &mut Input) -> Result<()> {
    let moved = |before: usize, width: usize| -> Vec<usize> {
        let of_head = |&head: &usize| before + head * width..before + (head + 1) * width;
        (0..before).chain(heads.iter().flat_map(of_head)).collect()
    };
    match part {
        "in_proj_qkv.weight" | "conv1d.weight" => {
            input.select(nets.channels(), || moved(2 * nets.key_heads * nets.key_dim, nets.value_dim))
        }
        "in_proj_z.weight" => input.select(nets.values(), || moved(0, nets.value_dim)),
        "in_proj_a.weight" | "in_proj_b.weight" | "A_log" | "A" | "dt_bias" => {
            input.select(nets.value_heads, || moved(0, 1))
        }
        "out_proj.weight" => input.move_columns(nets.values(), || moved(0, nets.value_dim)),
        _ => Ok(()),
    }
}

/// The number of which each last layer is one with attention.
fn interval(nets: &DeltaNets) -> usize {
    nets.layers.iter().position(|&is| !is).unwrap_or(nets.layers.len()) + 1
}

/// The keys of a GGUF file.
pub(super) fn add_keys(keys: &mut Keys, checkpoint: &Checkpoint, model: &ModelConfig) {
    let Some(nets) = &model.delta_nets else { return };
    let key = |name: &str| format!("{}.{name}", model.architecture);
    for (name, count) in [
        ("ssm.conv_kernel", nets.taps),
        ("ssm.state_size", nets.key_dim),
        ("ssm.group_count", nets.key_heads),
        ("ssm.time_step_rank", nets.value_heads),
        ("ssm.inner_size", nets.values()),
        ("full_attention_interval", interval(nets)),
    ] {
        keys.count_of(&key(name), count);
    }
    if is_tiled(model) {
        let mut sections = sections(checkpoint);
        sections.resize(4, 0);
        keys.i32s(&key("rope.dimension_sections"), &sections);
    }
}

/// As transformers assumes them.
const SECTIONS: [i32; 3] = [11, 11, 10];

/// How many rotated pairs stand for time, height and width; all are the same for text.
fn sections(checkpoint: &Checkpoint) -> Vec<i32> {
    let config = checkpoint.config().map(|config| config.get("text_config").unwrap_or(config));
    let rope = config.and_then(|config| config.get("rope_parameters").or(config.get("rope_scaling")));
    let list = rope.and_then(|rope| rope.get("mrope_section")?.as_array());
    let numbers = list.map(|list| list.iter().filter_map(|n| i32::try_from(n.as_i64()?).ok()));
    numbers.map_or(SECTIONS.to_vec(), |numbers| numbers.take(3).collect())
}

/// The same from a GGUF file.
fn sections_of_gguf(checkpoint: &Checkpoint, model: &ModelConfig) -> Vec<i32> {
    let key = format!("{}.rope.dimension_sections", model.architecture);
    let list = checkpoint.gguf().and_then(|gguf| gguf.numbers(&key).ok().flatten());
    list.map_or(SECTIONS.to_vec(), |list| list.take(3).map(|n| n as i32).collect())
}

/// What `config.json` says about delta nets, and how a part of each head is rotated.
pub(super) fn add_config(config: &mut JsonMap<String, Value>, checkpoint: &Checkpoint, model: &ModelConfig) {
    let Some(nets) = &model.delta_nets else { return };
    let kind = |&is: &bool| if is { "linear_attention" } else { "full_attention" };
    let part = model.rope.dims as f64 / model.head_dim as f64;
    let more = json!({
        "attention_bias": false,
        "attn_output_gate": true,
        "layer_types": nets.layers.iter().map(kind).collect::<Vec<_>>(),
        "full_attention_interval": interval(nets),
        "linear_num_key_heads": nets.key_heads,
        "linear_num_value_heads": nets.value_heads,
        "linear_key_head_dim": nets.key_dim,
        "linear_value_head_dim": nets.value_dim,
        "linear_conv_kernel_dim": nets.taps,
        "partial_rotary_factor": part,
    });
    if let Value::Object(more) = more {
        config.extend(more);
    }
    if is_tiled(model) {
        let mut rope = match config.get("rope_scaling") {
            Some(Value::Object(scaling)) => Value::Object(scaling.clone()),
            _ => json!({"rope_type": "default"}),
        };
        rope["rope_theta"] = model.rope.theta.into();
        rope["partial_rotary_factor"] = part.into();
        rope["mrope_section"] = sections_of_gguf(checkpoint, model).into();
        rope["mrope_interleaved"] = true.into();
        config.insert("rope_parameters".into(), rope);
    } else if model.experts.is_none() {
        // mlx-lm asks for these all the same.
        for key in
            ["num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size"]
        {
            config.insert(key.into(), 0.into());
        }
        config.insert("decoder_sparse_step".into(), 1.into());
        config.insert("mlp_only_layers".into(), json!([]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(key_heads: usize, value_heads: usize) -> DeltaNets {
        DeltaNets {
            layers: vec![true, false],
            key_heads,
            value_heads,
            key_dim: 4,
            value_dim: 3,
            taps: 4,
            tiled: false,
        }
    }

    #[test]
    fn orders_of_heads_undo_each_other() {
        for (keys, values) in [(1, 1), (2, 4), (4, 4), (3, 12), (16, 48)] {
            let nets = nets(keys, values);
            let (to, from) = (to_tiled(&nets), from_tiled(&nets));
            assert!((0..values).all(|head| to[from[head]] == head && from[to[head]] == head));
        }
        assert_eq!(to_tiled(&nets(2, 6)), [0, 3, 1, 4, 2, 5]);
    }

    #[test]
    fn layers_with_attention_are_counted() {
        let with = |layers: &[bool]| DeltaNets { layers: layers.to_vec(), ..nets(1, 1) };
        assert_eq!(interval(&with(&[true, true, true, false, true])), 4);
        assert_eq!(interval(&with(&[true, true])), 3);
        assert_eq!(interval(&with(&[false, true])), 1);
    }
}
