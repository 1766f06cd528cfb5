//! The Vulkan device under test.

use dacapo::{
    CommandEncoder, ComputeGraph, Device, DeviceOptions, DeviceSelect, Error, FuseReport, GraphOptions,
};
use dacapo_ops::FUSIONS;

/// Whether cases are run only for the sake of their text: drivers take seconds for some.
pub const EVERY_TEXT: bool = false;

/// Opens it; `None` where there is none and there need not be one.
pub fn open() -> Option<Device> {
    let name = std::env::var("DACAPO_TEST_VULKAN").unwrap_or_else(|_| "llvmpipe".into());
    let select = name.parse().map_or(DeviceSelect::Name(name), DeviceSelect::Index);
    match Device::open(DeviceOptions { debug: true, ..DeviceOptions::vulkan(select) }) {
        Ok(device) => Some(device),
        Err(Error::NoDevice(why)) if std::env::var_os("DACAPO_REQUIRE_VULKAN").is_none() => {
            eprintln!("skipped: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Records something and waits for it.
pub fn run(mut encoder: CommandEncoder, record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) {
    record(&mut encoder).expect("the arguments fit");
    encoder.commit_and_wait().expect("the kernels run");
}

/// Fuses a graph and runs it.
pub fn run_fused(device: &Device, graph: &ComputeGraph) -> FuseReport {
    let options = GraphOptions { fuse: FUSIONS, ..GraphOptions::default() };
    let compiled = graph.compile(device, "test", &options).expect("compiles");
    compiled.replay().and_then(|replay| replay.wait()).expect("the kernels run");
    graph.fuse(device, FUSIONS).1
}
