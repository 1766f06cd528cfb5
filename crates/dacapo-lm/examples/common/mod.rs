//! What the examples that check a device share: their arguments, a device by its name, a model.

#![allow(dead_code, reason = "every program has a copy and uses a part of it")]

use std::path::Path;

use dacapo::{Device, DeviceOptions, DeviceSelect};
use dacapo_lm::{Checkpoint, Error, LoadOptions, Model};

/// What a program of this kind fails with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The arguments of a command line: `--name VALUE` pairs and one model.
#[derive(Debug, Default)]
pub struct Arguments {
    named: Vec<(String, String)>,
    /// Path of the model; `None` for the demo model.
    pub model: Option<String>,
}

impl Arguments {
    /// Reads the command line. `known` are the names that there are, without dashes.
    pub fn read(known: &[&str]) -> Result<Self, Failure> {
        let mut read = Arguments::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(name) if known.contains(&name) => {
                    let value = words.next().ok_or_else(|| format!("--{name} needs a value"))?;
                    read.named.push((name.to_owned(), value));
                }
                Some(_) => return Err(format!("{word}: expected one of --{}", known.join(", --")).into()),
                None if read.model.is_none() => read.model = Some(word),
                None => return Err(format!("{word}: expected one model").into()),
            }
        }
        Ok(read)
    }

    /// The text after `--name`, or this.
    pub fn text<'a>(&'a self, name: &str, otherwise: &'a str) -> &'a str {
        let found = self.named.iter().rev().find(|(key, _)| key == name);
        found.map_or(otherwise, |(_, value)| value)
    }

    /// The number after `--name`, or this.
    pub fn number(&self, name: &str, otherwise: usize) -> Result<usize, Failure> {
        let text = self.text(name, "");
        if text.is_empty() {
            return Ok(otherwise);
        }
        text.parse().map_err(|_| format!("--{name}: expected a number, found {text:?}").into())
    }

    /// The checkpoint that was named, or the demo model.
    pub fn checkpoint(&self) -> Result<Checkpoint, Error> {
        match &self.model {
            Some(path) => Checkpoint::open(Path::new(path)),
            None => dacapo_lm::demo(),
        }
    }
}

/// The device of this name, its driver's messages collected: `cpu`, `vulkan`, `vulkan:INDEX` or `vulkan:NAME`.
pub fn open(name: &str) -> Result<Device, Failure> {
    let options = match name.split_once(':') {
        None if name == "cpu" => DeviceOptions::default(),
        None if name == "vulkan" => DeviceOptions::vulkan(DeviceSelect::Auto),
        Some(("vulkan", which)) => {
            let named = |_| DeviceSelect::Name(which.to_owned());
            DeviceOptions::vulkan(which.parse().map_or_else(named, DeviceSelect::Index))
        }
        _ => {
            return Err(format!(
                "--device: expected cpu, vulkan, vulkan:INDEX or vulkan:NAME, found {name:?}"
            )
            .into());
        }
    };
    Ok(Device::open(DeviceOptions { debug: true, ..options })?)
}

/// A model on a device, with so many positions at most.
pub fn load(
    device: &Device,
    checkpoint: &Checkpoint,
    exact: bool,
    context: Option<usize>,
) -> Result<Model, Error> {
    Model::from_checkpoint(device, checkpoint, &LoadOptions { exact, context }, &mut |_| {})
}

/// Tokens that look random, `len` of a vocabulary of this size.
pub fn tokens(seed: u64, len: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let token = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 33) % vocabulary.max(1) as u64) as u32
    };
    std::iter::repeat_with(token).take(len).collect()
}
