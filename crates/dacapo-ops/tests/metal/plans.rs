//! Every kernel's plan, fused ones among them, against what Apple silicon has. No compiler is needed.

use std::collections::BTreeSet;

use dacapo::gpu::{GpuCaps, SIZES_BUFFER, Translator, metal_limits};
use dacapo::{Device, DeviceOptions};
use dacapo_ops::catalogue::CATALOGUE;

use super::device::{CORES, fusions};
use super::passes::{dispatches, graphs, in_parts};

/// Kernels that only the processor runs: weights are repacked there, near to their files.
const PROCESSOR_ONLY: [&str; 2] = ["repack", "repack_affine"];

/// A device that plans as for Apple silicon.
fn device(caps: GpuCaps) -> Device {
    let as_gpu = Some(metal_limits(CORES).capped(&caps));
    Device::open(DeviceOptions { as_gpu, ..DeviceOptions::default() }).expect("the CPU is always there")
}

/// In 32 KiB of threadgroup memory, 1024 threads and 31 buffers, of which two are the backend's; and on a device that is held
/// to the least of Vulkan's.
#[test]
fn every_kernel_runs_on_apple_silicon() {
    let whole = device(GpuCaps::default());
    let mut all = dispatches(&whole, &graphs(&whole).expect("the arguments fit"), &fusions());
    let parts = in_parts(&device(GpuCaps { binding_bytes: 40_000, ..GpuCaps::default() })).expect("in parts");
    all.extend(parts.nodes().iter().map(|node| node.dispatch().clone()));
    let seen: BTreeSet<&str> = all.iter().map(|dispatch| dispatch.kernel().name).collect();
    let wanted = CATALOGUE.iter().map(|kernel| kernel.name).filter(|name| !PROCESSOR_ONLY.contains(name));
    let missing: Vec<_> = wanted.filter(|name| !seen.contains(name)).collect();
    assert!(missing.is_empty(), "not tried here: {missing:?}");
    for caps in [GpuCaps::default(), GpuCaps::LEAST] {
        let translator = Translator::new(metal_limits(CORES).capped(&caps));
        for dispatch in &all {
            translator.fits(dispatch).unwrap_or_else(|error| panic!("{}: {error}", dispatch.kernel().name));
            assert!(dispatch.kernel().bindings.len() <= SIZES_BUFFER as usize, "{}", dispatch.kernel().name);
        }
    }
}
