//! Every kernel in Metal's shading language against its CPU twin: the cases of `tests/vulkan`. On a Mac they run on its GPU.
//! Elsewhere texts are run on the processor under watch, in an order of threads that differs from dispatch to dispatch,
//! and no Metal device takes part; with `--cfg metal_sim` the simulated one does.
//!
//! Where the compiler is missing the tests are skipped and say so, unless `DACAPO_REQUIRE_METAL_SIM` is set: then they fail.

#[path = "../vulkan/attention.rs"]
mod attention;
#[cfg(not(any(target_vendor = "apple", metal_sim)))]
mod catalogue;
#[path = "../vulkan/copies.rs"]
mod copies;
#[path = "../vulkan/delta.rs"]
mod delta;
#[cfg_attr(any(target_vendor = "apple", metal_sim), path = "on_metal.rs")]
mod device;
#[path = "../vulkan/experts.rs"]
mod experts;
#[path = "../vulkan/fused.rs"]
mod fused;
#[path = "../vulkan/harness.rs"]
mod harness;
#[path = "../vulkan/large.rs"]
mod large;
#[path = "../vulkan/matmul.rs"]
mod matmul;
#[path = "../vulkan/norms.rs"]
mod norms;
#[cfg(not(any(target_vendor = "apple", metal_sim)))]
#[path = "../vulkan/passes.rs"]
mod passes;
#[cfg(not(any(target_vendor = "apple", metal_sim)))]
mod plans;
#[cfg(not(any(target_vendor = "apple", metal_sim)))]
mod planted;
#[path = "../vulkan/pointwise.rs"]
mod pointwise;
#[path = "../vulkan/products.rs"]
mod products;
#[path = "../vulkan/sampling.rs"]
mod sampling;
#[path = "../vulkan/selection.rs"]
mod selection;
#[path = "../vulkan/step.rs"]
mod step;
#[path = "../vulkan/weights.rs"]
mod weights;

pub use harness::{Bench, Rng, both, both_at, both_least, both_with, close, same, same_words};
