//! The engine on a Metal device, with kernels of its own: what the other tests show on the CPU holds there too.
//!
//! On a Mac this is the Mac's GPU. Elsewhere, with `--cfg metal_sim`, it is the simulated one of crates/dacapo-metal-sim.

#![cfg(all(feature = "metal", any(target_vendor = "apple", metal_sim)))]
#![expect(clippy::duplicate_mod, reason = "the same tests hold for both ways of replay")]

use dacapo::{Device, DeviceOptions, DeviceSelect, MetalOptions, MetalReplay};

mod devices;
mod indirect;
#[path = "../vulkan/kernels.rs"]
mod kernels;
mod memory;
mod reencoded;

/// The first device, with a way of replay.
pub fn open(replay: MetalReplay) -> Device {
    let metal = MetalOptions { replay, ..MetalOptions::default() };
    let options = DeviceOptions { metal, ..DeviceOptions::metal(DeviceSelect::Auto) };
    Device::open(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Fails if the simulation had something to say. On a Mac, Metal's validation ends the program by itself.
pub fn assert_silent(_device: &Device) {
    #[cfg(metal_sim)]
    {
        let complaints = dacapo_metal_sim::complaints();
        assert!(complaints.is_empty(), "{} complaints, first:\n{}", complaints.len(), complaints[0]);
    }
}
