//! A simulated Metal, for tests on machines without one.
//!
//! [`msl`] compiles kernels in Metal's shading language as C++, against a stand-in for Metal's standard library, and runs
//! them on the processor, each thread of a threadgroup on a stack of its own, in an order that a seed chooses. It reports
//! what a GPU would not: barriers that not every thread reaches, memory outside of what is bound, races.
//!
//! With `--cfg metal_sim` there is more: a small Objective-C runtime (`objc`), and classes that answer the messages which
//! the Metal backend sends (`classes`). The backend, unchanged, then finds a device, and what it commits is run by a thread
//! that takes every liberty which Metal has (`gpu`). What a Mac's validation would complain about, and much that it would
//! not, is kept for `complaints`.
//!
//! Nothing here is part of the product: tests use it.

#[cfg(metal_sim)]
pub mod classes;
#[cfg(metal_sim)]
pub mod gpu;
#[cfg(not(target_vendor = "apple"))]
pub mod msl;
#[cfg(metal_sim)]
pub mod objc;

#[cfg(metal_sim)]
mod complaint;
#[cfg(metal_sim)]
pub(crate) use complaint::{complain, lock};
#[cfg(metal_sim)]
pub use complaint::{complaints, forget_complaints};
