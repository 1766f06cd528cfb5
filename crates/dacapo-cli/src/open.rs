//! Opening what a verb runs on: device, checkpoint, model.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dacapo::{Device, DeviceOptions, DeviceSelect};
use dacapo_lm::{Checkpoint, LoadOptions, Model};

use crate::args::{DeviceChoice, RunArgs, SourceArgs};
use crate::error::{Error, Result};
use crate::hub;
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
/// Those of [`Checkpoint::open`] and of [`hub::find`].
pub fn checkpoint(source: &SourceArgs) -> Result<Checkpoint> {
    match &source.model {
        Some(path) => Ok(Checkpoint::open(hub::find(path)?)?),
        None => Ok(dacapo_lm::demo()?),
    }
}

/// Opens the device that the options ask for.
///
/// # Errors
/// [`Error::NoBackend`] if it is not part of this build; if it is not there or cannot be opened.
pub fn device(args: &RunArgs) -> Result<Device> {
    device_of(&args.device, args.threads)
}

/// As [`device`], of a choice and a number of threads.
///
/// # Errors
/// As [`device`].
pub fn device_of(choice: &DeviceChoice, threads: Option<usize>) -> Result<Device> {
    let cpu = DeviceOptions { threads, ..DeviceOptions::default() };
    let vulkan = |select| DeviceOptions { cache: cache_folder(), ..DeviceOptions::vulkan(select) };
    match choice {
        DeviceChoice::Auto => {
            let metal = METAL.then(|| DeviceOptions::metal(DeviceSelect::Auto));
            for gpu in metal.into_iter().chain([vulkan(DeviceSelect::Auto)]) {
                match Device::open(gpu) {
                    Err(dacapo::Error::NoDevice(_)) => {}
                    opened => return Ok(opened?),
                }
            }
            Ok(Device::open(cpu)?)
        }
        DeviceChoice::Cpu => Ok(Device::open(cpu)?),
        DeviceChoice::Vulkan(select) => Ok(Device::open(vulkan(select.clone()))?),
        DeviceChoice::Metal(select) if METAL => Ok(Device::open(DeviceOptions::metal(select.clone()))?),
        DeviceChoice::Metal(_) => {
            let available = Device::enumerate().iter().map(|info| info.backend.name()).collect::<Vec<_>>();
            Err(Error::NoBackend { asked: "metal", available: available.join(", ") })
        }
    }
}

/// Whether this program knows Metal: on Apple's systems.
const METAL: bool = cfg!(target_vendor = "apple");

/// Where compiled kernels are kept between runs: the user's cache folder, as the XDG Base Directory Specification has it.
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    base.or_else(|| absolute("LOCALAPPDATA")).map(|base| base.join("dacapo"))
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
