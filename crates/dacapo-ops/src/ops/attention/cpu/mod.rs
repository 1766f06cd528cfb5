//! The CPU twin of attention.
//!
//! Keys are visited in tiles of 64 positions with the online softmax (Milakov and Gimelshein, 2018): a running
//! maximum m, a running sum l of e^(s-m), and a running value o, all rescaled when m grows. Tiles begin at
//! multiples of 64, and a position that a query does not see adds exactly nothing, so that a query's result does
//! not depend on the queries computed beside it. One query's positions are visited in parts, which threads can share.

mod many;
mod one;
pub(super) mod split;
pub(super) mod step;
#[cfg(test)]
mod tests;

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{DType, Element};
use half::f16;

pub(super) use self::one::PART;
use super::Params;
use crate::lanes::{LANES, Lanes};
use crate::ops::matmul::codes::META;
use crate::ops::quantize::cpu::quantize;
use crate::quant::panel::BLOCK;
use crate::simd::Level;

/// Positions in a tile of keys.
const KEYS: usize = 64;
/// Queries that [`many`] computes together, all heads that share keys counted.
const ROWS: usize = 64;

/// The shapes and options of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Query heads, and how many of them share a head of the cache.
    pub heads: usize,
    pub group: usize,
    pub key_dim: usize,
    pub value_dim: usize,
    pub slots: usize,
    pub scale: f32,
    pub softcap: Option<f32>,
    pub window: Option<usize>,
    pub causal: bool,
    /// Position of the first query, and positions in all.
    pub position: usize,
    pub length: usize,
}

impl Shape {
    fn new(p: &Params, position: usize) -> Self {
        Shape {
            heads: p.heads as usize,
            group: (p.heads / p.kv_heads) as usize,
            key_dim: p.key_dim as usize,
            value_dim: p.value_dim as usize,
            slots: p.capacity as usize,
            scale: p.scale,
            softcap: (p.softcap > 0.0).then_some(p.softcap),
            window: (p.window > 0).then_some(p.window as usize),
            causal: p.causal != 0,
            position,
            length: position + p.tokens as usize,
        }
    }

    /// The positions that query `t` sees: half-open.
    fn seen(&self, t: usize) -> (usize, usize) {
        let own = self.position + t;
        let end = match self.window {
            _ if self.causal => own + 1,
            Some(window) => self.length.min(own + window),
            None => self.length,
        };
        let kept = self.length.saturating_sub(self.slots);
        let start = self.window.map_or(0, |window| (own + 1).saturating_sub(window));
        (start.max(kept), end)
    }

    /// The parts of the positions that query `t` sees, half-open, at most `most` of them: [`one::PART`] positions each if
    /// that is enough, else a multiple of it.
    fn parts(&self, t: usize, most: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (start, end) = self.seen(t);
        let first = start / one::PART;
        let each = (end.div_ceil(one::PART) - first).div_ceil(most).max(1) * one::PART;
        (first * one::PART..end).step_by(each).map(move |part| (part.max(start), end.min(part + each)))
    }

    /// Queries computed together in one tile of the plan.
    fn queries(group: usize) -> usize {
        (ROWS / group).max(1)
    }
}

/// The queries of one tile: `count` of them from the `first` on, of the heads that share one of the cache's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries<'a> {
    /// All of them, `[T, H, D]`.
    pub q: &'a [f32],
    pub first_head: usize,
    pub first: usize,
    pub count: usize,
    /// Sinks of the heads, as many as share one of the cache's.
    pub sinks: Option<&'a [f32]>,
}

impl<'a> Queries<'a> {
    /// Head `g` of query `t`, both counted from the first.
    #[inline(always)]
    fn row(&self, shape: &Shape, t: usize, g: usize) -> &'a [f32] {
        &self.q[((self.first + t) * shape.heads + self.first_head + g) * shape.key_dim..][..shape.key_dim]
    }
}

/// Keys `[CAP, D]` and values `[CAP, DV]` of one head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cache<'a, E> {
    pub keys: &'a [E],
    pub values: &'a [E],
}

impl<'a, E> Cache<'a, E> {
    /// One head of caches of several.
    fn of_head((keys, values): (&'a [E], &'a [E]), shape: &Shape, head: usize) -> Self {
        let of_head = |all: &'a [E], dim| &all[head * shape.slots * dim..][..shape.slots * dim];
        Cache { keys: of_head(keys, shape.key_dim), values: of_head(values, shape.value_dim) }
    }
}

/// An element of a cache.
pub(crate) trait KvElement: Element {
    fn load<L: Lanes>(l: L, x: &[Self; LANES]) -> L::V;
    /// [`one`] for this element.
    fn one(
        level: Level,
        shape: &Shape,
        q: Queries<'_>,
        cache: Cache<'_, Self>,
        scratch: &mut [f32],
        out: &mut [f32],
    );
    /// What the positions of `range` give to a query's heads, handed to `put` with their number.
    fn part(
        level: Level,
        shape: &Shape,
        q: Queries<'_>,
        cache: Cache<'_, Self>,
        range: (usize, usize),
        scratch: &mut [f32],
        put: &mut dyn FnMut(usize, one::State, &[f32]),
    );
    /// [`many`] for this element.
    fn many(level: Level, shape: &Shape, q: Queries<'_>, cache: Cache<'_, Self>, scratch: &mut [f32]);
}

macro_rules! kv_element {
    ($element:ty, $load:ident, $attend:ident, $part:ident) => {
        impl KvElement for $element {
            #[inline(always)]
            fn load<L: Lanes>(l: L, x: &[Self; LANES]) -> L::V {
                l.$load(x)
            }
            fn one(
                level: Level,
                shape: &Shape,
                q: Queries<'_>,
                cache: Cache<'_, Self>,
                scratch: &mut [f32],
                out: &mut [f32],
            ) {
                one::$attend(level, shape, q, cache, scratch, out);
            }
            fn part(
                level: Level,
                shape: &Shape,
                q: Queries<'_>,
                cache: Cache<'_, Self>,
                range: (usize, usize),
                scratch: &mut [f32],
                put: &mut dyn FnMut(usize, one::State, &[f32]),
            ) {
                one::$part(level, shape, q, cache, range, scratch, put);
            }
            fn many(
                level: Level,
                shape: &Shape,
                q: Queries<'_>,
                cache: Cache<'_, Self>,
                scratch: &mut [f32],
            ) {
                many::$attend(level, shape, q, cache, scratch);
            }
        }
    };
}

kv_element!(f32, load, attend_f32, part_f32);
kv_element!(f16, load_f16, attend_f16, part_f16);

/// Up to sixteen elements of a cache; lanes beyond them are 0.
#[inline(always)]
fn load_part<L: Lanes, E: KvElement>(l: L, x: &[E]) -> L::V {
    if let Ok(full) = x.try_into() {
        return E::load(l, full);
    }
    let mut lanes = [E::zeroed(); LANES];
    lanes[..x.len()].copy_from_slice(x);
    E::load(l, &lanes)
}

/// Elements of a cache as f32.
#[inline(always)]
fn widen<L: Lanes, E: KvElement>(l: L, from: &[E], to: &mut [f32]) {
    for (from, to) in from.chunks(LANES).zip(to.chunks_mut(LANES)) {
        l.store_part(load_part(l, from), to);
    }
}

/// Slots of a ring cache that hold the positions from `first` on.
#[inline(always)]
fn slots_from(first: usize, count: usize, slots: usize) -> [usize; KEYS] {
    let mut at = [0; KEYS];
    let mut slot = first % slots;
    for at in &mut at[..count] {
        *at = slot;
        slot += 1;
        if slot == slots {
            slot = 0;
        }
    }
    at
}

pub(super) fn plan<const OUT: usize>(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let (heads, kv_heads) = (p.heads as usize, p.kv_heads as usize);
    let group = heads / kv_heads;
    let (key_dim, value_dim) = (p.key_dim as usize, p.value_dim as usize);
    let queries = Shape::queries(group);
    let rows = (p.tokens as usize).min(queries);
    let split = Split::block(heads * value_dim, rows.max(1), group * value_dim);
    let scratch = if p.tokens == 1 {
        one::scratch(group, key_dim, value_dim)
    } else {
        many::scratch(rows * group, key_dim, value_dim)
    };
    CpuPlan::new(kv_heads, (p.tokens as usize).div_ceil(queries)).split(OUT, split).scratch(scratch)
}

fn run_as<E: KvElement>(tile: &Tile<'_>, sinks: Option<&[f32]>, output: usize) {
    let p: Params = tile.params();
    let shape = Shape::new(&p, tile.read::<u32>(3)[0] as usize);
    let cache = Cache::<E>::of_head((tile.read(1), tile.read(2)), &shape, tile.x());
    let first_head = tile.x() * shape.group;
    let sinks = sinks.map(|s| &s[first_head..][..shape.group]);
    let mut block = tile.write::<f32>(output);
    let queries =
        Queries { q: tile.read(0), first_head, first: block.first_row(), count: block.rows(), sinks };
    let scratch = tile.scratch();
    if p.tokens == 1 {
        E::one(Level::best(), &shape, queries, cache, scratch, block.row(0));
    } else {
        E::many(Level::best(), &shape, queries, cache, scratch);
        for t in 0..queries.count {
            many::store(&shape, queries.count, t, scratch, block.row(t));
        }
    }
}

pub(super) fn run(tile: &Tile<'_>) {
    dispatch(tile, None, 4);
}

pub(super) fn run_sinks(tile: &Tile<'_>) {
    dispatch(tile, Some(tile.read(4)), 5);
}

/// For one token a tile for each head of the cache, as [`plan`] has it.
pub(super) fn plan_q8(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let (group, dim) = ((p.heads / p.kv_heads) as usize, p.value_dim as usize);
    let scratch = one::scratch(group, p.key_dim as usize, dim);
    CpuPlan::new(p.kv_heads as usize, 1)
        .split(4, Split::chunks(group * dim))
        .split(5, Split::chunks(group * dim / BLOCK * META))
        .scratch(group * dim + scratch)
}

/// `attention` of one token, then `quantize_q8`.
pub(super) fn run_q8(tile: &Tile<'_>) {
    if tile.dtype(1) == DType::F16 { run_q8_as::<f16>(tile) } else { run_q8_as::<f32>(tile) }
}

fn run_q8_as<E: KvElement>(tile: &Tile<'_>) {
    let p: Params = tile.params();
    let shape = Shape::new(&p, tile.read::<u32>(3)[0] as usize);
    let cache = Cache::<E>::of_head((tile.read(1), tile.read(2)), &shape, tile.x());
    let first_head = tile.x() * shape.group;
    let queries = Queries { q: tile.read(0), first_head, first: 0, count: 1, sinks: None };
    let (out, scratch) = tile.scratch().split_at_mut(shape.group * shape.value_dim);
    E::one(Level::best(), &shape, queries, cache, scratch, out);
    let (mut codes, mut meta) = (tile.write::<i8>(4), tile.write::<f32>(5));
    quantize(Level::best(), out, codes.slice(), meta.slice());
}

fn dispatch(tile: &Tile<'_>, sinks: Option<&[f32]>, output: usize) {
    if tile.dtype(1) == DType::F16 {
        run_as::<f16>(tile, sinks, output);
    } else {
        run_as::<f32>(tile, sinks, output);
    }
}
