//! All kernels, one row each.

use dacapo::Kernel;

use crate::ops::{
    activation, advance, argmax, attention, copy, elementwise, embed, fused, kv_write, layer_norm, matmul,
    quantize, repack, rms_norm, rope, sample, softmax, top_k,
};

/// Every kernel of this crate.
pub static CATALOGUE: &[&Kernel] = &[
    &embed::EMBED,
    &matmul::MATMUL,
    &matmul::MATMUL_BIAS,
    &matmul::MATMUL_INT8,
    &matmul::MATMUL_INT8_BIAS,
    &quantize::QUANTIZE_Q8,
    &repack::REPACK,
    &repack::REPACK_AFFINE,
    &activation::ACTIVATE,
    &activation::GATED,
    &advance::ADVANCE,
    &argmax::ARGMAX,
    &attention::ATTENTION,
    &attention::ATTENTION_SINKS,
    &copy::COPY,
    &elementwise::ADD,
    &elementwise::ADD_BIAS,
    &elementwise::ADD_IN_PLACE,
    &elementwise::MUL,
    &elementwise::SCALE,
    &elementwise::SCALE_IN_PLACE,
    &elementwise::SOFTCAP,
    &elementwise::SOFTCAP_IN_PLACE,
    &fused::gated_quantize::GATED_Q8,
    &fused::norm_rope::RMS_NORM_ROPE,
    &fused::rope_kv_write::ROPE_KV_WRITE,
    &fused::rope_kv_write::RMS_NORM_ROPE_KV_WRITE,
    &kv_write::KV_WRITE,
    &layer_norm::LAYER_NORM,
    &layer_norm::LAYER_NORM_BIAS,
    &rms_norm::RMS_NORM,
    &rms_norm::RMS_NORM_ADD,
    &rms_norm::RMS_NORM_IN_PLACE,
    &rms_norm::RMS_NORM_UNIT,
    &rms_norm::RMS_NORM_UNIT_IN_PLACE,
    &rope::ROPE,
    &sample::SAMPLE,
    &sample::SAMPLE_BIAS,
    &softmax::SOFTMAX,
    &top_k::TOP_K,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = CATALOGUE.iter().map(|kernel| kernel.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
    }
}
