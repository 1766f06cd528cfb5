//! Every kernel on a Vulkan device against its CPU twin: the same inputs, at odd sizes and odd places.
//!
//! Which device that is, and what happens where there is none, is told in `dacapo-testkit`.

mod attention;
mod copies;
mod delta;
mod device;
mod experts;
mod fused;
mod harness;
mod large;
mod limits;
mod matmul;
mod norms;
mod passes;
mod plans;
mod pointwise;
mod products;
mod sampling;
mod selection;
mod step;
mod weights;

pub use harness::{Bench, Rng, both, both_at, both_least, both_with, close, same, same_words};
