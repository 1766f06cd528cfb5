//! Products of some panels with some tokens: what one tile of a dispatch computes.

use std::ops::Range;

use super::codes::{self, Chunk, Input};
use super::{dense, scales};
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

/// f32 values of scratch that [`product`] needs for this many tokens.
pub fn scratch_len(format: PanelFormat, tokens: usize, k: usize) -> usize {
    match format {
        PanelFormat::Dense(_) => tokens * ROWS,
        PanelFormat::Quantized { scales, .. } => {
            let step = scales.step();
            tokens * ROWS + k.min(CHUNK) / step * 2 * ROWS + tokens * (k / step)
        }
    }
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
    let (acc, scratch) = scratch.split_at_mut(tokens * ROWS);
    let k = panels.k();
    match (panels.format(), rows) {
        (PanelFormat::Dense(float), Rows::Exact(x)) => {
            for panel in range {
                dense::run(level, float, panels.panel(panel).0, x, k, acc);
                emit_all(panel, acc, emit);
            }
        }
        (PanelFormat::Dense(_), Rows::Int8 { .. }) => panic!("dense weights take exact activations"),
        (PanelFormat::Quantized { scales, .. }, rows) => {
            let step = scales.step();
            let (expanded, sums) = scratch.split_at_mut(k.min(CHUNK) / step * 2 * ROWS);
            let input = match rows {
                Rows::Exact(x) => {
                    let sums = &mut sums[..tokens * (k / step)];
                    scales::sums(&x[..tokens * k], step, sums);
                    Input::Exact { x, sums }
                }
                Rows::Int8 { codes, meta } => Input::Int8 { codes, meta },
            };
            for panel in range {
                acc.fill(0.0);
                quantized_panel(level, panels, panel, input, expanded, acc);
                emit_all(panel, acc, emit);
            }
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
