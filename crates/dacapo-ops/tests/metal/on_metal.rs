//! A Metal device under test: the Mac's GPU, or the simulated one.

use dacapo::gpu::GpuCaps;
use dacapo::{CommandEncoder, ComputeGraph, Device, DeviceOptions, DeviceSelect, FuseReport, GraphOptions};
use dacapo_ops::FUSIONS;

/// Whether cases are run only for the sake of their text.
pub const EVERY_TEXT: bool = true;

/// Opens it, held to these limits. Where there is none the tests fail.
pub fn open(gpu_caps: GpuCaps) -> Option<Device> {
    let options = DeviceOptions { gpu_caps, ..DeviceOptions::metal(DeviceSelect::Auto) };
    Some(Device::open(options).unwrap_or_else(|error| panic!("{error}")))
}

/// Fails if the simulation had something to say. On a Mac, Metal's validation ends the program by itself.
pub fn assert_silent(_: &Device) {
    #[cfg(metal_sim)]
    {
        let complaints = dacapo_metal_sim::complaints();
        assert!(complaints.is_empty(), "{} complaints, first:\n{}", complaints.len(), complaints[0]);
    }
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
