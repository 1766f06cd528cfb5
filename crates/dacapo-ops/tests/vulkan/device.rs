//! The Vulkan device under test.

use dacapo::gpu::GpuCaps;
use dacapo::{Device, DeviceOptions};
pub use dacapo_testkit::assert_silent;
use dacapo_testkit::vulkan_options;
pub use submit::{run, run_fused};

#[path = "submit.rs"]
mod submit;

/// Whether cases are run only for the sake of their text: drivers take seconds for some.
pub const EVERY_TEXT: bool = false;

/// Opens it, held to these limits; `None` where there is none and there need not be one.
pub fn open(gpu_caps: GpuCaps) -> Option<Device> {
    dacapo_testkit::open(DeviceOptions { gpu_caps, ..vulkan_options() })
}
