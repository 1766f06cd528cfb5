//! What every GPU has to do, with replay by indirect command buffers.

use dacapo::{Device, MetalReplay};

use super::{assert_silent, kernels};

#[path = "../vulkan/engine.rs"]
mod engine;

/// The device to test on.
pub fn device() -> Option<Device> {
    Some(super::open(MetalReplay::Auto))
}
