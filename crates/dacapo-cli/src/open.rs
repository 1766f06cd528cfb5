//! Opening what a verb runs on: device, checkpoint, model.

use std::time::{Duration, Instant};

use dacapo::{Device, DeviceOptions};
use dacapo_lm::{Checkpoint, LoadOptions, Model};

use crate::args::{DeviceChoice, RunArgs, SourceArgs};
use crate::error::{Error, Result};
use crate::progress::{Progress, Unit};

/// A model that is ready to run.
pub struct Opened {
    /// The model.
    pub model: Model,
    /// Where it came from, for reports.
    pub name: String,
    /// Time that opening the device and loading the model took.
    pub load: Duration,
}

/// What reports call the model: its path, or "demo".
pub fn name(source: &SourceArgs) -> String {
    source.model.as_deref().map_or_else(|| "demo".into(), |path| path.display().to_string())
}

/// Opens the checkpoint without loading weights.
///
/// # Errors
/// Those of [`Checkpoint::open`].
pub fn checkpoint(source: &SourceArgs) -> Result<Checkpoint> {
    match &source.model {
        Some(path) => Ok(Checkpoint::open(path)?),
        None => Ok(dacapo_lm::demo()?),
    }
}

/// Opens the device that the options ask for.
///
/// # Errors
/// [`Error::NoBackend`] if it is not part of this build.
pub fn device(args: &RunArgs) -> Result<Device> {
    let asked = match args.device {
        DeviceChoice::Auto | DeviceChoice::Cpu => {
            return Ok(Device::open(DeviceOptions { threads: args.threads, ..DeviceOptions::default() })?);
        }
        DeviceChoice::Vulkan => "vulkan",
        DeviceChoice::Metal => "metal",
    };
    let available = Device::enumerate().iter().map(|info| info.backend.name()).collect::<Vec<_>>();
    Err(Error::NoBackend { asked, available: available.join(", ") })
}

/// Loads the model.
///
/// # Errors
/// Those of [`device`] and of [`Model::from_checkpoint`].
pub fn model(args: &RunArgs) -> Result<Opened> {
    let started = Instant::now();
    let device = device(args)?;
    let checkpoint = checkpoint(&args.source)?;
    let options = LoadOptions { exact: args.exact, context: args.context };
    let mut progress = Progress::new("loading", Unit::Bytes);
    let model = Model::from_checkpoint(&device, &checkpoint, &options, &mut |step| {
        progress.update(step.done_bytes, step.total_bytes);
    })?;
    progress.clear();
    Ok(Opened { model, name: name(&args.source), load: started.elapsed() })
}
