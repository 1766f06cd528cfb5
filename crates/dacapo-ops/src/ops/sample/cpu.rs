//! The CPU twin of sampling.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};

use super::chain::{choose, penalize};
use super::{Params, SampleParams};

/// One tile, with a copy of the logits as scratch.
pub(super) fn plan<const COUNTS: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    CpuPlan::new(1, 1).split(COUNTS, Split::whole()).split(COUNTS + 1, Split::whole()).scratch(ctx.len(0))
}

fn run_with(tile: &Tile<'_>, bias: Option<&[f32]>, counts: usize) {
    let logits = tile.read::<f32>(0);
    let params: SampleParams = bytemuck::pod_read_unaligned(bytemuck::cast_slice(tile.read::<u32>(1)));
    let position = tile.read::<u32>(2)[0].wrapping_add(tile.params::<Params>().advance);
    let (mut count_block, mut token) = (tile.write::<u32>(counts), tile.write::<u32>(counts + 1));
    let counts = count_block.slice();
    let adjusted = &mut tile.scratch()[..logits.len()];
    adjusted.copy_from_slice(logits);
    if let Some(bias) = bias {
        adjusted.iter_mut().zip(bias).for_each(|(logit, bias)| *logit += bias);
    }
    penalize(&params, adjusted, counts);
    let chosen = choose(&params, adjusted, position);
    counts[chosen] = counts[chosen].saturating_add(1);
    token.slice()[0] = chosen as u32;
}

pub(super) fn run(tile: &Tile<'_>) {
    run_with(tile, None, 3);
}

pub(super) fn run_bias(tile: &Tile<'_>) {
    run_with(tile, Some(tile.read(3)), 4);
}
