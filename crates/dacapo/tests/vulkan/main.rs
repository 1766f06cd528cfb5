//! The engine on a Vulkan device, with kernels of its own: what the other tests show on the CPU holds there too.

#![cfg(feature = "vulkan")]

mod engine;
mod kernels;
mod validation;
