//! Products that are added to a residual stream: replacements from the [table of fusions](crate::fusion).

use dacapo::{Dispatch, FuseMatch};

use super::{MATMUL, MATMUL_BIAS, MATMUL_INT8, MATMUL_INT8_BIAS, Params};

/// The replacement of `matmul` or `matmul_int8` of one token and `add`: what is added is as good as a bias.
pub(crate) fn build(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let (kernel, inputs) = match found.node(0)?.kernel().name {
        name if name == MATMUL.name => (&MATMUL_BIAS, 2),
        name if name == MATMUL_INT8.name => (&MATMUL_INT8_BIAS, 3),
        _ => return None,
    };
    let params = found.params::<Params>(0).filter(|params| params.tokens == 1)?;
    let (product, a, b) = (found.buffer(0, inputs)?, found.buffer(1, 0)?, found.buffer(1, 1)?);
    let residual = if product.is_same_view(&a) { b } else { a };
    // The sum of a product with itself has no residual.
    (!residual.is_same_view(&product)).then_some(())?;
    let dispatch = (0..inputs)
        .try_fold(Dispatch::new(kernel), |dispatch, at| Some(dispatch.buffer(&found.buffer(0, at)?)))?;
    let dispatch = dispatch.buffer(&residual).buffer(&found.buffer(1, 2)?);
    Some(dispatch.bytes(&params).grid([params.n, 1, 1]))
}
