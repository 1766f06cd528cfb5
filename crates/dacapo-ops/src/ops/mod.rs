//! Operations: for each a typed entry point, its kernels and their CPU twins.

pub mod activation;
pub mod advance;
pub mod argmax;
pub mod attention;
pub mod copy;
pub mod depthwise_conv;
pub mod elementwise;
pub mod embed;
pub mod experts;
pub mod fused;
pub mod gated_delta;
pub mod kv_write;
pub mod layer_norm;
pub mod matmul;
pub mod place;
pub mod quantize;
pub mod repack;
pub mod rms_norm;
pub mod rope;
pub mod route;
pub mod sample;
pub mod softmax;
pub mod top_k;
