//! MLX folders.

use dacapo_ops::quant::{Float, Format};
use serde_json::{Map, Value, json};

use super::encode::{self, Counter, Form};
use super::input::{Input, Order};
use super::partial::{Output, Place, write_file};
use super::{
    Converted, Progress, check_across, delta, experts, same_model, special, to_config, unconvertible,
};
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
        add_known_words(config);
        let quantization = json!({"group_size": group, "bits": bits, "mode": "affine"});
        for key in ["quantization", "quantization_config"] {
            config.shift_remove(key);
            config.insert(key.into(), quantization.clone());
        }
    }
    let small = checkpoint.gguf().map(|_| small_float(&inputs, &model)).transpose()?;
    let planned: Vec<(Input, Form)> = inputs
        .into_iter()
        .map(|input| {
            let form = form(&input, bits, group, small);
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
    if checkpoint.format() != checkpoint::Format::Mlx {
        same_model(checkpoint, &model, &Checkpoint::open(place.partial())?)?;
    }
    place.finish()?;
    Ok(Some(converted))
}

/// Says in the words that mlx-lm knows what configurations may say in others: those of transformers 5, and of text parts.
fn add_known_words(config: &mut Map<String, Value>) {
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let (whole, qwen) = (kind.strip_suffix("_text"), kind.starts_with("qwen"));
    if let Some(whole) = whole.filter(|_| kind.starts_with("qwen3_5")).map(String::from) {
        config.insert("model_type".into(), whole.into());
    }
    if let Some(count) = config.get("num_local_experts").cloned().filter(|_| qwen) {
        config.entry("num_experts").or_insert(count);
    }
    add_older_rope(config);
}

/// Says what transformers 5 writes as `rope_parameters` in the older words too, which mlx-lm knows for more models.
fn add_older_rope(config: &mut Map<String, Value>) {
    let Some(Value::Object(rope)) = config.get("rope_parameters").cloned() else { return };
    let of_kind = |kind: &str| rope.get(kind).and_then(Value::as_object).cloned();
    if let Some(theta) = of_kind("sliding_attention").and_then(|local| local.get("rope_theta").cloned()) {
        config.entry("rope_local_base_freq").or_insert(theta);
    }
    let mut rope = of_kind("full_attention").unwrap_or(rope);
    let Some(theta) = rope.shift_remove("rope_theta") else { return };
    config.entry("rope_theta").or_insert(theta);
    if let Some(part) = rope.get("partial_rotary_factor") {
        config.entry("partial_rotary_factor").or_insert(part.clone());
    }
    let plain = rope.get("rope_type").is_none_or(|kind| kind == "default");
    config.entry("rope_scaling").or_insert(if plain { Value::Null } else { Value::Object(rope) });
}

/// The tensors, as MLX's models name and arrange them.
fn inputs(checkpoint: &Checkpoint, model: &ModelConfig) -> Result<Vec<Input>> {
    let mut inputs = Input::all(checkpoint)?;
    let mut inputs = match checkpoint.format() {
        checkpoint::Format::Gguf => of_gguf(checkpoint, model, inputs)?,
        checkpoint::Format::HuggingFace => {
            delta::keep_text(model, &mut inputs);
            delta::folder_to_mlx(model, experts::stacked(checkpoint, model, inputs)?)?
        }
        checkpoint::Format::Mlx => inputs,
    };
    inputs.retain(|input| {
        let tied = model.tie_word_embeddings && input.name == "lm_head.weight";
        !tied && !input.name.ends_with(".rotary_emb.inv_freq")
    });
    if checkpoint.config().is_some_and(|config| config.get("text_config").is_some()) {
        inputs.iter_mut().for_each(name_part);
    }
    Ok(inputs)
}

/// Names a tensor of a model that sees images as that part of MLX's model that it belongs to.
fn name_part(input: &mut Input) {
    if special::is_vision(&input.name) {
        input.name = input.name.strip_prefix("model.").unwrap_or(&input.name).to_string();
    } else if ["model.", "lm_head."].iter().any(|start| input.name.starts_with(start)) {
        input.name = format!("language_model.{}", input.name);
    }
}

/// Those of a GGUF file.
fn of_gguf(checkpoint: &Checkpoint, model: &ModelConfig, mut inputs: Vec<Input>) -> Result<Vec<Input>> {
    check_across(checkpoint, model)?;
    // Layers behind the others foresee further tokens.
    let is_run = |input: &Input| {
        let block =
            input.file_name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
        block.is_none_or(|block: usize| block < model.layers)
    };
    inputs.retain(|input| is_run(input) && !input.name.starts_with("rope_f"));
    let mut inputs = delta::gguf_to_mlx(checkpoint, model, inputs)?;
    for input in &mut inputs {
        input.add_to_norm(-special::norm_offset(&model.architecture));
        let rotated = [".q_proj.", ".k_proj."].iter().any(|part| input.name.contains(part));
        if rotated && model.rope.interleaved {
            input.reorder(Order::ToHalves(model.head_dim))?;
        }
        if let Some(sinks) = input.name.strip_suffix(".sinks.weight") {
            input.name = format!("{sinks}.sinks");
        }
        if input.name.ends_with(".shared_expert_gate.weight") && input.shape.len() == 1 {
            input.shape.insert(0, 1);
        }
        // The two formats name all tensors of these architectures; what is left is none of the model's.
        if input.name == input.file_name {
            let found = format!("tensor {:?}", input.file_name);
            return Err(unconvertible(checkpoint.path(), "tensors of a known meaning", found));
        }
    }
    Ok(inputs)
}

/// The type of what GGUF files hold in F32 since they have no choice: F16 or BF16, if that is exact for all of it. Norms that
/// MLX's models have whole, and other files less 1, do not count: MLX's converter rounds them too.
fn small_float(inputs: &[Input], model: &ModelConfig) -> Result<Float> {
    let counts = |input: &&Input| {
        let norm = input.is_norm() && model.delta_nets.is_some();
        input.format() == Some(Format::Dense(Float::F32)) && !is_matrix(input) && !stays_f32(input) && !norm
    };
    let mut exact = [true, true];
    for input in inputs.iter().filter(counts) {
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

/// Whether this is a matrix that is quantized, if its rows are whole groups.
fn is_matrix(input: &Input) -> bool {
    let never = [".gate.weight", ".router.weight", ".shared_expert_gate.weight", ".conv1d.weight"];
    input.shape.len() >= 2
        && input.name.ends_with(".weight")
        && !never.iter().any(|end| input.name.ends_with(end))
}

/// Whether this is never made smaller: a logarithm from a GGUF file.
fn stays_f32(input: &Input) -> bool {
    input.name.ends_with(".A_log")
}

/// How a tensor is written; `small` is the type for what a GGUF file holds in F32, if the source is one.
fn form(input: &Input, bits: u8, group: u8, small: Option<Float>) -> Form {
    let whole = small.unwrap_or(Float::BF16);
    // Scales in F32 would cost a bit for each weight: they are that only where the source's are.
    let half = if whole == Float::F32 { Float::F16 } else { whole };
    let float = match input.format() {
        Some(Format::Dense(float) | Format::Affine { float, .. }) => float,
        Some(Format::Fp8 { .. } | Format::Fp(_)) => Float::BF16,
        Some(Format::Ggml(_)) => half,
        None => return Form::Same,
    };
    if is_matrix(input) && input.width().is_multiple_of(group.into()) {
        let float = if small.is_some() && float == Float::F32 { Float::F16 } else { float };
        return Form::Affine { bits, group, float };
    }
    match input.format() {
        Some(Format::Dense(Float::F32)) if small.is_some() && !stays_f32(input) => Form::Dense(whole),
        Some(Format::Dense(_)) if input.is_same() => Form::Same,
        _ => Form::Dense(float),
    }
}

/// The tensors, file by file.
fn shards(planned: &[(Input, Form)]) -> Vec<&[(Input, Form)]> {
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
fn header(shard: &[(Input, Form)], file: &str, weight_map: &mut Map<String, Value>) -> Vec<u8> {
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
                add(input.name.clone(), input.kind().name(), &input.shape, form.bytes(input));
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
