//! The CPU twin of the cache write.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{DType, Element};
use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Params;

/// One tile for each head: its slots lie together.
pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let slots = p.capacity as usize;
    CpuPlan::new(1, p.heads as usize)
        .split(3, Split::rows(slots * p.key_dim as usize, 1))
        .split(4, Split::rows(slots * p.value_dim as usize, 1))
}

/// Copies the rows of `head` in `source` `[T, heads, dim]` into slots `(position + t) % slots` of `cache`.
pub(crate) fn write_head<C>(
    source: &[f32],
    cache: &mut [C],
    (head, heads, dim): (usize, usize, usize),
    position: usize,
    convert: impl Fn(&[f32], &mut [C]),
) {
    if dim == 0 {
        return;
    }
    let slots = cache.len() / dim;
    for (t, token) in source.chunks_exact(heads * dim).enumerate() {
        let slot = (position + t) % slots;
        convert(&token[head * dim..][..dim], &mut cache[slot * dim..][..dim]);
    }
}

fn run_as<C: Element>(tile: &Tile<'_>, convert: impl Fn(&[f32], &mut [C])) {
    let p: Params = tile.params();
    let heads = p.heads as usize;
    let position = tile.read::<u32>(2)[0] as usize;
    for (input, output, dim) in [(0, 3, p.key_dim), (1, 4, p.value_dim)] {
        let layout = (tile.y(), heads, dim as usize);
        write_head(tile.read(input), tile.write::<C>(output).slice(), layout, position, &convert);
    }
}

pub(super) fn run(tile: &Tile<'_>) {
    if tile.dtype(3) == DType::F16 {
        run_as::<f16>(tile, |from, to| to.convert_from_f32_slice(from));
    } else {
        run_as::<f32>(tile, |from, to| to.copy_from_slice(from));
    }
}
