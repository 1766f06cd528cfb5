//! What the tests of several crates share: a Vulkan device to test on.
//!
//! Any device will do; by default a software one. `DACAPO_TEST_VULKAN` names another, by its index or a part of its name.
//! Where there is none the tests are skipped and say so, unless `DACAPO_REQUIRE_VULKAN` is set: then they fail.

use dacapo::{Device, DeviceOptions, DeviceSelect, Error};

/// Options for the device to test on, whose messages are collected.
pub fn vulkan_options() -> DeviceOptions {
    let name = std::env::var("DACAPO_TEST_VULKAN").unwrap_or_else(|_| "llvmpipe".into());
    let select = name.parse().map_or(DeviceSelect::Name(name), DeviceSelect::Index);
    DeviceOptions { debug: true, ..DeviceOptions::vulkan(select) }
}

/// The device to test on, or a visible skip.
pub fn vulkan() -> Option<Device> {
    open(vulkan_options())
}

/// A device, or a visible skip if there is none.
///
/// # Panics
/// If it is there and cannot be opened, or if there has to be one.
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

/// Fails if a validation layer had something to say.
///
/// # Panics
/// With the first message.
pub fn assert_silent(device: &Device) {
    let messages = device.messages();
    assert!(messages.is_empty(), "{} messages, first:\n{}", messages.len(), messages[0]);
}
