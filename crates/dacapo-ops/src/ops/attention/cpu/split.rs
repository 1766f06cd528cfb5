//! The CPU twins of split attention.
//!
//! A tile computes some of the parts for the heads that share one of the cache's. A recorded graph has as many tiles as the
//! cache may need; so that all of them have work however few positions there are, parts go round among them.

use dacapo::DType;
use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use half::f16;

use super::super::split::{row_len, tiles_of_head};
use super::one::State;
use super::{Cache, KvElement, Params, Queries, Shape, one};
use crate::ops::matmul::codes::META;
use crate::ops::quantize::cpu::quantize;
use crate::quant::panel::BLOCK;
use crate::simd::Level;

/// Which part is where: tile `i` of `tiles` holds parts i, i + tiles and so on, `each` at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    tiles: usize,
    each: usize,
}

impl Layout {
    pub fn new(p: &Params) -> Self {
        let tiles = tiles_of_head(p);
        Layout { tiles, each: p.splits as usize / tiles }
    }

    /// Most parts.
    pub fn parts(self) -> usize {
        self.tiles * self.each
    }

    /// The row of a part.
    pub fn row(self, part: usize) -> usize {
        part % self.tiles * self.each + part / self.tiles
    }
}

fn shape(tile: &Tile<'_>, p: &Params, step: usize) -> Shape {
    Shape::new(p, tile.read::<u32>(step)[0] as usize)
}

/// Tiles for each token and head of the cache.
pub(in super::super) fn plan_part(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let (layout, group) = (Layout::new(&p), (p.heads / p.kv_heads) as usize);
    let split = Split::block(p.splits as usize * row_len(&p), group, layout.each * row_len(&p));
    CpuPlan::new(layout.tiles, (p.tokens * p.kv_heads) as usize).split(4, split).scratch(one::scratch(
        group,
        p.key_dim as usize,
        p.value_dim as usize,
    ))
}

pub(in super::super) fn run_part(tile: &Tile<'_>) {
    if tile.dtype(1) == DType::F16 { part::<f16>(tile) } else { part::<f32>(tile) }
}

fn part<E: KvElement>(tile: &Tile<'_>) {
    let p: Params = tile.params();
    let (shape, layout) = (shape(tile, &p, 3), Layout::new(&p));
    let (token, kv_head) = (tile.y() / p.kv_heads as usize, tile.y() % p.kv_heads as usize);
    let cache = Cache::<E>::of_head((tile.read(1), tile.read(2)), &shape, kv_head);
    let first_head = kv_head * shape.group;
    let queries = Queries { q: tile.read(0), first_head, first: token, count: 1, sinks: None };
    let (scratch, mut found) = (tile.scratch(), tile.write::<f32>(4));
    let ranges = shape.parts(token, layout.parts()).skip(tile.x()).step_by(layout.tiles);
    for (i, range) in ranges.enumerate() {
        let at = i * row_len(&p);
        E::part(Level::best(), &shape, queries, cache, range, scratch, &mut |g, state, values| {
            write_row(&mut found.row(g)[at..], state, values);
        });
    }
}

fn write_row(row: &mut [f32], state: State, values: &[f32]) {
    (row[0], row[1]) = (state.max, state.sum);
    row[4..][..values.len()].copy_from_slice(values);
}

/// The rows of one query's heads that share one of the cache's, `[G, splits, row_len]`.
pub(super) fn parts_of_heads<E: KvElement>(
    p: &Params,
    shape: &Shape,
    queries: Queries<'_>,
    cache: Cache<'_, E>,
    scratch: &mut [f32],
    found: &mut [f32],
) {
    let (layout, len) = (Layout::new(p), row_len(p));
    for (part, range) in shape.parts(queries.first, layout.parts()).enumerate() {
        E::part(Level::best(), shape, queries, cache, range, scratch, &mut |g, state, values| {
            write_row(&mut found[(g * p.splits as usize + layout.row(part)) * len..][..len], state, values);
        });
    }
}

/// A tile for each token and head.
fn plan(p: &Params, output: usize, row: usize) -> CpuPlan {
    let heads = p.heads as usize;
    CpuPlan::new(heads, p.tokens as usize).split(output, Split::block(heads * row, 1, row))
}

pub(in super::super) fn plan_combine<const OUT: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    plan(&p, OUT, p.value_dim as usize)
}

pub(in super::super) fn run_combine(tile: &Tile<'_>) {
    combine(tile, None, tile.write::<f32>(2).row(0));
}

pub(in super::super) fn run_combine_sinks(tile: &Tile<'_>) {
    let sink = tile.read::<f32>(2)[tile.x()];
    combine(tile, Some(sink), tile.write::<f32>(3).row(0));
}

/// `attention_combine` of a head, then `quantize_q8`.
pub(in super::super) fn run_combine_q8(tile: &Tile<'_>) {
    let out = &mut tile.scratch()[..tile.params::<Params>().value_dim as usize];
    combine(tile, None, out);
    let (mut codes, mut meta) = (tile.write::<i8>(2), tile.write::<f32>(3));
    quantize(Level::best(), out, codes.row(0), meta.row(0));
}

pub(in super::super) fn plan_combine_q8(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let (dim, heads) = (p.value_dim as usize, p.heads as usize);
    let about = dim / BLOCK * META;
    plan(&p, 2, dim).split(3, Split::block(heads * about, 1, about)).scratch(dim)
}

fn combine(tile: &Tile<'_>, sink: Option<f32>, out: &mut [f32]) {
    let p: Params = tile.params();
    let (shape, layout, row_len) = (shape(tile, &p, 1), Layout::new(&p), row_len(&p));
    let (head, token) = (tile.x(), tile.y());
    let len = p.splits as usize * row_len;
    let rows = &tile.read::<f32>(0)[(token * shape.heads + head) * len..][..len];
    let parts = shape.parts(token, layout.parts()).count();
    let mut parts = (0..parts).map(|part| {
        let row = &rows[layout.row(part) * row_len..][..row_len];
        (State { max: row[0], sum: row[1] }, &row[4..][..shape.value_dim])
    });
    one::combine(Level::best(), sink, &mut parts, out);
}
