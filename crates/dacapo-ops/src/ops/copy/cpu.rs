//! The CPU twin of copy.

use dacapo::cpu::{CpuPlan, PlanContext, Tile};
use dacapo::{DType, Element};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::check::plan_elements;

pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    plan_elements(ctx, 1)
}

/// Hands the tile's part of input and output to `f`.
fn convert<A: Element, B: Element>(tile: &Tile<'_>, f: impl Fn(&[A], &mut [B])) {
    let mut block = tile.write::<B>(1);
    let start = block.first_col();
    let out = block.slice();
    f(&tile.read::<A>(0)[start..][..out.len()], out);
}

fn same<A: Element>(tile: &Tile<'_>) {
    convert::<A, A>(tile, |x, out| out.copy_from_slice(x));
}

pub(super) fn run(tile: &Tile<'_>) {
    use DType::{BF16, F16, F32, I8, I16, I32, U8, U16, U32};
    match (tile.dtype(0), tile.dtype(1)) {
        (F32, F16) => convert::<f32, f16>(tile, |x, out| out.convert_from_f32_slice(x)),
        (F32, BF16) => convert::<f32, bf16>(tile, |x, out| out.convert_from_f32_slice(x)),
        (F16, F32) => convert::<f16, f32>(tile, |x, out| x.convert_to_f32_slice(out)),
        (BF16, F32) => convert::<bf16, f32>(tile, |x, out| x.convert_to_f32_slice(out)),
        (F16, BF16) => convert::<f16, bf16>(tile, |x, out| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = bf16::from_f32(x.to_f32()));
        }),
        (BF16, F16) => convert::<bf16, f16>(tile, |x, out| {
            out.iter_mut().zip(x).for_each(|(out, x)| *out = f16::from_f32(x.to_f32()));
        }),
        (F32, _) => same::<f32>(tile),
        (F16, _) => same::<f16>(tile),
        (BF16, _) => same::<bf16>(tile),
        (I8, _) => same::<i8>(tile),
        (U8, _) => same::<u8>(tile),
        (I16, _) => same::<i16>(tile),
        (U16, _) => same::<u16>(tile),
        (I32, _) => same::<i32>(tile),
        (U32, _) => same::<u32>(tile),
    }
}
