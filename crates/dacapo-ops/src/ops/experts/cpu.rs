//! CPU twins: tiles of some panels, of one row or of all.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile, TileMut};

use super::Params;
use super::weight::panels_of;
use crate::ops::matmul::codes::META;
use crate::ops::matmul::many;
use crate::ops::matmul::product::{Rows, product, scratch_len};
use crate::quant::panel::{BLOCK, PanelFormat, Panels, ROWS};
use crate::simd::Level;

/// Fewest bytes of weights in a tile, below which handing out tiles costs more than it balances.
const TILE_BYTES: usize = 64 << 10;

/// Fewest panels in a tile of many rows, below which packing their activations costs too much.
const FEWEST_PANELS: usize = 16;

/// Most rows of an expert that are packed at a time: they stay in the second-level cache while panels pass.
const MOST_ROWS: usize = 64;

impl Params {
    fn format(&self) -> PanelFormat {
        PanelFormat::decode(self.format).expect("the entry point encodes a format")
    }

    fn panels<'a>(&self, expert: u32, weight: &'a [u8]) -> Panels<'a> {
        let expert = expert.min(self.experts - 1) as usize;
        panels_of(self.format(), self.n as usize, self.k as usize, expert, weight)
            .expect("the entry point checks the weight's size")
    }
}

/// `OUT` is the index of the output binding.
pub(super) fn plan_few<const INT8: bool, const OUT: usize>(context: &PlanContext<'_>) -> CpuPlan {
    let params: Params = context.params();
    let (n, k, rows) = (params.n as usize, params.k as usize, params.rows as usize);
    let panels = n.div_ceil(ROWS);
    let fewest = (TILE_BYTES / params.format().panel_bytes(k).max(1)).clamp(1, panels);
    let fair = context.chunk(panels * rows, 1, 1).min(panels);
    let of_tile = context.chunk(panels * rows, 1, 8).max(fewest.min(fair)).min(panels);
    CpuPlan::new(panels.div_ceil(of_tile), rows)
        .split(OUT, Split::block(n, 1, of_tile * ROWS))
        .scratch(scratch_len(params.format(), INT8, 1, k))
}

/// As [`plan_few`]: a tile has some columns of all rows, so that an expert's panels there pass once for all of its rows.
pub(super) fn plan_grouped<const INT8: bool, const OUT: usize>(context: &PlanContext<'_>) -> CpuPlan {
    let params: Params = context.params();
    let (n, k, rows) = (params.n as usize, params.k as usize, params.rows as usize);
    let panels = n.div_ceil(ROWS);
    let fair = context.chunk(panels, many::PANELS, 1).min(panels.next_multiple_of(many::PANELS));
    let of_tile = context.chunk(panels, many::PANELS, 4).max(FEWEST_PANELS.min(fair)).min(fair);
    let most = rows.min(MOST_ROWS);
    let gathered = if INT8 { most * k / 4 + most * k / BLOCK * META } else { most * k };
    CpuPlan::new(panels.div_ceil(of_tile), 1)
        .split(OUT, Split::block(n, rows, of_tile * ROWS))
        .scratch(gathered + scratch_len(params.format(), INT8, most, k))
}

/// All activations of a dispatch.
#[derive(Clone, Copy)]
enum Activations<'a> {
    Exact(&'a [f32]),
    Int8(&'a [i8], &'a [f32]),
}

impl<'a> Activations<'a> {
    fn row(self, row: usize, k: usize) -> Rows<'a> {
        let blocks = k / BLOCK * META;
        match self {
            Activations::Exact(x) => Rows::Exact(&x[row * k..][..k]),
            Activations::Int8(codes, meta) => {
                Rows::Int8 { codes: &codes[row * k..][..k], meta: &meta[row * blocks..][..blocks] }
            }
        }
    }

    /// Some rows side by side, in the front of `room`, and what is left of it.
    fn gather<'b>(
        self,
        rows: impl Iterator<Item = usize> + Clone,
        k: usize,
        room: &'b mut [f32],
    ) -> (Rows<'b>, &'b mut [f32]) {
        let (count, blocks) = (rows.clone().count(), k / BLOCK * META);
        match self {
            Activations::Exact(x) => {
                let (to, rest) = room.split_at_mut(count * k);
                to.chunks_exact_mut(k).zip(rows).for_each(|(to, row)| to.copy_from_slice(&x[row * k..][..k]));
                (Rows::Exact(to), rest)
            }
            Activations::Int8(codes, meta) => {
                let (to, rest) = room.split_at_mut(count * k / 4);
                let (to_meta, rest) = rest.split_at_mut(count * blocks);
                let to: &mut [i8] = bytemuck::cast_slice_mut(to);
                let pairs = to.chunks_exact_mut(k).zip(to_meta.chunks_exact_mut(blocks));
                for ((to, to_meta), row) in pairs.zip(rows) {
                    to.copy_from_slice(&codes[row * k..][..k]);
                    to_meta.copy_from_slice(&meta[row * blocks..][..blocks]);
                }
                (Rows::Int8 { codes: to, meta: to_meta }, rest)
            }
        }
    }
}

/// Panels of a tile's columns.
fn range_of(y: &TileMut<'_, f32>) -> std::ops::Range<usize> {
    y.first_col() / ROWS..(y.first_col() + y.cols()).div_ceil(ROWS)
}

/// Puts a panel's sums into a row of the tile.
fn put(y: &mut TileMut<'_, f32>, row: usize, panel: usize, sums: &[f32]) {
    let from = panel * ROWS - y.first_col();
    let to = (from + ROWS).min(y.cols());
    y.row(row)[from..to].copy_from_slice(&sums[..to - from]);
}

fn few(tile: &Tile<'_>, x: Activations<'_>, weight: usize) {
    let params: Params = tile.params();
    let (mut y, k) = (tile.write::<f32>(weight + 2), params.k as usize);
    let row = y.first_row();
    let panels = params.panels(tile.read::<u32>(weight + 1)[row], tile.read_bytes(weight));
    let (range, rows) = (range_of(&y), x.row(row / params.per as usize, k));
    product(Level::best(), &panels, range, rows, 1, tile.scratch(), &mut |panel, sums| {
        put(&mut y, 0, panel, sums);
    });
}

fn grouped(tile: &Tile<'_>, x: Activations<'_>, weight: usize) {
    let params: Params = tile.params();
    let (mut y, k) = (tile.write::<f32>(weight + 3), params.k as usize);
    let (order, starts) = (tile.read::<u32>(weight + 1), tile.read::<u32>(weight + 2));
    let (bytes, range, scratch) = (tile.read_bytes(weight), range_of(&y), tile.scratch());
    for (expert, ends) in starts.windows(2).enumerate() {
        let rows = order.get(ends[0] as usize..ends[1] as usize).unwrap_or_default();
        if rows.is_empty() {
            continue;
        }
        let panels = params.panels(expert as u32, bytes);
        let of_piece = rows.len().div_ceil(rows.len().div_ceil(MOST_ROWS));
        for rows in rows.chunks(of_piece) {
            let sources = rows.iter().map(|&row| (row / params.per) as usize);
            let (gathered, scratch) = x.gather(sources, k, scratch);
            let range = range.clone();
            product(Level::best(), &panels, range, gathered, rows.len(), scratch, &mut |panel, sums| {
                for (&row, sums) in rows.iter().zip(sums.chunks_exact(ROWS)) {
                    put(&mut y, row as usize, panel, sums);
                }
            });
        }
    }
}

pub(super) fn few_exact(tile: &Tile<'_>) {
    few(tile, Activations::Exact(tile.read(0)), 1);
}

pub(super) fn few_int8(tile: &Tile<'_>) {
    few(tile, Activations::Int8(tile.read(0), tile.read(1)), 2);
}

pub(super) fn grouped_exact(tile: &Tile<'_>) {
    grouped(tile, Activations::Exact(tile.read(0)), 1);
}

pub(super) fn grouped_int8(tile: &Tile<'_>) {
    grouped(tile, Activations::Int8(tile.read(0), tile.read(1)), 2);
}
