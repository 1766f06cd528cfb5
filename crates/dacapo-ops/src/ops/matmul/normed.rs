//! Products of one token that begin with its RMSNorm and quantization: replacements from the
//! [table of fusions](crate::fusion) for devices on which doing that in every workgroup costs less than waiting for it
//! to have been done.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{Binding, Buffer, CpuTwin, Dispatch, FuseMatch, Kernel, OpKind};

use super::codes::META;
use super::product::{Rows, product, scratch_len};
use super::{MATMUL_INT8, MATMUL_INT8_BIAS, cpu, gpu};
use crate::ops::activation;
use crate::ops::quantize::cpu::quantize;
use crate::ops::rms_norm::{self, cpu::norm};
use crate::quant::panel::{BLOCK, Panels, ROWS};
use crate::simd::Level;

/// Values of a weight up to which every workgroup normalizes for itself: with more there are so many workgroups that
/// it costs more than a barrier.
const MOST_VALUES: u64 = 64 << 20;

/// Bytes on whose multiples activations begin.
const ALIGN: usize = 16;

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    pub product: super::Params,
    pub eps: f32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct GatedParams {
    pub product: super::Params,
    pub eps: f32,
    /// The activation's.
    pub function: u32,
}

/// `rms_norm_q8`, `matmul_int8`.
pub static RMS_NORM_MATMUL_INT8: Kernel = Kernel {
    name: "rms_norm_matmul_int8",
    kind: OpKind::Matmul,
    bindings: &[Binding::read("x"), Binding::read("norm"), Binding::read("weight"), Binding::write("y")],
    cpu: CpuTwin { plan: plan::<3>, run },
    gpu: Some(&gpu::NORMED),
};

/// `rms_norm_q8`, `matmul_int8_bias`.
pub static RMS_NORM_MATMUL_INT8_BIAS: Kernel = Kernel {
    name: "rms_norm_matmul_int8_bias",
    kind: OpKind::Matmul,
    bindings: &[
        Binding::read("x"),
        Binding::read("norm"),
        Binding::read("weight"),
        Binding::read("bias"),
        Binding::write("y"),
    ],
    cpu: CpuTwin { plan: plan::<4>, run: run_bias },
    gpu: Some(&gpu::NORMED_BIAS),
};

/// `rms_norm_q8`, `matmul_int8` twice, `gated_q8`.
pub static RMS_NORM_GATED_INT8: Kernel = Kernel {
    name: "rms_norm_gated_int8",
    kind: OpKind::Matmul,
    bindings: &[
        Binding::read("x"),
        Binding::read("norm"),
        Binding::read("gate"),
        Binding::read("up"),
        Binding::write("codes"),
        Binding::write("meta"),
    ],
    cpu: CpuTwin { plan: plan_gated, run: run_gated },
    gpu: Some(&gpu::GATED),
};

/// The input and the weight of the norm in step 0, if the product in `step` takes all of its output, of one token.
fn normed_input(
    found: &FuseMatch<'_>,
    step: usize,
) -> Option<(Buffer, Buffer, rms_norm::Params, super::Params)> {
    let (norm, product) = (found.params::<rms_norm::Params>(0)?, found.params::<super::Params>(step)?);
    let (x, weight) = (found.buffer(0, 0)?, found.buffer(0, 1)?);
    let same = found.buffer(0, 2)?.is_same_view(&found.buffer(step, 0)?)
        && found.buffer(0, 3)?.is_same_view(&found.buffer(step, 1)?);
    let aligned = [&x, &weight].iter().all(|buffer| buffer.byte_offset().is_multiple_of(ALIGN));
    let fits = product.tokens == 1 && norm.dim == product.k;
    (same && aligned && fits).then_some((x, weight, norm, product))
}

/// The replacement of `rms_norm_q8` and a product with it.
pub(crate) fn build(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let (kernel, inputs) = match found.node(1)?.kernel().name {
        name if name == MATMUL_INT8.name => (&RMS_NORM_MATMUL_INT8, 3),
        name if name == MATMUL_INT8_BIAS.name => (&RMS_NORM_MATMUL_INT8_BIAS, 4),
        _ => return None,
    };
    let (x, norm, about, product) = normed_input(found, 1)?;
    (u64::from(product.n) * u64::from(product.k) <= MOST_VALUES).then_some(())?;
    let dispatch = Dispatch::new(kernel).buffer(&x).buffer(&norm);
    let dispatch =
        (2..=inputs).try_fold(dispatch, |dispatch, at| Some(dispatch.buffer(&found.buffer(1, at)?)))?;
    Some(dispatch.bytes(&Params { product, eps: about.eps }).grid([product.n, 1, 1]))
}

/// The replacement of `rms_norm_q8`, both products of a gated MLP, `gated_q8`.
pub(crate) fn build_gated(found: &FuseMatch<'_>) -> Option<Dispatch> {
    let (x, norm, about, product) = normed_input(found, 1)?;
    let other = normed_input(found, 2)?.3;
    let activation = found.params::<activation::Params>(3)?;
    // Formats and shapes are the same, and blocks of the result are whole.
    (product == other && (product.n as usize).is_multiple_of(BLOCK)).then_some(())?;
    let (gate, up) = (found.buffer(3, 0)?, found.buffer(3, 1)?);
    let made = [found.buffer(1, 3)?, found.buffer(2, 3)?];
    let order = match () {
        () if gate.is_same_view(&made[0]) && up.is_same_view(&made[1]) => [1, 2],
        () if gate.is_same_view(&made[1]) && up.is_same_view(&made[0]) => [2, 1],
        () => return None,
    };
    let (codes, meta) = (found.buffer(3, 2)?, found.buffer(3, 3)?);
    let aligned = codes.byte_offset().is_multiple_of(4) && meta.byte_offset().is_multiple_of(ALIGN);
    aligned.then_some(())?;
    let dispatch = Dispatch::new(&RMS_NORM_GATED_INT8).buffer(&x).buffer(&norm);
    let dispatch = dispatch.buffer(&found.buffer(order[0], 2)?).buffer(&found.buffer(order[1], 2)?);
    let params = GatedParams { product, eps: about.eps, function: activation.function };
    Some(dispatch.buffer(&codes).buffer(&meta).bytes(&params).grid([product.n, 1, 1]))
}

/// f32 values of scratch for activations of `k` values: normalized, as codes, what is known of them.
fn own_len(k: usize) -> usize {
    k + k / 4 + k / BLOCK * META
}

/// The tile's input normalized and quantized, and the rest of its scratch.
fn own_activations<'a>(tile: &'a Tile<'_>, k: usize, eps: f32) -> (Rows<'a>, &'a mut [f32]) {
    let (normed, rest) = tile.scratch().split_at_mut(k);
    let (codes, rest) = rest.split_at_mut(k / 4);
    let (meta, rest) = rest.split_at_mut(k / BLOCK * META);
    let codes: &mut [i8] = bytemuck::cast_slice_mut(codes);
    norm(Level::best(), tile.read(0), Some(tile.read(1)), normed, k, eps);
    quantize(Level::best(), normed, codes, meta);
    (Rows::Int8 { codes, meta }, rest)
}

fn plan<const OUT: usize>(context: &PlanContext<'_>) -> CpuPlan {
    let Params { product, .. } = context.params();
    let (format, n, k) = (cpu::format(product), product.n as usize, product.k as usize);
    let [panels, _] = cpu::tile_shape(context, product, format, 1);
    CpuPlan::new(n.div_ceil(panels * ROWS), 1)
        .split(OUT, Split::block(n, 1, panels * ROWS))
        .scratch(own_len(k) + scratch_len(format, true, 1, k))
}

fn products(tile: &Tile<'_>, bias: Option<&[f32]>, out: usize) {
    let Params { product: about, eps } = tile.params();
    let (n, k) = (about.n as usize, about.k as usize);
    let panels = Panels::new(cpu::format(about), n, k, tile.read_bytes(2)).expect("the weight has its size");
    let (rows, scratch) = own_activations(tile, k, eps);
    let mut y = tile.write::<f32>(out);
    let (first, cols) = (y.first_col(), y.cols());
    let range = first / ROWS..(first + cols).div_ceil(ROWS);
    product(Level::best(), &panels, range, rows, 1, scratch, &mut |panel, sums| {
        let from = panel * ROWS - first;
        let y = &mut y.row(0)[from..(from + ROWS).min(cols)];
        y.copy_from_slice(&sums[..y.len()]);
        if let Some(bias) = bias {
            y.iter_mut().zip(&bias[panel * ROWS..]).for_each(|(y, b)| *y += b);
        }
    });
}

fn run(tile: &Tile<'_>) {
    products(tile, None, 3);
}

fn run_bias(tile: &Tile<'_>) {
    products(tile, Some(tile.read(3)), 4);
}

/// Rows of a tile of the gated MLP.
fn gated_rows(context: &PlanContext<'_>, n: usize) -> usize {
    context.chunk(n / BLOCK, 1, 1).max(1) * BLOCK
}

fn plan_gated(context: &PlanContext<'_>) -> CpuPlan {
    let GatedParams { product, .. } = context.params();
    let (format, n, k) = (cpu::format(product), product.n as usize, product.k as usize);
    let rows = gated_rows(context, n);
    CpuPlan::new(n.div_ceil(rows), 1)
        .split(4, Split::chunks(rows))
        .split(5, Split::chunks(rows / BLOCK * META))
        .scratch(own_len(k) + 3 * rows + scratch_len(format, true, 1, k))
}

fn run_gated(tile: &Tile<'_>) {
    let GatedParams { product: about, eps, function } = tile.params();
    let (n, k) = (about.n as usize, about.k as usize);
    let (mut codes, mut meta) = (tile.write::<i8>(4), tile.write::<f32>(5));
    let (first, codes) = (codes.first_col(), codes.slice());
    let (own, scratch) = own_activations(tile, k, eps);
    let (gate, rest) = scratch.split_at_mut(codes.len());
    let (up, rest) = rest.split_at_mut(codes.len());
    let (gated, scratch) = rest.split_at_mut(codes.len());
    for (weight, values) in [(2, &mut *gate), (3, &mut *up)] {
        let bytes = tile.read_bytes(weight);
        let panels = Panels::new(cpu::format(about), n, k, bytes).expect("the weight has its size");
        let range = first / ROWS..(first + values.len()) / ROWS;
        product(Level::best(), &panels, range, own, 1, scratch, &mut |panel, sums| {
            values[panel * ROWS - first..][..ROWS].copy_from_slice(sums);
        });
    }
    let function = activation::Params { function }.function();
    activation::cpu::apply(Level::best(), function, gate, Some(up), gated);
    quantize(Level::best(), gated, codes, meta.slice());
}
