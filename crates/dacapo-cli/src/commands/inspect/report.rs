//! What `dacapo inspect` prints.

use std::fmt;

use dacapo_lm::checkpoint::{ExpertsConfig, ModelConfig, RopeScaling};
use dacapo_lm::{Checkpoint, Tokenizer};
use serde::Serialize;

use super::weights::{Weights, summarize};
use crate::table::{Align, Table};
use crate::units;

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    format: String,
    files: Vec<File>,
    architecture: String,
    layers: usize,
    hidden_size: usize,
    intermediate_size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    experts: Option<Experts>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    context: usize,
    sliding_window: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta_nets: Option<DeltaNets>,
    rope_theta: f64,
    rope_scaling: String,
    tied_embeddings: bool,
    #[serde(flatten)]
    weights: Weights,
    bos: Option<Token>,
    eos: Vec<Token>,
    tokenizer_error: Option<String>,
    chat_template: bool,
    chat_template_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<Vec<TensorRow>>,
}

/// Layers that keep a state in the place of keys and values.
#[derive(Debug, Serialize)]
struct DeltaNets {
    layers: usize,
    key_heads: usize,
    value_heads: usize,
    key_dim: usize,
    value_dim: usize,
    /// Of all these layers, for a text of any length.
    state_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Experts {
    count: usize,
    per_token: usize,
    width: usize,
    shared_width: Option<usize>,
    /// Layers that have experts.
    layers: usize,
}

impl Experts {
    fn new(config: &ExpertsConfig) -> Self {
        Experts {
            count: config.count,
            per_token: config.chosen,
            width: config.width,
            shared_width: config.shared_width,
            layers: config.layers.iter().filter(|&&has| has).count(),
        }
    }
}

impl fmt::Display for Experts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Experts { count, per_token, width, layers, .. } = self;
        let noun = if *layers == 1 { "layer" } else { "layers" };
        write!(f, "{count} of width {width}, {per_token} for each token, in {layers} {noun}")?;
        self.shared_width.map_or(Ok(()), |width| write!(f, "; one of width {width} for all tokens"))
    }
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Token {
    id: u32,
    text: Option<String>,
}

#[derive(Debug, Serialize)]
struct TensorRow {
    name: String,
    /// The name in the file, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_name: Option<String>,
    #[serde(rename = "type")]
    kind: &'static str,
    shape: Vec<usize>,
    bytes: u64,
    offset: u64,
    file: String,
}

impl Report {
    /// The report of a checkpoint. Tokenizer and template may be missing or broken; `template` is whether there
    /// is one.
    pub fn new(
        model: String,
        checkpoint: &Checkpoint,
        config: &ModelConfig,
        tokenizer: Result<&Tokenizer, String>,
        template: Result<bool, String>,
        tensors: bool,
    ) -> Self {
        let token = |id: u32| Token {
            id,
            text: tokenizer.as_ref().ok().and_then(|tokenizer| tokenizer.id_to_token(id)),
        };
        Report {
            model,
            format: checkpoint.format().to_string(),
            files: files(checkpoint),
            architecture: config.architecture.clone(),
            layers: config.layers,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            experts: config.experts.as_ref().map(Experts::new),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            vocabulary: config.vocab_size,
            context: config.context_length,
            sliding_window: config.sliding_windows.iter().flatten().copied().max(),
            delta_nets: config.delta_nets.as_ref().map(|nets| DeltaNets {
                layers: config.layers - config.attention_layers(),
                key_heads: nets.key_heads,
                value_heads: nets.value_heads,
                key_dim: nets.key_dim,
                value_dim: nets.value_dim,
                state_bytes: nets.state_bytes(),
            }),
            rope_theta: config.rope.theta,
            rope_scaling: scaling(&config.rope.scaling),
            tied_embeddings: config.tie_word_embeddings,
            weights: summarize(checkpoint),
            bos: config.bos_id.map(token),
            eos: config.eos_ids.iter().copied().map(token).collect(),
            tokenizer_error: tokenizer.as_ref().err().cloned(),
            chat_template: template == Ok(true),
            chat_template_error: template.err(),
            tensors: tensors.then(|| rows(checkpoint)),
        }
    }

    fn tensor_table(&self) -> Option<Table> {
        let tensors = self.tensors.as_ref()?;
        let mut table = Table::new(&[
            ("tensor", Align::Left),
            ("type", Align::Left),
            ("shape", Align::Left),
            ("size", Align::Right),
        ]);
        for row in tensors {
            let shape = row.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ");
            table.row([row.name.clone(), row.kind.to_string(), shape, units::bytes(row.bytes)]);
        }
        Some(table)
    }

    fn weight_table(&self) -> Table {
        let mut table = Table::new(&[
            ("stored as", Align::Left),
            ("tensors", Align::Right),
            ("parameters", Align::Right),
            ("size", Align::Right),
        ]);
        for format in &self.weights.formats {
            table.row([
                format.format.clone(),
                format.tensors.to_string(),
                units::count(format.parameters),
                units::bytes(format.bytes),
            ]);
        }
        table
    }
}

fn files(checkpoint: &Checkpoint) -> Vec<File> {
    let mut files: Vec<File> = vec![];
    for tensor in checkpoint.tensors() {
        let path = tensor.file.path().display().to_string();
        if files.iter().all(|file| file.path != path) {
            files.push(File { path, bytes: tensor.file.bytes().len() as u64 });
        }
    }
    files
}

fn rows(checkpoint: &Checkpoint) -> Vec<TensorRow> {
    let row = |tensor: &dacapo_lm::checkpoint::Tensor| TensorRow {
        name: tensor.name.clone(),
        file_name: (tensor.file_name != tensor.name).then(|| tensor.file_name.clone()),
        kind: tensor.kind.name(),
        shape: tensor.shape.clone(),
        bytes: tensor.len as u64,
        offset: tensor.offset as u64,
        file: tensor.file.path().display().to_string(),
    };
    checkpoint.tensors().iter().map(row).collect()
}

fn scaling(scaling: &RopeScaling) -> String {
    match scaling {
        RopeScaling::None => "none".into(),
        RopeScaling::Linear { factor } => format!("linear, factor {factor}"),
        RopeScaling::Llama3 { factor, original, .. } => {
            format!("llama3, factor {factor} of context {original}")
        }
        RopeScaling::Yarn { factor, original, .. } => format!("YaRN, factor {factor} of context {original}"),
        RopeScaling::LongRope { original, .. } => format!("LongRoPE beyond context {original}"),
        RopeScaling::Factors => "factors for each frequency".into(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |key: &str, value: String| writeln!(f, "{key:<16}{value}");
        let stored = self.files.iter().map(|file| file.bytes).sum();
        let files = if self.files.len() == 1 { "file" } else { "files" };
        line("model", self.model.clone())?;
        line("format", format!("{}, {} {files}, {}", self.format, self.files.len(), units::bytes(stored)))?;
        line("architecture", self.architecture.clone())?;
        line(
            "layers",
            format!("{}, width {}, MLP width {}", self.layers, self.hidden_size, self.intermediate_size),
        )?;
        if let Some(experts) = &self.experts {
            line("experts", experts.to_string())?;
        }
        line(
            "attention",
            format!("{} heads on {} of keys and values, width {}", self.heads, self.kv_heads, self.head_dim),
        )?;
        if let Some(nets) = &self.delta_nets {
            line(
                "delta nets",
                format!(
                    "in {} layers, {} heads of values on {} of keys, widths {} and {}, {} for a text",
                    nets.layers,
                    nets.value_heads,
                    nets.key_heads,
                    nets.value_dim,
                    nets.key_dim,
                    units::bytes(nets.state_bytes)
                ),
            )?;
        }
        line("positions", format!("RoPE base {}, scaling: {}", self.rope_theta, self.rope_scaling))?;
        line("context", format!("{} tokens", self.context))?;
        if let Some(window) = self.sliding_window {
            line("window", format!("{window} tokens"))?;
        }
        let tied = if self.tied_embeddings { ", one matrix for input and output" } else { "" };
        line("vocabulary", format!("{} tokens{tied}", self.vocabulary))?;
        line("starts with", self.bos.as_ref().map_or_else(|| "nothing".into(), Token::to_string))?;
        line("ends with", self.eos.iter().map(Token::to_string).collect::<Vec<_>>().join(", "))?;
        if let Some(error) = &self.tokenizer_error {
            line("tokenizer", format!("cannot be used: {error}"))?;
        }
        let template = match &self.chat_template_error {
            Some(error) => format!("cannot be used: {error}"),
            None => if self.chat_template { "yes" } else { "no" }.to_string(),
        };
        line("chat template", template)?;
        let weights = &self.weights;
        line("parameters", format!("{} ({})", units::count(weights.parameters), weights.parameters))?;
        line(
            "weights",
            format!("{}, {:.2} bits for a parameter", units::bytes(weights.bytes), weights.bits_per_weight),
        )?;
        write!(f, "\n{}", self.weight_table())?;
        match self.tensor_table() {
            Some(table) => write!(f, "\n{table}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{} ({:?})", self.id, text),
            None => write!(f, "{}", self.id),
        }
    }
}
