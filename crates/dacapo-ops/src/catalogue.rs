//! All kernels, one row each.

use dacapo::Kernel;

use crate::ops::{embed, matmul, quantize, repack};

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
