//! All kernels, one row each.

use dacapo::Kernel;

use crate::ops::{
    activation, advance, argmax, attention, copy, depthwise_conv, elementwise, embed, experts, fused,
    gated_delta, kv_write, layer_norm, matmul, place, quantize, repack, rms_norm, rope, route, sample,
    softmax, top_k,
};

/// Every kernel of this crate.
pub static CATALOGUE: &[&Kernel] = &[
    &embed::EMBED,
    &embed::EMBED_MORE,
    &matmul::MATMUL,
    &matmul::MATMUL_BIAS,
    &matmul::MATMUL_INT8,
    &matmul::MATMUL_INT8_BIAS,
    &matmul::normed::RMS_NORM_MATMUL_INT8,
    &matmul::normed::RMS_NORM_MATMUL_INT8_BIAS,
    &matmul::normed::RMS_NORM_GATED_INT8,
    &place::PLACE,
    &place::PLACE_FIRST,
    &quantize::QUANTIZE_Q8,
    &repack::REPACK,
    &repack::REPACK_AFFINE,
    &activation::ACTIVATE,
    &activation::GATED,
    &activation::GATED_CLAMPED,
    &advance::ADVANCE,
    &argmax::ARGMAX,
    &attention::ATTENTION,
    &attention::ATTENTION_SINKS,
    &attention::ATTENTION_PART,
    &attention::ATTENTION_COMBINE,
    &attention::ATTENTION_COMBINE_SINKS,
    &attention::ATTENTION_Q8,
    &attention::ATTENTION_COMBINE_Q8,
    &attention::ROPE_ATTENTION_PART,
    &attention::RMS_NORM_ROPE_ATTENTION_PART,
    &attention::ROPE_ATTENTION_Q8,
    &attention::RMS_NORM_ROPE_ATTENTION_Q8,
    &copy::COPY,
    &copy::COPY_SHARED_WORDS,
    &depthwise_conv::DEPTHWISE_CONV,
    &elementwise::ADD,
    &elementwise::ADD_BIAS,
    &elementwise::ADD_IN_PLACE,
    &elementwise::MUL,
    &elementwise::SCALE,
    &elementwise::SCALE_IN_PLACE,
    &elementwise::SOFTCAP,
    &elementwise::SOFTCAP_IN_PLACE,
    &experts::EXPERTS_BIAS,
    &experts::EXPERTS_GROUP,
    &experts::EXPERTS_SUM,
    &experts::EXPERTS_SUM_SHARED,
    &experts::MATMUL_EXPERTS,
    &experts::MATMUL_EXPERTS_INT8,
    &experts::MATMUL_EXPERTS_GROUPED,
    &experts::MATMUL_EXPERTS_GROUPED_INT8,
    &fused::gated_quantize::GATED_Q8,
    &fused::norm_quantize::RMS_NORM_Q8,
    &fused::norm_quantize::RMS_NORM_ADD_Q8,
    &fused::norm_rope::RMS_NORM_ROPE,
    &fused::rope_kv_write::ROPE_KV_WRITE,
    &fused::rope_kv_write::RMS_NORM_ROPE_KV_WRITE,
    &gated_delta::GATED_DELTA,
    &kv_write::KV_WRITE,
    &layer_norm::LAYER_NORM,
    &layer_norm::LAYER_NORM_BIAS,
    &rms_norm::RMS_NORM,
    &rms_norm::RMS_NORM_ADD,
    &rms_norm::RMS_NORM_IN_PLACE,
    &rms_norm::RMS_NORM_UNIT,
    &rms_norm::RMS_NORM_UNIT_IN_PLACE,
    &rope::ROPE,
    &route::ROUTE,
    &route::ROUTE_BIAS,
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

    /// Every text of every kernel translates, does with its bindings what the signature says, and is valid SPIR-V.
    #[test]
    fn wgsl_translates() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut validated = 0;
        for kernel in CATALOGUE.iter() {
            for variant in kernel.gpu.iter().flat_map(|twin| twin.variants) {
                let words = dacapo::gpu::spirv(kernel, variant, &[])
                    .unwrap_or_else(|error| panic!("{}: {error}", kernel.name));
                let path = folder.path().join(format!("{}-{}.spv", kernel.name, variant.name));
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                std::fs::write(&path, bytes).expect("written");
                if variant.needs.matrix_side > 0 {
                    // Validators of 2023 do not know them yet.
                    continue;
                }
                let validator = std::process::Command::new("spirv-val")
                    .args(["--target-env", "vulkan1.3"])
                    .arg(&path)
                    .output();
                let Ok(output) = validator else { continue };
                let message = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{}/{}: {message}", kernel.name, variant.name);
                validated += 1;
            }
        }
        if validated == 0 {
            eprintln!("skipped: no kernel was validated, spirv-val is not installed");
            assert!(std::env::var_os("DACAPO_REQUIRE_VULKAN").is_none(), "spirv-val has to be there");
        }
    }

    /// Every text that Apple silicon can run becomes Metal's shading language.
    #[test]
    fn msl_translates() {
        let limits = dacapo::gpu::metal_limits(8);
        for kernel in CATALOGUE.iter() {
            for variant in kernel.gpu.iter().flat_map(|twin| twin.variants) {
                if !variant.needs.met_by(&limits) {
                    continue;
                }
                let msl = dacapo::gpu::msl(kernel, variant, &[])
                    .unwrap_or_else(|error| panic!("{}: {error}", kernel.name));
                let threads: u32 = msl.workgroup.iter().product();
                assert!(threads <= limits.workgroup_size, "{}: {threads} threads", kernel.name);
                let memory: u32 = msl.threadgroup.iter().sum();
                assert!(memory <= limits.shared_memory, "{}: {memory} bytes", kernel.name);
            }
        }
    }
}
