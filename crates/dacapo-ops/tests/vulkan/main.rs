//! Every kernel on a Vulkan device against its CPU twin: the same inputs, at odd sizes and odd places.
//!
//! Any device will do; by default a software one. Where there is none the tests are skipped and say so, unless
//! `DACAPO_REQUIRE_VULKAN` is set: then they fail. `DACAPO_TEST_VULKAN` names another device.

mod attention;
mod copies;
mod device;
mod fused;
mod harness;
mod matmul;
mod norms;
mod pointwise;
mod sampling;
mod selection;
mod weights;

pub use harness::{Bench, Rng, both, both_at, close, same, same_words};
