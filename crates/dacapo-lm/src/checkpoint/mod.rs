//! Checkpoints: the files that hold a model's weights, configuration and tokenizer.
//!
//! Three layouts are read: a folder as Hugging Face or MLX write it, a single safetensors file beside its
//! `config.json`, and a GGUF file. Tensor data is never copied; it stays in the mapped files.

mod config;
mod config_gguf;
mod config_hf;
mod experts;
mod families;
mod fields;
mod folder;
pub mod ggml;
pub mod gguf;
pub(crate) mod names;
pub mod quantization;
mod reader;
pub mod safetensors;
mod split;
mod tensor;
pub mod value;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dacapo::MappedFile;
use serde_json::Value;

pub use config::{ARCHITECTURES, Activation, DeltaNets, ExpertsConfig, ModelConfig, RopeConfig, RopeScaling};
pub(crate) use experts::ExpertSource;
pub(crate) use families::is_permuted;
pub use quantization::{LinearSource, LinearWeight};
pub use tensor::{Tensor, TensorKind};

use crate::error::{Error, Result};
use folder::Folder;
use gguf::Gguf;

/// Where sentence-transformers writes how states are pooled.
const POOLING: &str = "1_Pooling/config.json";

/// How a checkpoint is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Safetensors with `config.json`, weights as Hugging Face's transformers writes them.
    HuggingFace,
    /// Safetensors with `config.json`, converted by MLX; usually quantized.
    Mlx,
    /// One GGUF file.
    Gguf,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::HuggingFace => "safetensors",
            Format::Mlx => "MLX",
            Format::Gguf => "GGUF",
        })
    }
}

/// An opened checkpoint: its configuration, and where each tensor lies.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    format: Format,
    source: Source,
    tensors: Vec<Tensor>,
    index: HashMap<String, usize>,
}

#[derive(Debug, Clone)]
enum Source {
    Folder(Folder),
    Gguf(Gguf),
}

impl Checkpoint {
    /// Opens the checkpoint at `path`: a folder with `config.json` and safetensors files, one safetensors
    /// file beside its `config.json`, or a GGUF file.
    ///
    /// # Errors
    /// [`Error::NotACheckpoint`] if there is nothing of the kind, [`Error::MissingFile`] if an index names a
    /// file that is not there, and the errors of the files' formats.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        if meta.is_dir() {
            return Self::from_folder(path, Folder::directory(path), None);
        }
        let file = MappedFile::open(path)?;
        if file.bytes().starts_with(b"GGUF") || has_extension(path, "gguf") {
            return Self::from_gguf(file);
        }
        if has_extension(path, "safetensors") {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Self::from_folder(path, Folder::directory(parent), Some(file));
        }
        Err(Error::NotACheckpoint { path: path.to_path_buf(), found: "a file of another kind".into() })
    }

    /// A checkpoint whose files are open already, such as files that are part of the program. One GGUF file,
    /// or what a folder would hold: the last part of each path is the file's name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_files(files: &[Arc<MappedFile>]) -> Result<Self> {
        match files {
            [file] if file.bytes().starts_with(b"GGUF") => Self::from_gguf(file.clone()),
            _ => Self::from_folder(Path::new("embedded"), Folder::files(files), None),
        }
    }

    /// A checkpoint in one GGUF file, or in several beside each other of which this is one.
    ///
    /// # Errors
    /// [`Error::Gguf`] if a file breaks its format; [`Error::MissingFile`] and [`Error::Config`] if parts are missing or do
    /// not belong together.
    pub fn from_gguf(file: Arc<MappedFile>) -> Result<Self> {
        let parts = split::parts(Gguf::parse(&file)?)?;
        let gguf = parts[0].clone();
        let mut checkpoint = Checkpoint {
            path: file.path().to_path_buf(),
            format: Format::Gguf,
            source: Source::Gguf(gguf.clone()),
            tensors: Vec::with_capacity(gguf.tensors().len()),
            index: HashMap::with_capacity(gguf.tensors().len()),
        };
        let architecture = gguf.str("general.architecture")?.unwrap_or_default();
        for part in &parts {
            for entry in part.tensors() {
                checkpoint.add(names::from_gguf(&entry.name, architecture), entry, part.file())?;
            }
        }
        Ok(checkpoint)
    }

    /// A checkpoint in a folder; of a single file where that is given.
    fn from_folder(path: &Path, folder: Folder, single: Option<Arc<MappedFile>>) -> Result<Self> {
        let folder = folder.with_configs()?;
        let is_single = single.is_some();
        let shards = match single {
            Some(file) => vec![file],
            None => folder.shards()?,
        };
        let mlx_config = folder.config().get("quantization").is_some();
        let mut checkpoint = Checkpoint {
            path: path.to_path_buf(),
            format: if mlx_config { Format::Mlx } else { Format::HuggingFace },
            source: Source::Folder(folder.clone()),
            tensors: Vec::new(),
            index: HashMap::new(),
        };
        for file in &shards {
            let parsed = safetensors::parse(file.path(), file.bytes())?;
            if parsed.metadata.get("format").is_some_and(|f| f == "mlx") {
                checkpoint.format = Format::Mlx;
            }
            for entry in &parsed.tensors {
                checkpoint.add(names::from_folder(&entry.name), entry, file)?;
            }
        }
        folder.check_index(
            |name| checkpoint.tensor(&names::from_folder(name)).map(|t| t.file.as_ref()),
            is_single,
        )?;
        Ok(checkpoint)
    }

    fn add(&mut self, name: String, entry: &safetensors::Entry, file: &Arc<MappedFile>) -> Result<()> {
        if let Some(&first) = self.index.get(&name) {
            let other = &self.tensors[first];
            return Err(Error::config(
                file.path(),
                format!("tensor {:?}", entry.name),
                "one tensor of this name",
                format!("another, {:?} in {}", other.file_name, other.file.path().display()),
            ));
        }
        self.index.insert(name.clone(), self.tensors.len());
        self.tensors.push(Tensor {
            name,
            file_name: entry.name.clone(),
            shape: entry.shape.clone(),
            kind: entry.kind,
            file: file.clone(),
            offset: entry.offset,
            len: entry.len,
        });
        Ok(())
    }

    /// The path given to [`open`](Self::open).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the checkpoint is stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The content of `config.json`; `None` for GGUF.
    pub fn config(&self) -> Option<&Value> {
        match &self.source {
            Source::Folder(folder) => Some(folder.config()),
            Source::Gguf(_) => None,
        }
    }

    /// The GGUF file with its metadata; `None` for folders.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.source {
            Source::Folder(_) => None,
            Source::Gguf(gguf) => Some(gguf),
        }
    }

    /// The content of a file beside `config.json`, such as `tokenizer.json`; `None` if it is not there or the
    /// checkpoint is a GGUF file.
    ///
    /// # Errors
    /// [`Error::Engine`] if it is there and cannot be read.
    pub fn side_file(&self, name: &str) -> Result<Option<Arc<MappedFile>>> {
        match &self.source {
            Source::Folder(folder) => folder.get(name),
            Source::Gguf(_) => Ok(None),
        }
    }

    /// As [`side_file`](Self::side_file), parsed as JSON.
    ///
    /// # Errors
    /// [`Error::Config`] if it is not JSON.
    pub fn side_json(&self, name: &str) -> Result<Option<Value>> {
        match &self.source {
            Source::Folder(folder) => folder.json(name),
            Source::Gguf(_) => Ok(None),
        }
    }

    /// The file that holds the configuration, for messages.
    pub(crate) fn config_path(&self) -> PathBuf {
        match &self.source {
            Source::Folder(folder) => folder.path_of("config.json"),
            Source::Gguf(gguf) => gguf.path().to_path_buf(),
        }
    }

    /// The model's configuration, checked.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, [`Error::UnknownArchitecture`].
    pub fn model_config(&self) -> Result<ModelConfig> {
        match &self.source {
            Source::Folder(folder) => {
                let generation = folder.json("generation_config.json")?;
                let path = folder.path_of("config.json");
                let mut config = config_hf::parse(&path, folder.config(), generation.as_ref())?;
                families::see_tensors(self, &mut config);
                if let Some(pooling) = folder.json(POOLING)? {
                    config.pooling = config_hf::pooling(&folder.path_of(POOLING), &pooling)?;
                }
                Ok(config)
            }
            Source::Gguf(gguf) => config_gguf::parse(gguf, self),
        }
    }

    /// The end tokens that a folder's `config.json` and `generation_config.json` name.
    pub(crate) fn eos_ids(&self) -> Result<Vec<u32>> {
        match &self.source {
            Source::Folder(folder) => {
                let generation = folder.json("generation_config.json")?;
                config_hf::eos_ids(&folder.path_of("config.json"), folder.config(), generation.as_ref())
            }
            Source::Gguf(_) => Ok(Vec::new()),
        }
    }

    /// The tensor of this Hugging Face name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// As [`tensor`](Self::tensor), for a tensor that must be there.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn require(&self, name: &str) -> Result<&Tensor> {
        self.tensor(name)
            .ok_or_else(|| Error::MissingTensor { path: self.path.clone(), tensor: name.to_string() })
    }

    /// A tensor of floats (F32, F16 or BF16) that must be there with this shape, such as a norm's weight.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::WrongShape`], [`Error::WrongType`].
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let tensor = self.require(name)?;
        quantization::check_shape(tensor, shape)?;
        quantization::check_float(tensor)?;
        Ok(tensor)
    }

    /// The values of such a tensor.
    pub(crate) fn float_values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.floats(name, shape)?;
        let float = tensor.kind.dtype().and_then(dacapo_ops::quant::Float::from_dtype);
        let bytes = tensor.bytes();
        Ok(float
            .map_or_else(Vec::new, |float| (0..tensor.elements()).map(|i| float.read(bytes, i)).collect()))
    }

    /// All tensors, file by file, in the order of their data.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}
