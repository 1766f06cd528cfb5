//! Which devices there are, what they can do, and which one is meant.

use objc2::rc::autoreleasepool;
use objc2::runtime::NSObjectProtocol;
use objc2::sel;
use objc2_metal::{MTLCopyAllDevices, MTLCounterSamplingPoint, MTLCounterSet, MTLDevice, MTLGPUFamily};

use super::objects::Object;
use crate::hal::gpu::GpuLimits;
use crate::hal::info::{BackendKind, DeviceInfo, DeviceKind, DeviceSelect};
use crate::hal::wgsl::msl;
use crate::{Error, Result};

// `MTLCreateSystemDefaultDevice` and `MTLCopyAllDevices` find nothing on macOS unless this is linked.
#[cfg(target_vendor = "apple")]
#[link(name = "CoreGraphics", kind = "framework")]
unsafe extern "C" {}

/// Cores of a GPU, which Metal does not tell: a middling number.
const CORES: u32 = 16;

/// A device of the system.
pub(super) struct Physical {
    pub raw: Object<dyn MTLDevice>,
    pub info: DeviceInfo,
    pub limits: GpuLimits,
    pub features: Features,
}

/// What a device and its system offer beyond what every one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features {
    /// Sets of memory that stay resident: macOS 15.
    pub residency_sets: bool,
    /// Timestamps where encoders begin and end.
    pub stage_times: bool,
    /// Indirect command buffers for compute.
    pub indirect: bool,
    /// Bytes of a buffer.
    pub buffer_bytes: usize,
}

/// All devices that would do, in the system's order.
pub(super) fn enumerate() -> Vec<Result<Physical>> {
    autoreleasepool(|_| MTLCopyAllDevices().iter().enumerate().map(|(i, raw)| inspect(raw, i)).collect())
}

/// The device that is meant.
pub(super) fn select(select: &DeviceSelect) -> Result<Physical> {
    let mut devices = enumerate();
    let count = devices.len();
    match select {
        DeviceSelect::Index(index) if *index < count => devices.swap_remove(*index),
        DeviceSelect::Index(index) => {
            Err(Error::NoDevice(format!("metal:{index}; there are {count} Metal devices")))
        }
        DeviceSelect::Name(name) => {
            let wanted = name.to_lowercase();
            let mut found = devices.into_iter().flatten();
            let named = found.find(|device| device.info.name.to_lowercase().contains(&wanted));
            named.ok_or_else(|| Error::NoDevice(format!("no Metal device has {name:?} in its name")))
        }
        DeviceSelect::Auto => {
            let mut unusable = None;
            for device in devices {
                match device {
                    Ok(device) => return Ok(device),
                    Err(error) => drop(unusable.get_or_insert(error)),
                }
            }
            Err(unusable.unwrap_or_else(|| Error::NoDevice("there is no Metal device".into())))
        }
    }
}

fn inspect(raw: Object<dyn MTLDevice>, index: usize) -> Result<Physical> {
    let name = raw.name().to_string();
    let unusable = |why: &str| Error::NoDevice(format!("{name}: {why}"));
    // Apple7 is the M1's family: reductions within a simdgroup, 32 KiB of threadgroup memory.
    if !raw.supportsFamily(MTLGPUFamily::Apple7) || !raw.supportsFamily(MTLGPUFamily::Metal3) {
        return Err(unusable("it is not Apple silicon with Metal 3"));
    }
    if !raw.hasUnifiedMemory() {
        return Err(unusable("it does not share the processor's memory"));
    }
    let features = Features {
        residency_sets: raw.respondsToSelector(sel!(newResidencySetWithDescriptor:error:)),
        stage_times: raw.supportsCounterSampling(MTLCounterSamplingPoint::AtStageBoundary)
            && raw.counterSets().is_some_and(|sets| sets.iter().any(|set| is_timestamps(&set))),
        // Every device of these families has them.
        indirect: true,
        buffer_bytes: raw.maxBufferLength(),
    };
    let limits = limits(&raw, &features);
    let mut names = vec!["f16"];
    names.extend(features.stage_times.then_some("stage-times"));
    names.extend(features.residency_sets.then_some("residency-sets"));
    let info = DeviceInfo {
        backend: BackendKind::Metal,
        index,
        name: name.clone(),
        kind: DeviceKind::Integrated,
        driver: None,
        threads: 1,
        memory_bytes: Some(raw.recommendedMaxWorkingSetSize()),
        features: names,
        gpu: Some(limits.clone()),
    };
    Ok(Physical { raw, info, limits, features })
}

/// Whether these are the counters that sample the time. The name is the value of `MTLCommonCounterSetTimestamp`.
pub(super) fn is_timestamps(set: &objc2::runtime::ProtocolObject<dyn MTLCounterSet>) -> bool {
    set.name().to_string() == "timestamp"
}

fn limits(raw: &Object<dyn MTLDevice>, features: &Features) -> GpuLimits {
    let known = msl::limits(CORES);
    let at_most = |found: usize, known: u32| u32::try_from(found).unwrap_or(u32::MAX).min(known);
    GpuLimits {
        shared_memory: at_most(raw.maxThreadgroupMemoryLength(), known.shared_memory),
        workgroup_size: at_most(raw.maxThreadsPerThreadgroup().width, known.workgroup_size),
        binding_bytes: known.binding_bytes.min(features.buffer_bytes as u64),
        ..known
    }
}
