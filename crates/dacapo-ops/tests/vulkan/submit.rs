//! Runs what a test records on a device that executes kernels, whatever its backend.

use dacapo::{CommandEncoder, ComputeGraph, Device, FuseReport, GraphOptions};
use dacapo_ops::FUSIONS;

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
