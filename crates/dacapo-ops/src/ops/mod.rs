//! Operations: for each a typed entry point, its kernels and their CPU twins.

pub mod matmul;
pub mod quantize;
