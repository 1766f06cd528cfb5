//! The kernels of Dacapo, and the quantized tensor formats they read.

pub mod catalogue;
pub mod ops;
pub mod quant;
pub mod simd;
#[cfg(test)]
pub mod testing;
mod weight;

pub use ops::embed::embed;
pub use ops::matmul::matmul;
pub use ops::quantize::{Activation, Int8Buffers, quantize_q8};
pub use weight::{Weight, WeightSource};
