//! The kernels of Dacapo.

pub mod simd;
