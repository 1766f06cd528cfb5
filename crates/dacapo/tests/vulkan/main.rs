//! The engine on a Vulkan device, with kernels of its own: what the other tests show on the CPU holds there too.

#![cfg(feature = "vulkan")]

mod devices;
mod engine;
mod kernels;
mod validation;

pub use dacapo_testkit::{assert_silent, vulkan as device};
