//! MLX folders.

use dacapo_ops::quant::{Float, Format};
use serde_json::{Map, Value, json};

use super::encode::{self, Counter, Form};
use super::input::{Input, Order};
use super::partial::{Output, Place, write_file};
use super::{Converted, Progress, check_across, same_model, special, to_config, unconvertible};
use crate::checkpoint::{self, Checkpoint, ModelConfig};
use crate::error::{Error, Result};

/// Bytes after which mlx-lm starts the next file.
const SHARD: u64 = 5 << 30;

/// Files that are copied beside the weights, as far as they are there.
const SIDE_FILES: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Writes the folder.
pub(super) fn write(
    checkpoint: &Checkpoint,
    place: Place,
    bits: u8,
    group: u8,
    progress: &mut Progress<'_>,
) -> Result<Option<Converted>> {
    let model = checkpoint.model_config()?;
    let inputs = inputs(checkpoint, &model)?;
    let (mut config, side_files) = match checkpoint.config() {
        Some(config) => (config.clone(), copied(checkpoint)?),
        None => to_config::files(checkpoint, &model)?,
    };
    if let Some(config) = config.as_object_mut() {
        add_older_rope(config);
        let quantization = json!({"group_size": group, "bits": bits, "mode": "affine"});
        for key in ["quantization", "quantization_config"] {
            config.shift_remove(key);
            config.insert(key.into(), quantization.clone());
        }
    }
    let float = small_float(&inputs)?;
    let planned: Vec<(Input<'_>, Form)> = inputs
        .into_iter()
        .map(|input| {
            let form = form(&input, bits, group, float);
            (input, form)
        })
        .collect();

    place.create_folder()?;
    let mut converted = Converted { bytes: 0, tensor_bytes: 0, parameters: 0 };
    for (name, bytes) in &side_files {
        converted.bytes += write_file(&place.partial().join(name), bytes)?;
    }
    let config = serde_json::to_vec_pretty(&config).map_err(|e| Error::io(place.partial(), e.into()))?;
    converted.bytes += write_file(&place.partial().join("config.json"), &config)?;
    let total = planned.iter().map(|(input, _)| input.bytes()).sum();
    let mut counter = Counter { done: 0, total, progress };
    let shards = shards(&planned);
    let mut weight_map = Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let name = match shards.len() {
            1 => "model.safetensors".to_string(),
            count => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
        };
        let mut file = Output::create(&place.partial().join(&name))?;
        file.write(&header(shard, &name, &mut weight_map))?;
        for (input, form) in *shard {
            converted.tensor_bytes += form.bytes(input);
            converted.parameters += input.values() as u64;
            if encode::write(input, *form, &mut file, &mut counter)?.is_break() {
                return Ok(None);
            }
        }
        converted.bytes += file.finish()?;
    }
    let index = json!({"metadata": {"total_size": converted.tensor_bytes}, "weight_map": weight_map});
    let index = serde_json::to_vec_pretty(&index).map_err(|e| Error::io(place.partial(), e.into()))?;
    converted.bytes += write_file(&place.partial().join("model.safetensors.index.json"), &index)?;
    if checkpoint.gguf().is_some() {
        same_model(checkpoint, &model, &Checkpoint::open(place.partial())?)?;
    }
    place.finish()?;
    Ok(Some(converted))
}

/// Says what transformers 5 writes as `rope_parameters` in the older words too, which mlx-lm knows for more models.
fn add_older_rope(config: &mut Map<String, Value>) {
    let Some(Value::Object(rope)) = config.get("rope_parameters").cloned() else { return };
    let Some(theta) = rope.get("rope_theta").cloned() else { return };
    config.entry("rope_theta").or_insert(theta);
    let mut scaling = rope;
    scaling.shift_remove("rope_theta");
    let plain = scaling.get("rope_type").is_none_or(|kind| kind == "default");
    config.entry("rope_scaling").or_insert(if plain { Value::Null } else { Value::Object(scaling) });
}

/// The tensors, as MLX's models name and arrange them.
fn inputs<'a>(checkpoint: &'a Checkpoint, model: &ModelConfig) -> Result<Vec<Input<'a>>> {
    let mut inputs = Input::all(checkpoint)?;
    match checkpoint.format() {
        checkpoint::Format::Gguf => {
            check_across(checkpoint, model)?;
            inputs.retain(|input| !input.name.starts_with("rope_f"));
            for input in &mut inputs {
                if input.is_norm() {
                    input.added = -special::norm_offset(&model.architecture);
                }
                let rotated = [".q_proj.", ".k_proj."].iter().any(|part| input.name.contains(part));
                if rotated && model.rope.interleaved {
                    input.reorder(Order::ToHalves(model.head_dim))?;
                }
                // The two formats name all tensors of these architectures; what is left is none of the model's.
                if input.name == input.file_name {
                    let found = format!("tensor {:?}", input.file_name);
                    return Err(unconvertible(checkpoint.path(), "tensors of a known meaning", found));
                }
            }
        }
        checkpoint::Format::HuggingFace => {
            // What MLX's own conversion rearranges.
            let unknown = inputs
                .iter()
                .find(|input| input.name.contains(".experts.") || input.name.contains(".linear_attn."));
            if let Some(input) = unknown {
                let expected = "a model whose MLX folder has the tensors of Hugging Face's";
                return Err(unconvertible(checkpoint.path(), expected, format!("tensor {:?}", input.name)));
            }
        }
        checkpoint::Format::Mlx => {}
    }
    inputs.retain(|input| {
        let tied = model.tie_word_embeddings && input.name == "lm_head.weight";
        !tied && !input.name.ends_with(".rotary_emb.inv_freq")
    });
    Ok(inputs)
}

/// The type of what GGUF files hold in F32 since they have no choice: F16 or BF16, if that is exact for all of it.
fn small_float(inputs: &[Input<'_>]) -> Result<Float> {
    let mut exact = [true, true];
    for input in inputs.iter().filter(|input| input.shape.len() == 1) {
        let Some(Format::Dense(_)) = input.format else { continue };
        let mut values = vec![0.0; input.values()];
        input.read(0, &mut values)?;
        for (exact, float) in exact.iter_mut().zip([Float::BF16, Float::F16]) {
            let mut bytes = Vec::with_capacity(values.len() * 2);
            values.iter().for_each(|&v| float.push(v, &mut bytes));
            *exact &= values.iter().enumerate().all(|(i, &v)| float.read(&bytes, i) == v);
        }
    }
    Ok(match exact {
        [true, _] => Float::BF16,
        [_, true] => Float::F16,
        _ => Float::F32,
    })
}

/// How a tensor is written; `small` is the type for what comes from a GGUF file.
fn form(input: &Input<'_>, bits: u8, group: u8, small: Float) -> Form {
    let router = input.name.ends_with(".gate.weight") || input.name.ends_with(".router.weight");
    let matrix = input.shape.len() >= 2 && input.name.ends_with(".weight") && !router;
    // Scales in F32 would cost a bit for each weight: they are that only where the source's are.
    let float = match input.format {
        Some(Format::Dense(float) | Format::Affine { float, .. }) => float,
        Some(Format::Fp8 { .. } | Format::Fp(_)) => Float::BF16,
        Some(Format::Ggml(_)) if small == Float::F32 => Float::F16,
        Some(Format::Ggml(_)) => small,
        None => return Form::Same,
    };
    let from_gguf = input.name != input.file_name;
    if matrix && input.width().is_multiple_of(group.into()) {
        let float = if from_gguf && float == Float::F32 { Float::F16 } else { float };
        return Form::Affine { bits, group, float };
    }
    match input.format {
        Some(Format::Dense(_)) if from_gguf => Form::Dense(small),
        Some(Format::Dense(_)) => Form::Same,
        _ => Form::Dense(float),
    }
}

/// The tensors, file by file.
fn shards<'a, 'b>(planned: &'b [(Input<'a>, Form)]) -> Vec<&'b [(Input<'a>, Form)]> {
    let (mut shards, mut start, mut bytes) = (vec![], 0, 0);
    for (i, (input, form)) in planned.iter().enumerate() {
        let more = form.bytes(input);
        if i > start && bytes + more > SHARD {
            shards.push(&planned[start..i]);
            (start, bytes) = (i, 0);
        }
        bytes += more;
    }
    shards.push(&planned[start..]);
    shards
}

/// A file's length and header; its tensors are added to the index.
fn header(shard: &[(Input<'_>, Form)], file: &str, weight_map: &mut Map<String, Value>) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "mlx"}));
    let mut at = 0;
    let mut add = |name: String, dtype: &str, shape: &[usize], bytes: u64| {
        header
            .insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]}));
        weight_map.insert(name, file.into());
        at += bytes;
    };
    for (input, form) in shard {
        let with_last = |last: usize| [&input.shape[..input.shape.len().max(1) - 1], &[last]].concat();
        match *form {
            Form::Affine { bits, group, float } => {
                let module = input.name.strip_suffix(".weight").unwrap_or(&input.name);
                let (width, rows) = (input.width(), input.rows());
                let (words, groups) = (width / 32 * bits as usize, width / group as usize);
                add(input.name.clone(), "U32", &with_last(words), (4 * words * rows) as u64);
                for part in ["scales", "biases"] {
                    let bytes = (groups * rows * float.size()) as u64;
                    add(format!("{module}.{part}"), float_name(float), &with_last(groups), bytes);
                }
            }
            Form::Dense(float) => {
                add(input.name.clone(), float_name(float), &input.shape, form.bytes(input));
            }
            Form::Same | Form::Ggml(_) => {
                add(input.name.clone(), input.parts[0].kind.name(), &input.shape, form.bytes(input));
            }
        }
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}

fn float_name(float: Float) -> &'static str {
    match float {
        Float::F32 => "F32",
        Float::F16 => "F16",
        Float::BF16 => "BF16",
    }
}

/// The source folder's files beside its weights.
fn copied(checkpoint: &Checkpoint) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![];
    for name in SIDE_FILES {
        if let Some(file) = checkpoint.side_file(name)? {
            files.push((name.to_string(), file.bytes().to_vec()));
        }
    }
    Ok(files)
}
