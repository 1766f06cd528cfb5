//! The files of a checkpoint folder: on disk, or already open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use dacapo::MappedFile;
use serde_json::Value;

use crate::error::{Error, Result, one_line};

const INDEX: &str = "model.safetensors.index.json";

/// A folder's files, and its configuration once read.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    files: Files,
    config: Value,
    /// Tensor name to shard name, where the folder has an index.
    weight_map: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone)]
enum Files {
    Directory(PathBuf),
    Open(BTreeMap<String, Arc<MappedFile>>),
}

impl Folder {
    pub(super) fn directory(path: &Path) -> Self {
        Folder { files: Files::Directory(path.to_path_buf()), config: Value::Null, weight_map: None }
    }

    pub(super) fn files(files: &[Arc<MappedFile>]) -> Self {
        let named = files.iter().filter_map(|file| {
            let name = file.path().file_name()?.to_str()?;
            Some((name.to_string(), file.clone()))
        });
        Folder { files: Files::Open(named.collect()), config: Value::Null, weight_map: None }
    }

    /// Reads `config.json` and the index.
    pub(super) fn with_configs(mut self) -> Result<Self> {
        let path = self.path_of("config.json");
        self.config = self.json("config.json")?.ok_or_else(|| Error::NotACheckpoint {
            path: path.parent().unwrap_or(&path).to_path_buf(),
            found: "no config.json".into(),
        })?;
        if !self.config.is_object() {
            return Err(Error::config(&path, "config", "a JSON object", json_kind(&self.config)));
        }
        self.weight_map = match self.json(INDEX)? {
            None => None,
            Some(index) => Some(self.parse_index(&index)?),
        };
        Ok(self)
    }

    fn parse_index(&self, index: &Value) -> Result<BTreeMap<String, String>> {
        let path = self.path_of(INDEX);
        let map = index.get("weight_map").and_then(Value::as_object).ok_or_else(|| {
            let found = index.get("weight_map").map_or("nothing", json_kind);
            Error::config(&path, "weight_map", "an object of file names", found)
        })?;
        let mut weight_map = BTreeMap::new();
        for (tensor, shard) in map {
            let key = || format!("weight_map.{}", one_line(tensor));
            let name =
                shard.as_str().ok_or_else(|| Error::config(&path, key(), "a file name", json_kind(shard)))?;
            if !is_plain_name(name) {
                let found = format!("{:?}", one_line(name));
                return Err(Error::config(&path, key(), "a file name without folders", found));
            }
            weight_map.insert(tensor.clone(), name.to_string());
        }
        Ok(weight_map)
    }

    pub(super) fn config(&self) -> &Value {
        &self.config
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        match &self.files {
            Files::Directory(path) => path.join(name),
            Files::Open(files) => {
                files.get(name).map_or_else(|| PathBuf::from(name), |f| f.path().to_path_buf())
            }
        }
    }

    /// The file of this name, if there is one.
    pub(super) fn get(&self, name: &str) -> Result<Option<Arc<MappedFile>>> {
        match &self.files {
            Files::Open(files) => Ok(files.get(name).cloned()),
            Files::Directory(path) => {
                let path = path.join(name);
                match path.try_exists() {
                    Ok(false) => Ok(None),
                    Ok(true) => Ok(Some(MappedFile::open(path)?)),
                    Err(e) => Err(Error::io(&path, e)),
                }
            }
        }
    }

    /// The file of this name as JSON, if there is one.
    pub(super) fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(file) = self.get(name)? else { return Ok(None) };
        serde_json::from_slice(file.bytes())
            .map(Some)
            .map_err(|e| Error::config(file.path(), "content", "JSON", one_line(&e.to_string())))
    }

    /// The safetensors files: those that the index names, or all called `model*.safetensors`.
    pub(super) fn shards(&self) -> Result<Vec<Arc<MappedFile>>> {
        if let Some(map) = &self.weight_map {
            let names: BTreeSet<&String> = map.values().collect();
            return names
                .into_iter()
                .map(|name| {
                    self.get(name)?.ok_or_else(|| Error::MissingFile {
                        path: self.path_of(name),
                        needed_by: INDEX.to_string(),
                    })
                })
                .collect();
        }
        let names = self.names()?;
        let shards: Vec<_> = names
            .iter()
            .filter(|n| n.starts_with("model") && n.ends_with(".safetensors"))
            .map(|name| self.get(name))
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        if shards.is_empty() {
            return Err(Error::MissingFile {
                path: self.path_of("model.safetensors"),
                needed_by: "config.json".into(),
            });
        }
        Ok(shards)
    }

    /// The names of the folder's files, sorted.
    fn names(&self) -> Result<BTreeSet<String>> {
        match &self.files {
            Files::Open(files) => Ok(files.keys().cloned().collect()),
            Files::Directory(path) => {
                let mut names = BTreeSet::new();
                for entry in std::fs::read_dir(path).map_err(|e| Error::io(path, e))? {
                    let entry = entry.map_err(|e| Error::io(path, e))?;
                    if let Ok(name) = entry.file_name().into_string() {
                        names.insert(name);
                    }
                }
                Ok(names)
            }
        }
    }

    /// Checks that each tensor of the index lies in the file that the index names; `file_of` finds a
    /// tensor's file. A tensor of a folder opened through a single file may be absent.
    pub(super) fn check_index<'a>(
        &self,
        file_of: impl Fn(&str) -> Option<&'a MappedFile>,
        single: bool,
    ) -> Result<()> {
        let path = self.path_of(INDEX);
        for (tensor, shard) in self.weight_map.iter().flatten() {
            let found = match file_of(tensor) {
                Some(file) if file.path().file_name().is_some_and(|n| n == shard.as_str()) => continue,
                None if single => continue,
                Some(file) => format!("it in {}", file.path().display()),
                None => "no such tensor".to_string(),
            };
            let key = format!("weight_map.{}", one_line(tensor));
            return Err(Error::config(&path, key, format!("a tensor of {shard}"), found));
        }
        Ok(())
    }
}

/// Whether the name is one plain part: no folder, no parent, no root, no drive.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['/', '\\', ':', '\0'])
}

/// What kind of JSON value this is, in words, for messages.
pub(super) fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
