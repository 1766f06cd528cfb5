//! The kernels of Dacapo, and the quantized tensor formats they read.

pub mod ops;
pub mod quant;
pub mod simd;
#[cfg(test)]
pub mod testing;
