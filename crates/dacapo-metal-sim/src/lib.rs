//! A simulated Metal, for tests on machines without one.
//!
//! [`msl`] compiles kernels in Metal's shading language as C++, against a stand-in for Metal's standard library, and runs
//! them on the processor, each thread of a threadgroup on a stack of its own, in an order that a seed chooses. It reports
//! what a GPU would not: barriers that not every thread reaches, memory outside of what is bound, races.
//!
//! Nothing here is part of the product: tests use it.

#[cfg(not(target_vendor = "apple"))]
pub mod msl;
