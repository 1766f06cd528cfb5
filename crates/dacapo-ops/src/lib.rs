//! The kernels of Dacapo, and the quantized tensor formats they read.

pub mod catalogue;
mod check;
pub mod fusion;
mod lanes;
pub mod ops;
pub mod quant;
pub mod simd;
#[cfg(test)]
pub mod testing;
mod weight;
mod wgsl;

pub use fusion::FUSIONS;
pub use ops::activation::{ActivationFn, activate, gated, gated_clamped};
pub use ops::advance::advance;
pub use ops::argmax::argmax;
pub use ops::attention::{AttentionOptions, attention};
pub use ops::copy::copy;
pub use ops::depthwise_conv::depthwise_conv;
pub use ops::elementwise::{
    add, add_bias, add_in_place, mul, scale, scale_in_place, softcap, softcap_in_place,
};
pub use ops::embed::embed;
pub use ops::experts::{Experts, Routed, experts_bias, experts_sum, matmul_experts};
pub use ops::gated_delta::{DeltaInputs, gated_delta};
pub use ops::kv_write::kv_write;
pub use ops::layer_norm::layer_norm;
pub use ops::matmul::matmul;
pub use ops::place::{place, place_first};
pub use ops::quantize::{Activation, Int8Buffers, quantize_q8};
pub use ops::rms_norm::{rms_norm, rms_norm_add, rms_norm_in_place};
pub use ops::rope::{RopeFrequencies, RopeOptions, RopeScaling, rope};
pub use ops::route::{RouteOptions, Scoring, route};
pub use ops::sample::{SampleParams, sample};
pub use ops::softmax::softmax;
pub use ops::top_k::top_k;
pub use weight::{Weight, WeightSource};
