//! GGUF files.

use dacapo::MappedFile;
use dacapo_ops::quant::{Float, Format};

use super::encode::{self, Counter, Form};
use super::input::{Input, Order};
use super::metadata::{self, Keys};
use super::mix::{GgufType, Mix, Traits};
use super::partial::{Output, Place};
use super::special::gguf_architecture;
use super::{Converted, Progress, check_across, delta, experts, same_model, special, unconvertible};
use crate::checkpoint::{Checkpoint, ModelConfig, is_permuted, names};
use crate::error::Result;

const ALIGNMENT: u64 = 32;

/// A tensor of the file.
struct Planned {
    name: String,
    /// GGML's id of the type.
    kind: u32,
    shape: Vec<usize>,
    bytes: u64,
    data: Data,
}

enum Data {
    Of(Input, Form),
    Here(Vec<f32>),
}

/// Writes the file.
pub(super) fn write(
    checkpoint: &Checkpoint,
    place: Place,
    mix: Mix,
    progress: &mut Progress<'_>,
) -> Result<Option<Converted>> {
    let model = checkpoint.model_config()?;
    let (keys, planned) = match checkpoint.gguf() {
        Some(gguf) => (metadata::from_gguf(gguf, mix), from_gguf(checkpoint, &model, mix)?),
        None => {
            check_across(checkpoint, &model)?;
            (metadata::from_folder(checkpoint, &model, mix)?, from_folder(checkpoint, &model, mix)?)
        }
    };
    let mut file = Output::create(place.partial())?;
    file.write(&header(&keys, &planned))?;
    let mut converted = Converted { bytes: 0, tensor_bytes: 0, parameters: 0 };
    let total = planned
        .iter()
        .map(|tensor| match &tensor.data {
            Data::Of(input, _) => input.bytes(),
            Data::Here(_) => 0,
        })
        .sum();
    let mut counter = Counter { done: 0, total, progress };
    for tensor in &planned {
        file.align(ALIGNMENT)?;
        let start = file.written();
        match &tensor.data {
            Data::Of(input, form) => {
                if encode::write(input, *form, &mut file, &mut counter)?.is_break() {
                    return Ok(None);
                }
            }
            Data::Here(values) => {
                file.write(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
            }
        }
        debug_assert_eq!(file.written() - start, tensor.bytes, "{}", tensor.name);
        converted.tensor_bytes += tensor.bytes;
        converted.parameters += tensor.shape.iter().product::<usize>() as u64;
    }
    file.align(ALIGNMENT)?;
    converted.bytes = file.finish()?;
    if checkpoint.gguf().is_none() {
        let written = MappedFile::open(place.partial())?;
        same_model(checkpoint, &model, &Checkpoint::from_gguf(written)?)?;
    }
    place.finish()?;
    Ok(Some(converted))
}

/// All before the tensors' data.
fn header(keys: &Keys, planned: &[Planned]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&(planned.len() as u64).to_le_bytes());
    out.extend_from_slice(&keys.count().to_le_bytes());
    out.extend_from_slice(keys.bytes());
    let mut offset = 0u64;
    for tensor in planned {
        out.extend_from_slice(&(tensor.name.len() as u64).to_le_bytes());
        out.extend_from_slice(tensor.name.as_bytes());
        out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&d| out.extend_from_slice(&(d as u64).to_le_bytes()));
        out.extend_from_slice(&tensor.kind.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        offset = (offset + tensor.bytes).next_multiple_of(ALIGNMENT);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}

/// Parts of names of matrices that llama.cpp never quantizes.
const UNQUANTIZED: [&str; 6] =
    ["_norm.", "ffn_gate_inp", "ssm_conv1d", "shortconv", "position_embd", "token_types"];

fn is_quantized(name: &str, input: &Input) -> bool {
    input.shape.len() >= 2
        && name.ends_with(".weight")
        && !UNQUANTIZED.iter().any(|part| name.contains(part))
        && input.format().is_some()
}

fn planned(name: String, input: Input, kind: GgufType) -> Planned {
    let form = kind.form();
    let (shape, bytes) = (input.shape.clone(), form.bytes(&input));
    Planned { name, kind: kind.id(), shape, bytes, data: Data::Of(input, form) }
}

/// The tensors of another GGUF file, matrices in other types.
fn from_gguf(checkpoint: &Checkpoint, model: &ModelConfig, mix: Mix) -> Result<Vec<Planned>> {
    let inputs = Input::all(checkpoint)?;
    let tensors = inputs.into_iter().map(|input| {
        let name = input.file_name.clone();
        if is_quantized(&name, &input) {
            let kind = mix.choose(&name, input.width(), Traits::of(model));
            return planned(name, input, kind);
        }
        let kind = input.kind().ggml().map_or(0, |ggml| ggml.id());
        Planned {
            name,
            kind,
            shape: input.shape.clone(),
            bytes: input.bytes(),
            data: Data::Of(input, Form::Same),
        }
    });
    Ok(tensors.collect())
}

/// The tensors of a folder, named and arranged as llama.cpp's converter does it.
fn from_folder(checkpoint: &Checkpoint, model: &ModelConfig, mix: Mix) -> Result<Vec<Planned>> {
    let mut all = vec![];
    let mut inputs = Input::all(checkpoint)?;
    delta::keep_text(model, &mut inputs);
    let inputs = experts::stacked(checkpoint, model, inputs)?;
    for mut input in delta::folder_to_gguf(model, inputs)? {
        let tied = model.tie_word_embeddings && input.name == "lm_head.weight";
        if tied || input.name.ends_with(".rotary_emb.inv_freq") || special::is_vision(&input.name) {
            continue;
        }
        let name = names::to_gguf(&input.name, gguf_architecture(model))
            .filter(|_| input.format().is_some())
            .ok_or_else(|| {
                let found = format!("tensor {:?}", input.name);
                unconvertible(checkpoint.path(), "tensors that GGUF has names for", found)
            })?;
        let permuted = ["attn_q.", "attn_k."].iter().any(|part| name.contains(part));
        if permuted && is_permuted(&model.architecture) {
            input.reorder(Order::ToPairs(model.head_dim))?;
        }
        input.add_to_norm(model.norm_offset as f32);
        if name.contains("ffn_gate_inp_shexp") {
            input.shape.retain(|&length| length != 1);
        }
        let kind = match is_quantized(&name, &input) {
            true => mix.choose(&name, input.width(), Traits::of(model)),
            false => GgufType::Float(Float::F32),
        };
        all.push(same_if_equal(planned(name, input, kind)));
    }
    let frequencies = metadata::rope_factors(model).map(|factors| ("rope_freqs.weight", factors));
    for (name, factors) in frequencies.into_iter().chain(special::factor_tensors(model)) {
        all.push(Planned {
            name: name.into(),
            kind: GgufType::Float(Float::F32).id(),
            shape: vec![factors.len()],
            bytes: 4 * factors.len() as u64,
            data: Data::Here(factors),
        });
    }
    Ok(all)
}

/// Dense values that keep type and order are copied.
fn same_if_equal(mut tensor: Planned) -> Planned {
    if let Data::Of(input, form) = &mut tensor.data
        && let (Some(Format::Dense(from)), Form::Dense(to)) = (input.format(), *form)
        && from == to
        && input.is_same()
    {
        *form = Form::Same;
    }
    tensor
}
