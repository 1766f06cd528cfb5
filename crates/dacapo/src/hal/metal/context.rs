//! An opened device: its queue, how its work is ordered, and how its errors read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use objc2::rc::{Retained, autoreleasepool};
use objc2_foundation::{NSError, NSString};
use objc2_metal::{MTLCommandQueue, MTLDevice, MTLFence};

use super::device::Physical;
use super::objects::{Object, describe};
use super::residency::Residency;
use super::timing::Clock;
use crate::hal::info::MetalOptions;
use crate::hal::meter::MemoryMeter;
use crate::{Error, Result};

/// Command buffers that may exist at once. Metal makes callers wait for more, for ever if none ends: recordings keep some
/// that are encoded ahead.
pub(super) const COMMAND_BUFFERS: usize = 256;

/// What everything made from a device shares.
pub(super) struct Context {
    pub physical: Physical,
    pub queue: Object<dyn MTLCommandQueue>,
    /// Orders encoders: each waits for it at its start and updates it at its end. Buffers are not tracked by Metal.
    pub fence: Object<dyn MTLFence>,
    /// Memory that stays resident; `None` where the system has no such sets, or they are not wanted.
    pub residency: Option<Residency>,
    pub clock: Clock,
    pub meter: MemoryMeter,
    pub options: MetalOptions,
    /// Rises when command buffers that are encoded by then must not be used any more.
    epoch: AtomicU64,
    /// Why the device is lost, once it is.
    lost: OnceLock<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metal device {:?}", self.physical.info.name)
    }
}

impl Context {
    /// Opens a device.
    pub fn new(physical: Physical, options: MetalOptions) -> Result<Arc<Context>> {
        autoreleasepool(|_| {
            let raw = &physical.raw;
            let refused = |what: &str| {
                Error::NoDevice(format!("{} cannot be opened: it gives no {what}", physical.info.name))
            };
            let queue = raw
                .newCommandQueueWithMaxCommandBufferCount(COMMAND_BUFFERS)
                .ok_or_else(|| refused("command queue"))?;
            queue.setLabel(Some(&NSString::from_str("dacapo")));
            let fence = raw.newFence().ok_or_else(|| refused("fence"))?;
            let wanted = options.residency && physical.features.residency_sets;
            let residency = wanted.then(|| Residency::new(raw, &queue)).transpose().map_err(|error| {
                Error::NoDevice(format!("{} cannot be opened: {}", physical.info.name, describe(&error)))
            })?;
            Ok(Arc::new(Context {
                physical,
                queue,
                fence,
                residency,
                clock: Clock::default(),
                meter: MemoryMeter::default(),
                options,
                epoch: AtomicU64::new(0),
                lost: OnceLock::new(),
            }))
        })
    }

    /// Name of the device.
    pub fn name(&self) -> &str {
        &self.physical.info.name
    }

    /// The system's refusal of a call as an error.
    pub fn error(&self, call: &'static str, error: &Retained<NSError>) -> Error {
        self.refused(call, describe(error))
    }

    /// A call that gave nothing.
    pub fn refused(&self, call: &'static str, why: impl Into<String>) -> Error {
        Error::Driver { device: self.name().to_owned(), call, code: why.into() }
    }

    /// Says how much there is, so that the caller knows what would fit.
    pub fn out_of_memory(&self, requested: usize) -> Error {
        let raw = &self.physical.raw;
        let (used, most) = (raw.currentAllocatedSize(), raw.recommendedMaxWorkingSetSize());
        let held = self.meter.in_use().bytes;
        let device = format!("{}: {used} of {most} bytes are in use, this program holds {held}", self.name());
        Error::OutOfMemory { requested, device }
    }

    /// To be read before a command buffer is made that will be committed later.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Command buffers that were made before this must not be committed any more.
    pub fn outdate_encoded(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The device is lost from now on; the first cause stays.
    pub fn lose(&self, cause: String) -> Error {
        Error::DeviceLost(self.lost.get_or_init(|| cause).clone())
    }

    /// An error if the device is lost.
    pub fn check(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |cause| Err(Error::DeviceLost(cause.clone())))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some(residency) = &self.residency {
            autoreleasepool(|_| residency.close(&self.queue));
        }
    }
}
