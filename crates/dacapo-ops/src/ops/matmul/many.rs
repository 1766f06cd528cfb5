//! The int8 loop for several tokens: bound by arithmetic, so that everything else is done once and ahead.
//!
//! Codes are unpacked to bytes once for all tokens. Then tiles of some rows by some tokens pass over them, as large as registers
//! allow: each line of codes serves all tokens of the tile, each word of activations all its rows. Where the processor
//! multiplies matrices of bytes, that makes the integer sums: AMX and I8MM have loops of their own.

#![allow(unsafe_op_in_unsafe_fn)] // Each function is one loop under the contract of `Vector`.
#![allow(clippy::needless_range_loop)] // Numbers of rows and tokens count in several arrays at once.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "aarch64")]
mod i8mm;

use super::codes::{BLOCK_BYTES, META, code_sum, substeps};
use super::scales::Layout;
use super::vector::{Vector, for_levels, of_level};
use crate::quant::panel::{BLOCK, ROWS, Scales};
use crate::simd::Level;

/// Most panels of a tile.
pub const PANELS: usize = 2;

/// Whether the processor multiplies matrices of bytes, and does so for that many tokens.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn has_matrices(level: Level, tokens: usize) -> bool {
    // Below that, what is left of AMX's tiles costs as much as whole ones.
    const FEWEST: usize = 8;
    level == Level::NeonI8mm || level == Level::Amx && tokens >= FEWEST
}

/// Most tokens of a tile at this level, of `tokens` in all.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables, reason = "only with AMX does it matter"))]
fn most(level: Level, tokens: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    if has_matrices(level, tokens) {
        return amx::TOKENS;
    }
    of_level!(level, V => V::TILE.1)
}

/// First token and size of each tile: as few as `most` allows, as even as they can be.
fn tiles(tokens: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = tokens.div_ceil(most);
    (0..count).map(move |i| (i * tokens / count, (i + 1) * tokens / count - i * tokens / count))
}

/// Quantized activations of some tokens, whole rows, as the loop reads them: for each tile of M tokens its values along k, for
/// each of which the tokens'.
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// Values in a row.
    k: usize,
    tokens: usize,
    /// For each tile `[k / 32, M, 32]`.
    codes: &'a [i8],
    /// Their scales, for each tile `[k / 32, M]`.
    scales: &'a [f32],
    /// For each tile and span `[k / span, M]`: the sum of the activations; where a code stands for zero, the bits of an i32
    /// instead, that code times the sum of activations' codes, negated.
    sums: &'a [f32],
}

impl<'a> Packed<'a> {
    /// f32 values of room for `tokens` tokens.
    pub const fn len(scales: Scales, tokens: usize, k: usize) -> usize {
        tokens * (k / 4 + k / BLOCK + k / scales.span())
    }

    /// Packs the activations of `tokens` tokens, `codes` `[tokens, k]` and `meta` `[tokens, k / 32, META]`, for products with weights
    /// with such scales. `room` is [`len`](Self::len) long.
    pub fn new(
        level: Level,
        scales: Scales,
        (codes, meta): (&[i8], &[f32]),
        tokens: usize,
        room: &'a mut [f32],
    ) -> Self {
        let k = codes.len() / tokens;
        let (packed, rest) = room.split_at_mut(tokens * k / 4);
        let (packed_scales, rest) = rest.split_at_mut(tokens * k / BLOCK);
        let (packed, sums) = (bytemuck::cast_slice_mut(packed), &mut rest[..tokens * k / scales.span()]);
        let spans = k / scales.span();
        let (codes, _) = codes.as_chunks::<BLOCK>();
        let (meta, _) = meta.as_chunks::<META>();
        let blocks = k / BLOCK;
        for (first, size) in tiles(tokens, most(level, tokens)) {
            let rows = first * blocks..(first + size) * blocks;
            let (to, _) = packed[first * k..][..size * k].as_chunks_mut::<BLOCK>();
            let to = to.chunks_exact_mut(size).zip(packed_scales[rows.clone()].chunks_exact_mut(size));
            for (b, (to, scales)) in to.enumerate() {
                for (m, (to, scale)) in to.iter_mut().zip(scales).enumerate() {
                    let at = rows.start + m * blocks + b;
                    (*to, *scale) = (codes[at], meta[at][0]);
                }
            }
            for m in 0..size {
                let to = &mut sums[first * spans..];
                let meta = &meta[rows.start + m * blocks..][..blocks];
                for_spans(scales, meta, |span, sum| to[span * size + m] = sum);
            }
        }
        Packed { k, tokens, codes: packed, scales: packed_scales, sums }
    }
}

/// What [`Packed::sums`] has for each span of a row.
fn for_spans(scales: Scales, meta: &[[f32; META]], mut put: impl FnMut(usize, f32)) {
    let offset = |zero: u8, scale, sum| f32::from_bits((-i32::from(zero) * code_sum(scale, sum)) as u32);
    match (scales.zero(), scales.span() / BLOCK) {
        (None, 0) => meta.iter().enumerate().for_each(|(b, meta)| {
            put(2 * b, meta[2]);
            put(2 * b + 1, meta[3]);
        }),
        (Some(zero), 0) => meta.iter().enumerate().for_each(|(b, meta)| {
            put(2 * b, offset(zero, meta[0], meta[2]));
            put(2 * b + 1, offset(zero, meta[0], meta[3]));
        }),
        (None, per) => meta
            .chunks_exact(per)
            .enumerate()
            .for_each(|(span, meta)| put(span, meta.iter().fold(0.0, |sum, meta| sum + meta[1]))),
        // Formats with a code for zero have spans of one block.
        (Some(zero), _) => {
            meta.iter().enumerate().for_each(|(b, meta)| put(b, offset(zero, meta[0], meta[1])));
        }
    }
}

/// Codes of one panel or two over a range of k.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// For each panel its codes as bytes: see [`super::codes::unpack_panel`].
    pub bytes: &'a [u8],
    /// For each panel scales as [`Layout::Spans`].
    pub scales: &'a [f32],
    /// The range's first value, a multiple of a span and of 32.
    pub first: usize,
    /// How many values there are, again such a multiple.
    pub len: usize,
    /// For each panel and token 16 sums, one for each row.
    pub acc: &'a mut [f32],
}

/// What a tile reads and writes: pointers to what belongs to its vectors of rows and to its tokens.
#[derive(Clone, Copy)]
struct Tile<const P: usize> {
    codes: [*const u8; P],
    scales: [*const f32; P],
    acc: [*mut f32; P],
    blocks: usize,
    /// Blocks in a span, 1 if it is half of one.
    per: usize,
    q: *const i8,
    scales_q: *const f32,
    sums: *const f32,
}

impl<const P: usize> Tile<P> {
    /// Makes it read the activations of a tile of `size` tokens from `token` on, from value `first` on.
    unsafe fn point_to(
        &mut self,
        input: Packed<'_>,
        (token, size): (usize, usize),
        first: usize,
        span: usize,
    ) {
        // Tiles before this one hold whole rows, this one as many values as it has tokens for each value of a row.
        let at = token * input.k + size * first;
        self.q = input.codes.as_ptr().add(at);
        self.scales_q = input.scales.as_ptr().add(at / BLOCK);
        self.sums = input.sums.as_ptr().add(at / span);
    }

    /// The sums of `M` tokens so far.
    #[inline(always)]
    unsafe fn load_acc<V: Vector, const M: usize>(&self) -> [[V::Float; P]; M] {
        let mut acc = [[V::splat(0.0); P]; M];
        for m in 0..M {
            for p in 0..P {
                acc[m][p] = V::load(self.acc[p].add(m * ROWS));
            }
        }
        acc
    }

    #[inline(always)]
    unsafe fn store_acc<V: Vector, const M: usize>(&self, acc: [[V::Float; P]; M]) {
        for m in 0..M {
            for p in 0..P {
                V::store(self.acc[p].add(m * ROWS), acc[m][p]);
            }
        }
    }
}

/// A tile of `P` vectors of rows by `M` tokens. `BITS` is at least the number of bits of a code; `HALF` means spans of 16 values,
/// `BIASED` that scales come with biases.
#[inline(always)]
unsafe fn pass<
    V: Vector,
    const BITS: usize,
    const HALF: bool,
    const BIASED: bool,
    const P: usize,
    const M: usize,
>(
    tile: Tile<P>,
) {
    let Tile { mut codes, mut scales, mut q, mut scales_q, mut sums, .. } = tile;
    let mut acc = tile.load_acc::<V, M>();
    let stride = if BIASED { 2 * ROWS } else { ROWS };
    for _ in 0..tile.blocks / tile.per {
        for _ in 0..tile.per {
            let mut dots = [[V::sum_from(0); P]; M];
            substeps!(J => {
                if J == 0 || (HALF && J == 4) {
                    for m in 0..M {
                        dots[m] = [V::sum_from(offset::<BIASED>(sums, m)); P];
                    }
                }
                for m in 0..M {
                    let activations = q.add(m * BLOCK + 4 * J).cast::<u32>().read_unaligned();
                    for p in 0..P {
                        let word = V::load_words(codes[p].add(64 * J));
                        dots[m][p] = V::sum_dot::<BITS>(dots[m][p], word, activations);
                    }
                }
                if J == 7 || (HALF && J == 3) {
                    for p in 0..P {
                        let s = V::load(scales[p]);
                        for m in 0..M {
                            let dot = V::to_float(V::sum_finish::<BITS>(dots[m][p], offset::<BIASED>(sums, m)));
                            let scaled = V::mul(dot, V::splat(*scales_q.add(m)));
                            acc[m][p] = V::fma(scaled, s, acc[m][p]);
                        }
                    }
                    if HALF {
                        (acc, sums) = biased::<V, BIASED, P, M>(acc, scales, sums);
                        scales = scales.map(|scales| scales.add(stride));
                    } else if !BIASED {
                        sums = sums.add(M);
                        scales = scales.map(|scales| scales.add(stride));
                    }
                }
            });
            codes = codes.map(|codes| codes.add(BLOCK_BYTES));
            q = q.add(M * BLOCK);
            scales_q = scales_q.add(M);
        }
        if BIASED && !HALF {
            (acc, sums) = biased::<V, BIASED, P, M>(acc, scales, sums);
            scales = scales.map(|scales| scales.add(stride));
        }
    }
    tile.store_acc::<V, M>(acc);
}

/// What the sum of token `m` starts at.
#[inline(always)]
unsafe fn offset<const BIASED: bool>(sums: *const f32, m: usize) -> i32 {
    if BIASED { 0 } else { *sums.add(m).cast::<i32>() }
}

/// The sums with a span's biases, if there are any, and where the next span's sums of activations are.
#[inline(always)]
unsafe fn biased<V: Vector, const BIASED: bool, const P: usize, const M: usize>(
    mut acc: [[V::Float; P]; M],
    scales: [*const f32; P],
    sums: *const f32,
) -> ([[V::Float; P]; M], *const f32) {
    if BIASED {
        for p in 0..P {
            let b = V::load(scales[p].add(ROWS));
            for m in 0..M {
                acc[m][p] = V::fma(b, V::splat(*sums.add(m)), acc[m][p]);
            }
        }
    }
    (acc, sums.add(M))
}

/// `P` vectors of rows, and all tokens.
#[inline(always)]
unsafe fn rows<V: Vector, const BITS: usize, const HALF: bool, const BIASED: bool, const P: usize>(
    mut tile: Tile<P>,
    span: usize,
    first: usize,
    input: Packed<'_>,
) {
    let acc = tile.acc;
    for (token, size) in tiles(input.tokens, V::TILE.1) {
        tile.point_to(input, (token, size), first, span);
        tile.acc = acc.map(|acc| acc.add(token * ROWS));
        match size {
            6 if V::TILE.1 >= 6 => pass::<V, BITS, HALF, BIASED, P, 6>(tile),
            5 if V::TILE.1 >= 5 => pass::<V, BITS, HALF, BIASED, P, 5>(tile),
            4 if V::TILE.1 >= 4 => pass::<V, BITS, HALF, BIASED, P, 4>(tile),
            3 if V::TILE.1 >= 3 => pass::<V, BITS, HALF, BIASED, P, 3>(tile),
            2 => pass::<V, BITS, HALF, BIASED, P, 2>(tile),
            _ => pass::<V, BITS, HALF, BIASED, P, 1>(tile),
        }
    }
}

#[inline(always)]
unsafe fn all_rows<V: Vector, const BITS: usize, const HALF: bool, const BIASED: bool>(
    chunk: &mut Chunk<'_>,
    span: usize,
    input: Packed<'_>,
) {
    let (bytes, panels) = (chunk.len * ROWS, chunk.bytes.len() / (chunk.len * ROWS));
    let per_panel = chunk.scales.len() / panels;
    let (codes, scales) = (chunk.bytes.as_ptr(), chunk.scales.as_ptr());
    let acc = chunk.acc.as_mut_ptr();
    let vector = |v: usize| {
        let (panel, lane) = (v * V::LANES / ROWS, v * V::LANES % ROWS);
        (
            codes.add(panel * bytes + 4 * lane),
            scales.add(panel * per_panel + lane),
            acc.add(panel * input.tokens * ROWS + lane),
        )
    };
    let (blocks, per) = (chunk.len / BLOCK, (span / BLOCK).max(1));
    let (q, scales_q, sums) = (input.codes.as_ptr(), input.scales.as_ptr(), input.sums.as_ptr());
    let vectors = panels * ROWS / V::LANES;
    for v in (0..vectors).step_by(V::TILE.0) {
        let a = vector(v);
        if V::TILE.0 == 2 {
            // With an odd number the last one is computed twice, which writes the same sums twice.
            let b = vector((v + 1).min(vectors - 1));
            let (codes, scales, acc) = ([a.0, b.0], [a.1, b.1], [a.2, b.2]);
            let tile = Tile { codes, scales, acc, blocks, per, q, scales_q, sums };
            rows::<V, BITS, HALF, BIASED, 2>(tile, span, chunk.first, input);
        } else {
            let (codes, scales, acc) = ([a.0], [a.1], [a.2]);
            let tile = Tile { codes, scales, acc, blocks, per, q, scales_q, sums };
            rows::<V, BITS, HALF, BIASED, 1>(tile, span, chunk.first, input);
        }
    }
}

for_levels! {
    /// # Safety
    /// The level must be available, and the chunk's parts of the lengths that its `len` asks for.
    unsafe fn panels<const BITS: usize, const HALF: bool, const BIASED: bool>(
        chunk: &mut Chunk<'_>,
        span: usize,
        input: Packed<'_>,
    ) = all_rows;
}

/// Adds a chunk's products to its sums. Codes have `bits` bits. Panics if the lengths do not fit each other or the processor lacks the
/// level.
pub fn run(level: Level, bits: u8, scales: Scales, chunk: &mut Chunk<'_>, input: Packed<'_>) {
    let (len, span) = (chunk.len, scales.span());
    let panels_here = chunk.bytes.len() / (len * ROWS);
    assert!([chunk.first, len].iter().all(|n| n.is_multiple_of(BLOCK) && n.is_multiple_of(span)));
    assert!(chunk.first + len <= input.k && chunk.bytes.len() == panels_here * len * ROWS);
    assert!(panels_here > 0 && chunk.scales.len() == panels_here * Layout::Spans.len(scales, len));
    assert!(chunk.acc.len() == panels_here * input.tokens * ROWS);
    assert!(level.is_available(), "{} is not available here", level.name());
    #[cfg(target_arch = "x86_64")]
    if has_matrices(level, input.tokens) {
        // SAFETY: as below.
        return unsafe { amx::run::<amx::Hardware>(scales, chunk, input) };
    }
    #[cfg(target_arch = "aarch64")]
    if has_matrices(level, input.tokens) {
        // SAFETY: as below.
        return unsafe { i8mm::run(scales, chunk, input) };
    }
    // SAFETY: the level is available, and the lengths cover what a pass reads and writes, as just checked.
    unsafe {
        match (bits, span < BLOCK, scales.zero().is_none()) {
            (2..=4, false, true) => panels::<4, false, true>(level, chunk, span, input),
            (2..=4, false, false) => panels::<4, false, false>(level, chunk, span, input),
            (2..=4, true, true) => panels::<4, true, true>(level, chunk, span, input),
            (2..=4, true, false) => panels::<4, true, false>(level, chunk, span, input),
            (5..=6, false, true) => panels::<6, false, true>(level, chunk, span, input),
            (5..=6, false, false) => panels::<6, false, false>(level, chunk, span, input),
            (5..=6, true, false) => panels::<6, true, false>(level, chunk, span, input),
            (_, false, true) => panels::<8, false, true>(level, chunk, span, input),
            (_, false, false) => panels::<8, false, false>(level, chunk, span, input),
            (_, true, true) => panels::<8, true, true>(level, chunk, span, input),
            _ => unreachable!("no format has codes of {bits} bits with {scales:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_even_and_cover_all_tokens() {
        assert_eq!(tiles(13, 6).collect::<Vec<_>>(), [(0, 4), (4, 4), (8, 5)]);
        assert_eq!(tiles(6, 6).collect::<Vec<_>>(), [(0, 6)]);
        for tokens in 1..100 {
            let all: Vec<_> = tiles(tokens, 6).collect();
            assert!(all.iter().all(|&(_, size)| (1..=6).contains(&size)));
            let ends = all.iter().map(|&(first, size)| first + size);
            assert!(ends.eq(all[1..].iter().map(|tile| tile.0).chain([tokens])));
        }
    }
}
