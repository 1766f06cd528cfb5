//! Products of some panels with some tokens: what one tile of a dispatch computes.

use std::ops::Range;

use super::codes::{self, Chunk, Input, META};
use super::{dense, pack, scales};
use crate::quant::panel::{BLOCK, PanelFormat, Panels, ROWS};
use crate::simd::Level;

/// Values along k that are worked on at a time, a multiple of every format's unit: codes, scales and activations of a
/// chunk stay in the first-level cache while all tokens pass.
const CHUNK: usize = 2048;

/// Activations of some tokens, whole rows.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// `[tokens, k]`, used as they are.
    Exact(&'a [f32]),
    /// Quantized to int8 by [`super::super::quantize`]; only for quantized weights.
    Int8 {
        /// `[tokens, k]`.
        codes: &'a [i8],
        /// `[tokens, k / 32, 4]`.
        meta: &'a [f32],
    },
}

/// Lengths of the parts of a product's scratch, in f32 values.
struct Parts {
    acc: usize,
    scales: usize,
    packed: usize,
    sums: usize,
}

impl Parts {
    fn new(format: PanelFormat, int8: bool, tokens: usize, k: usize) -> Self {
        // One token needs no packing.
        let packed = if tokens == 1 { 0 } else { tokens * k };
        let acc = tokens * ROWS;
        match format {
            PanelFormat::Dense(_) => Parts { acc, scales: 0, packed, sums: 0 },
            PanelFormat::Quantized { scales, .. } => {
                let step = scales.step();
                let scales = k.min(CHUNK) / step * 2 * ROWS;
                match int8 {
                    true => Parts { acc, scales, packed: packed / 4, sums: packed / BLOCK * META },
                    false => Parts { acc, scales, packed, sums: 2 * tokens * (k / step) },
                }
            }
        }
    }
}

/// f32 values of scratch that [`product`] needs for this many tokens.
pub fn scratch_len(format: PanelFormat, int8: bool, tokens: usize, k: usize) -> usize {
    let Parts { acc, scales, packed, sums } = Parts::new(format, int8, tokens, k);
    acc + scales + packed + sums
}

/// Multiplies the rows of `range` (panels) with the activations of `tokens` tokens. `emit(panel, token, sums)` gets 16
/// sums at a time, those of rows past the matrix's end being zero. `scratch` is [`scratch_len`] long.
///
/// Panics if lengths do not fit, if int8 activations meet dense weights, or if the processor lacks the level.
pub fn product(
    level: Level,
    panels: &Panels<'_>,
    range: Range<usize>,
    rows: Rows<'_>,
    tokens: usize,
    scratch: &mut [f32],
    emit: &mut dyn FnMut(usize, usize, &[f32]),
) {
    let k = panels.k();
    let parts = Parts::new(panels.format(), matches!(rows, Rows::Int8 { .. }), tokens, k);
    let (acc, scratch) = scratch.split_at_mut(parts.acc);
    let (expanded, scratch) = scratch.split_at_mut(parts.scales);
    let (packed, scratch) = scratch.split_at_mut(parts.packed);
    let sums = &mut scratch[..parts.sums];
    match (panels.format(), rows) {
        (PanelFormat::Dense(float), Rows::Exact(x)) => {
            let x = pack_exact(level, &x[..tokens * k], tokens, packed);
            for panel in range {
                dense::run(level, float, panels.panel(panel).0, x, k, acc);
                emit_all(panel, acc, emit);
            }
        }
        (PanelFormat::Dense(_), Rows::Int8 { .. }) => panic!("dense weights take exact activations"),
        (PanelFormat::Quantized { scales, .. }, rows) => {
            let input = pack_input(level, rows, tokens, k, scales.step(), packed, sums);
            for panel in range {
                acc.fill(0.0);
                quantized_panel(level, panels, panel, input, expanded, acc);
                emit_all(panel, acc, emit);
            }
        }
    }
}

/// Exact activations, packed unless there is but one token.
fn pack_exact<'a>(level: Level, x: &'a [f32], tokens: usize, packed: &'a mut [f32]) -> &'a [f32] {
    if tokens == 1 {
        return x;
    }
    pack::interleave::<f32, 1>(x, tokens, pack::most(level), packed);
    packed
}

/// Activations as the loops over quantized panels read them. `packed` and `sums` are the scratch's parts.
fn pack_input<'a>(
    level: Level,
    rows: Rows<'a>,
    tokens: usize,
    k: usize,
    step: usize,
    packed: &'a mut [f32],
    sums: &'a mut [f32],
) -> Input<'a> {
    let most = pack::most(level);
    match rows {
        Rows::Exact(x) => {
            let x = &x[..tokens * k];
            let (plain, sums) = sums.split_at_mut(tokens * (k / step));
            scales::sums(x, step, plain);
            pack::interleave::<f32, 1>(plain, tokens, most, sums);
            Input::Exact { x: pack_exact(level, x, tokens, packed), sums }
        }
        Rows::Int8 { codes, meta } if tokens == 1 => Input::Int8 { codes, meta },
        Rows::Int8 { codes, meta } => {
            let packed: &mut [i8] = bytemuck::cast_slice_mut(packed);
            pack::interleave::<i8, BLOCK>(&codes[..tokens * k], tokens, most, packed);
            pack::interleave::<f32, META>(&meta[..tokens * (k / BLOCK) * META], tokens, most, sums);
            Input::Int8 { codes: packed, meta: sums }
        }
    }
}

fn emit_all(panel: usize, acc: &[f32], emit: &mut dyn FnMut(usize, usize, &[f32])) {
    for (token, sums) in acc.chunks_exact(ROWS).enumerate() {
        emit(panel, token, sums);
    }
}

/// Adds one panel's products, chunk by chunk.
fn quantized_panel(
    level: Level,
    panels: &Panels<'_>,
    panel: usize,
    input: Input<'_>,
    expanded: &mut [f32],
    acc: &mut [f32],
) {
    let PanelFormat::Quantized { bits, scales } = panels.format() else { return };
    let (codes, scale_bytes) = panels.panel(panel);
    let (k, block_bytes) = (panels.k(), 64 * bits as usize);
    for first in (0..k).step_by(CHUNK) {
        let len = CHUNK.min(k - first);
        let units = &scale_bytes[first / scales.unit() * scales.unit_bytes()..];
        let expanded = &mut expanded[..len / scales.step() * 2 * ROWS];
        scales::expand(level, scales, units, expanded);
        let mut chunk = Chunk {
            codes: &codes[first / BLOCK * block_bytes..(first + len) / BLOCK * block_bytes],
            scales: expanded,
            blocks: len / BLOCK,
            first,
            k,
            acc: &mut *acc,
        };
        codes::run(level, bits, scales.step(), &mut chunk, input);
    }
}
