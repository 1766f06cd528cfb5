//! Products of some panels with some tokens: what one tile of a dispatch computes.

use std::ops::Range;

use super::codes::{META, unpack_panel};
use super::many::{self, Packed};
use super::scales::{self, Layout};
use super::{dense, exact, one, pack};
use crate::quant::panel::{BLOCK, PanelFormat, Panels, ROWS, Scales};
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
    /// Codes as bytes.
    bytes: usize,
    /// Activations as the loops read them.
    packed: usize,
    sums: usize,
}

impl Parts {
    fn new(format: PanelFormat, int8: bool, tokens: usize, k: usize) -> Self {
        let acc = tokens * ROWS;
        let len = k.min(CHUNK);
        // One token needs no packing.
        let packed = if tokens == 1 { 0 } else { tokens * k };
        match format {
            PanelFormat::Dense(_) => Parts { acc, scales: 0, bytes: 0, packed, sums: 0 },
            PanelFormat::Quantized { scales, .. } if !int8 => {
                let sums = 2 * tokens * (k / scales.step());
                Parts { acc, scales: Layout::Steps.len(scales, len), bytes: 0, packed, sums }
            }
            PanelFormat::Quantized { scales, .. } => {
                let spans = Layout::Spans.len(scales, len);
                if tokens == 1 {
                    return Parts { acc, scales: spans, bytes: 0, packed: 0, sums: 0 };
                }
                let panels = many::PANELS;
                Parts {
                    acc: panels * acc,
                    scales: panels * spans,
                    bytes: panels * ROWS * len / 4,
                    packed: Packed::len(scales, tokens, k),
                    sums: 0,
                }
            }
        }
    }
}

/// f32 values of scratch that [`product`] needs for this many tokens.
pub fn scratch_len(format: PanelFormat, int8: bool, tokens: usize, k: usize) -> usize {
    let Parts { acc, scales, bytes, packed, sums } = Parts::new(format, int8, tokens, k);
    acc + scales + bytes + packed + sums
}

/// Multiplies the rows of `range` (panels) with the activations of `tokens` tokens. `emit(panel, sums)` gets
/// `[tokens, 16]` sums at a time, those of rows past the matrix's end being zero. `scratch` is [`scratch_len`] long.
///
/// Panics if lengths do not fit, if int8 activations meet dense weights, or if the processor lacks the level.
pub fn product(
    level: Level,
    panels: &Panels<'_>,
    range: Range<usize>,
    rows: Rows<'_>,
    tokens: usize,
    scratch: &mut [f32],
    emit: &mut dyn FnMut(usize, &[f32]),
) {
    let k = panels.k();
    let parts = Parts::new(panels.format(), matches!(rows, Rows::Int8 { .. }), tokens, k);
    let (acc, scratch) = scratch.split_at_mut(parts.acc);
    let (expanded, scratch) = scratch.split_at_mut(parts.scales);
    let (bytes, scratch) = scratch.split_at_mut(parts.bytes);
    let (packed, scratch) = scratch.split_at_mut(parts.packed);
    let sums = &mut scratch[..parts.sums];
    match (panels.format(), rows) {
        (PanelFormat::Dense(float), Rows::Exact(x)) => {
            let x = pack_exact(level, &x[..tokens * k], tokens, packed);
            for panel in range {
                dense::run(level, float, panels.panel(panel).0, x, k, acc);
                emit(panel, acc);
            }
        }
        (PanelFormat::Dense(_), Rows::Int8 { .. }) => panic!("dense weights take exact activations"),
        (PanelFormat::Quantized { bits, scales }, Rows::Exact(x)) => {
            let input = pack_sums(level, scales, &x[..tokens * k], tokens, packed, sums);
            for panel in range {
                acc.fill(0.0);
                exact_panel(level, (bits, scales), panels, panel, input, expanded, acc);
                emit(panel, acc);
            }
        }
        (PanelFormat::Quantized { bits, scales }, Rows::Int8 { codes, meta }) if tokens == 1 => {
            for panel in range.clone() {
                let mut acc = [0.0; ROWS];
                let next = (panel + 1).min(range.end - 1);
                let two = (panels.panel(panel), panels.panel(next));
                one_panel(level, (bits, scales), two, (&codes[..k], meta), expanded, &mut acc);
                emit(panel, &acc);
            }
        }
        (PanelFormat::Quantized { bits, scales }, Rows::Int8 { codes, meta }) => {
            let input = Packed::new(level, scales, (&codes[..tokens * k], meta), tokens, packed);
            let bytes = bytemuck::cast_slice_mut(bytes);
            for first in range.clone().step_by(many::PANELS) {
                let some = first..(first + many::PANELS).min(range.end);
                let acc = &mut acc[..some.len() * tokens * ROWS];
                acc.fill(0.0);
                many_panels(level, (bits, scales), panels, some.clone(), input, (bytes, expanded), acc);
                for (panel, acc) in some.zip(acc.chunks_exact(tokens * ROWS)) {
                    emit(panel, acc);
                }
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

/// Exact activations with their sums. `packed` and `sums` are the scratch's parts.
fn pack_sums<'a>(
    level: Level,
    scales: Scales,
    x: &'a [f32],
    tokens: usize,
    packed: &'a mut [f32],
    sums: &'a mut [f32],
) -> exact::Input<'a> {
    let (plain, sums) = sums.split_at_mut(x.len() / scales.step());
    scales::sums(x, scales.step(), plain);
    pack::interleave::<f32, 1>(plain, tokens, pack::most(level), sums);
    exact::Input { x: pack_exact(level, x, tokens, packed), sums }
}

/// Ranges of k that are worked on at a time.
fn chunks(k: usize) -> impl Iterator<Item = Range<usize>> {
    (0..k).step_by(CHUNK).map(move |first| first..(first + CHUNK).min(k))
}

/// Bits of a code, and what turns codes into values.
type Codes = (u8, Scales);

/// Codes and scales of a panel.
type Panel<'a> = (&'a [u8], &'a [u8]);

/// A panel's codes over a range of k, its scales there being expanded into the front of `to`.
fn codes_of<'a>(
    level: Level,
    (bits, scales): Codes,
    layout: Layout,
    panel: Panel<'a>,
    range: &Range<usize>,
    to: &mut [f32],
) -> &'a [u8] {
    let units = &panel.1[scales.bytes_before(range.start)..];
    scales::expand(level, scales, layout, units, &mut to[..layout.len(scales, range.len())]);
    let block = 64 * bits as usize;
    &panel.0[range.start / BLOCK * block..range.end / BLOCK * block]
}

/// Adds one panel's products with exact activations.
fn exact_panel(
    level: Level,
    (bits, scales): Codes,
    panels: &Panels<'_>,
    panel: usize,
    input: exact::Input<'_>,
    expanded: &mut [f32],
    acc: &mut [f32],
) {
    let k = panels.k();
    for range in chunks(k) {
        let codes = codes_of(level, (bits, scales), Layout::Steps, panels.panel(panel), &range, expanded);
        let (first, blocks) = (range.start, range.len() / BLOCK);
        let mut chunk = exact::Chunk { codes, scales: expanded, blocks, first, k, acc: &mut *acc };
        exact::run(level, bits, scales.step(), &mut chunk, input);
    }
}

/// Adds one panel's products with one token's int8 activations; `next` is the panel that will be read after it.
fn one_panel(
    level: Level,
    (bits, scales): Codes,
    (panel, next): (Panel<'_>, Panel<'_>),
    (q, meta): (&[i8], &[f32]),
    expanded: &mut [f32],
    acc: &mut [f32; ROWS],
) {
    for range in chunks(q.len()) {
        let codes = codes_of(level, (bits, scales), Layout::Spans, panel, &range, expanded);
        let (rest, of) = if range.end < q.len() { (range.end, panel) } else { (0, next) };
        let until = (rest + CHUNK).min(q.len());
        let next = one::Next {
            codes: &of.0[rest / BLOCK * 64 * bits as usize..],
            scales: &of.1[scales.bytes_before(rest)..scales.bytes_before(until)],
        };
        let meta = &meta[range.start / BLOCK * META..];
        let mut chunk = one::Chunk { codes, scales: expanded, q: &q[range], meta, acc: &mut *acc, next };
        one::run(level, bits, scales, &mut chunk);
    }
}

/// Adds the products of one panel or two with several tokens' int8 activations.
fn many_panels(
    level: Level,
    (bits, scales): Codes,
    panels: &Panels<'_>,
    some: Range<usize>,
    input: Packed<'_>,
    (bytes, expanded): (&mut [u8], &mut [f32]),
    acc: &mut [f32],
) {
    for range in chunks(panels.k()) {
        let (first, len) = (range.start, range.len());
        let (per_panel, spans) = (len * ROWS, Layout::Spans.len(scales, len));
        let (bytes, expanded) = (&mut bytes[..some.len() * per_panel], &mut expanded[..some.len() * spans]);
        let parts = bytes.chunks_exact_mut(per_panel).zip(expanded.chunks_exact_mut(spans));
        for (panel, (bytes, expanded)) in some.clone().zip(parts) {
            let panel = panels.panel(panel);
            let codes = codes_of(level, (bits, scales), Layout::Spans, panel, &range, expanded);
            unpack_panel(level, bits, codes, bytes);
        }
        let mut chunk = many::Chunk { bytes, scales: expanded, first, len, acc: &mut *acc };
        many::run(level, bits, scales, &mut chunk, input);
    }
}
