//! Operations: for each a typed entry point, its kernels and their CPU twins.

pub mod embed;
pub mod matmul;
pub mod quantize;
pub mod repack;
