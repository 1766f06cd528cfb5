//! The Vulkan device under test.

use dacapo::gpu::GpuCaps;
use dacapo::{CommandEncoder, ComputeGraph, Device, DeviceOptions, FuseReport, GraphOptions};
use dacapo_ops::FUSIONS;
pub use dacapo_testkit::assert_silent;
use dacapo_testkit::vulkan_options;

/// Whether cases are run only for the sake of their text: drivers take seconds for some.
pub const EVERY_TEXT: bool = false;

/// Opens it, held to these limits; `None` where there is none and there need not be one.
pub fn open(gpu_caps: GpuCaps) -> Option<Device> {
    dacapo_testkit::open(DeviceOptions { gpu_caps, ..vulkan_options() })
}

/// Records something and waits for it.
pub fn run(mut encoder: CommandEncoder, record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) {
    record(&mut encoder).expect("the arguments fit");
    encoder.commit_and_wait().expect("the kernels run");
}

/// Fuses a graph and runs it: as it is then, and how that came.
pub fn run_fused(device: &Device, graph: &ComputeGraph) -> (ComputeGraph, FuseReport) {
    let options = GraphOptions { fuse: FUSIONS, ..GraphOptions::default() };
    let compiled = graph.compile(device, "test", &options).expect("compiles");
    compiled.replay().and_then(|replay| replay.wait()).expect("the kernels run");
    graph.fuse(device, FUSIONS)
}
