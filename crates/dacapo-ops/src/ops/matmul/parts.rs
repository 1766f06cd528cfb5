//! Products with weights that are larger than what a device binds at once: some rows at a time.

use dacapo::{Buffer, CommandEncoder, DType, Result};

use super::whole;
use crate::ops::place::{place, place_first};
use crate::ops::quantize::Activation;
use crate::weight::Weight;

/// The product, `rows` of the weight at a time.
pub(super) fn matmul(
    enc: &mut CommandEncoder,
    x: &Activation,
    weight: &Weight,
    rows: usize,
    bias: Option<&Buffer>,
    out: &Buffer,
) -> Result<()> {
    let n = weight.n();
    let tokens = out.len() / n;
    for first in (0..n).step_by(rows) {
        let part = weight.rows(first, rows)?;
        let bias = bias.map(|bias| bias.slice_view(first, &[part.n()])).transpose()?;
        if tokens == 1 {
            whole(enc, x, &part, bias.as_ref(), &out.slice_view(first, &[part.n()])?)?;
            continue;
        }
        let (device, shape) = (enc.device(), [tokens, part.n()]);
        // Outside of a graph there are no values without memory of their own.
        let columns = if enc.is_capturing() {
            device.transient(DType::F32, &shape)
        } else {
            device.alloc(DType::F32, &shape)
        }?;
        whole(enc, x, &part, bias.as_ref(), &columns)?;
        let out = out.reshape(&[tokens, n])?;
        // The first writes everything: the result may be a value that nobody has written yet.
        if first == 0 {
            place_first(enc, &columns, &out)?;
        } else {
            place(enc, &columns, &out, first)?;
        }
    }
    Ok(())
}
