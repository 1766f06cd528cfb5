//! Kernels that do the work of several: what the [table of fusions](crate::fusion) puts in their place.
//!
//! Each runs the code of the kernels that it replaces on smaller pieces, in the same order of operations, so that the
//! results are the same to the bit. They have no entry points: programs record the single operations.

pub mod gated_quantize;
pub mod norm_quantize;
pub mod norm_rope;
pub mod rope_kv_write;
