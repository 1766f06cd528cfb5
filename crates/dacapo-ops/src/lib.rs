//! The kernels of Dacapo.

mod check;
mod lanes;
pub mod ops;
pub mod simd;
