//! Every kernel's plan against what devices have, the least of them included: no device is needed that has so little.

use std::collections::BTreeSet;

use dacapo::gpu::{GpuCaps, GpuLimits, Translator};
use dacapo::{DeviceOptions, Dispatch};
use dacapo_ops::FUSIONS;
use dacapo_ops::catalogue::CATALOGUE;
use dacapo_testkit::{assert_silent, vulkan_options};

use super::passes::{self, dispatches, graphs, norms};

/// Kernels that only the processor runs: weights are repacked there, near to their files.
const PROCESSOR_ONLY: [&str; 2] = ["repack", "repack_affine"];

/// Limits of a device that is no software device, its workgroups' subgroups as large as this.
fn limits(subgroup_size: u32, shared_memory: u32, workgroup_size: u32) -> GpuLimits {
    GpuLimits {
        subgroup_size,
        shared_memory,
        workgroup_size,
        workgroups: [65_535; 3],
        binding_bytes: 1 << 27,
        binding_align: 256,
        processors: 24,
        f16: false,
        matrix_side: 0,
        fast_int8_dot: false,
    }
}

/// Devices, and which kernels they refuse: replacements of others, which run there instead.
fn devices(subgroup: u32) -> [(GpuLimits, &'static str, BTreeSet<&'static str>); 3] {
    let GpuCaps { shared_memory, workgroup_size, .. } = GpuCaps::LEAST;
    // Halves of two weights are multiplied by four subgroups.
    let gated = (4 * subgroup > workgroup_size).then_some("rms_norm_gated_int8");
    // A workgroup for each row hands its values over in workgroup memory: in rows this long they are too many.
    let long_rows = ["rms_norm_add_q8", "rms_norm_q8"];
    [
        (limits(subgroup, shared_memory, workgroup_size), "the least", gated.into_iter().collect()),
        (limits(subgroup, shared_memory, 1024), "little memory", long_rows.into_iter().collect()),
        (limits(subgroup, 32 << 10, 1024), "a usual device", BTreeSet::new()),
    ]
}

/// A device that binds little, so that weights are taken in parts.
fn in_parts() -> DeviceOptions {
    let gpu_caps = GpuCaps { binding_bytes: 40_000, ..GpuCaps::default() };
    DeviceOptions { gpu_caps, ..vulkan_options() }
}

#[test]
fn every_kernel_runs_on_the_least_device() {
    let Some(device) = dacapo_testkit::open(vulkan_options()) else { return };
    let mut all = dispatches(&device, &graphs(&device).expect("the arguments fit"), FUSIONS);
    let small = dacapo_testkit::open(in_parts()).expect("it was opened before");
    let parts = passes::in_parts(&small).expect("in parts");
    all.extend(parts.nodes().iter().map(|node| node.dispatch().clone()));
    let seen: BTreeSet<&str> = all.iter().map(|dispatch| dispatch.kernel().name).collect();
    for kernel in CATALOGUE {
        let alone = PROCESSOR_ONLY.contains(&kernel.name);
        assert_eq!(kernel.gpu.is_none(), alone, "{}: whether GPUs run it", kernel.name);
        assert_eq!(seen.contains(kernel.name), !alone, "{}: whether it was tried here", kernel.name);
    }
    let mut wrong = vec![];
    for subgroup in [4, 8, 16, 32, 64] {
        for (limits, label, expected) in devices(subgroup) {
            let refused = refused(&limits, &all);
            if refused != expected {
                wrong.push(format!("subgroups of {subgroup}, {label}: {refused:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_silent(&device);
}

/// The kernels of dispatches that a device with these limits cannot run.
fn refused<'a>(limits: &GpuLimits, all: &'a [Dispatch]) -> BTreeSet<&'a str> {
    let translator = Translator::new(limits.clone());
    let mut refused = BTreeSet::new();
    for dispatch in all {
        if let Err(error) = translator.fits(dispatch) {
            let text = error.to_string();
            let limit = text.contains("bytes of workgroup memory") || text.contains("workgroups of ");
            assert!(limit, "{text}");
            refused.insert(dispatch.kernel().name);
        }
    }
    refused
}

/// Where a fusion would need more workgroup memory than there is, its parts run.
#[test]
fn what_does_not_fit_is_not_fused() {
    // With no more than 128 invocations, as some devices have it, this is too little.
    let gpu_caps = GpuCaps { shared_memory: 3 << 10, workgroup_size: 128, ..GpuCaps::default() };
    let Some(device) = dacapo_testkit::open(DeviceOptions { gpu_caps, ..vulkan_options() }) else { return };
    let graph = norms(&device, 4096).expect("the arguments fit");
    let (fused, report) = graph.fuse(&device, FUSIONS);
    let names: Vec<&str> = fused.nodes().iter().map(|node| node.kernel().name).collect();
    assert_eq!(names, ["rms_norm_add", "quantize_q8"], "{report:?}");
    let [refused] = &report.refused[..] else { panic!("{report:?}") };
    let why = refused.why.to_string();
    assert!(why.contains("bytes of workgroup memory; the device has 3072"), "{why}");
    // Shorter rows fit.
    let (fused, _) = norms(&device, 32).expect("the arguments fit").fuse(&device, FUSIONS);
    assert_eq!(fused.nodes()[0].kernel().name, "rms_norm_add_q8");
}
