//! The engine on a Vulkan device, with kernels of its own: what the other tests show on the CPU holds there too.
//!
//! Any device will do; by default a software one. Where there is none the tests are skipped and say so, unless
//! `DACAPO_REQUIRE_VULKAN` is set: then they fail.

#![cfg(feature = "vulkan")]

use dacapo::{Device, DeviceOptions, DeviceSelect, Error};

mod devices;
mod engine;
mod kernels;
mod validation;

/// The device to test on, or a visible skip.
pub fn device() -> Option<Device> {
    open(DeviceOptions { debug: true, ..DeviceOptions::vulkan(select()) })
}

/// `DACAPO_TEST_VULKAN` names another device than the software one.
pub fn select() -> DeviceSelect {
    let name = std::env::var("DACAPO_TEST_VULKAN").unwrap_or_else(|_| "llvmpipe".into());
    name.parse().map_or(DeviceSelect::Name(name), DeviceSelect::Index)
}

/// A device, or a visible skip.
pub fn open(options: DeviceOptions) -> Option<Device> {
    match Device::open(options) {
        Ok(device) => Some(device),
        Err(Error::NoDevice(why)) if std::env::var_os("DACAPO_REQUIRE_VULKAN").is_none() => {
            eprintln!("skipped: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Fails if a layer had something to say.
pub fn assert_silent(device: &Device) {
    let messages = device.messages();
    assert!(messages.is_empty(), "{} messages, first:\n{}", messages.len(), messages[0]);
}
