//! A Metal device under test: the Mac's GPU, or the simulated one.

use dacapo::gpu::GpuCaps;
use dacapo::{Device, DeviceOptions, DeviceSelect};
pub use submit::{run, run_fused};

#[path = "../vulkan/submit.rs"]
mod submit;

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
