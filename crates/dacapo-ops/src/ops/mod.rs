//! Operations: typed entry points and their kernels, one module each.

pub mod activation;
pub mod argmax;
pub mod attention;
pub mod copy;
pub mod elementwise;
pub mod kv_write;
pub mod layer_norm;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod softmax;
pub mod top_k;
