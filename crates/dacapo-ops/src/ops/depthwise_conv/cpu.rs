//! The CPU twin of the depthwise convolution.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};

use super::{MOST_TAPS, Params};
use crate::lanes::{LANES, Lanes, leveled, math};
use crate::simd::Level;

/// Products below which a tile is not worth handing to a worker.
const MIN_TILE: usize = 16384;

/// Tiles of whole vectors of channels, over all tokens.
pub(super) fn plan(ctx: &PlanContext<'_>) -> CpuPlan {
    let p: Params = ctx.params();
    let (taps, channels) = (p.taps as usize, p.channels as usize);
    let tokens = ctx.len(0) / channels.max(1);
    let fewest = (MIN_TILE / (tokens * taps).max(1)).max(LANES);
    let cols = ctx.chunk(channels, LANES, 2).max(fewest).next_multiple_of(LANES);
    CpuPlan::new(channels.div_ceil(cols), 1)
        .split(3, Split::block(channels, taps - 1, cols))
        .split(4, Split::block(channels, tokens, cols))
        .scratch((taps - 1) * cols)
}

#[inline(always)]
fn token_body<L: Lanes>(l: L, seen: &[&[f32]], weight: &[&[f32]], out: &mut [f32]) {
    for (i, out) in out.chunks_mut(LANES).enumerate() {
        let columns = i * LANES..i * LANES + out.len();
        let mut sum = l.splat(0.0);
        for (x, weight) in seen.iter().zip(weight) {
            let (x, weight) = (&x[columns.clone()], &weight[columns.clone()]);
            sum = l.fma(l.load_part(weight, 0.0), l.load_part(x, 0.0), sum);
        }
        l.store_part(math::swish(l, sum, sum), out);
    }
}

leveled! {
    /// A token's channels: the tokens that it sees, the earliest first, and the weight of each.
    fn token(seen: &[&[f32]], weight: &[&[f32]], out: &mut [f32]) = token_body;
}

pub(super) fn run(tile: &Tile<'_>) {
    let p: Params = tile.params();
    let (taps, channels) = (p.taps as usize, p.channels as usize);
    let (mut state, mut out) = (tile.write::<f32>(3), tile.write::<f32>(4));
    let (first, cols) = (out.first_col(), out.cols());
    let columns = |row: usize| row * channels + first..row * channels + first + cols;
    let (x, weight) = (tile.read::<f32>(0), tile.read::<f32>(1));
    let fresh = tile.read::<u32>(2)[0] == 0;
    let before = &mut tile.scratch()[..(taps - 1) * cols];
    for (row, before) in before.chunks_exact_mut(cols).enumerate() {
        if fresh {
            before.fill(0.0);
        } else {
            before.copy_from_slice(state.row(row));
        }
    }
    // The state and then the tokens, in the order of time.
    let at = |time: usize| match time.checked_sub(taps - 1) {
        None => &before[time * cols..][..cols],
        Some(t) => &x[columns(t)],
    };
    let mut weights = [&[][..]; MOST_TAPS];
    for (j, row) in weights[..taps].iter_mut().enumerate() {
        *row = &weight[columns(j)];
    }
    let mut seen = [&[][..]; MOST_TAPS];
    for t in 0..out.rows() {
        seen[..taps].iter_mut().enumerate().for_each(|(j, row)| *row = at(t + j));
        token(Level::best(), &seen[..taps], &weights[..taps], out.row(t));
    }
    for row in 0..taps - 1 {
        state.row(row).copy_from_slice(at(out.rows() + row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::normal;

    #[test]
    fn every_level_gives_the_same_bits() {
        for channels in [1, 15, 16, 47, 130] {
            let (x, weight) = (normal(1, 4 * channels), normal(2, 4 * channels));
            let (x, weight): (Vec<&[f32]>, Vec<&[f32]>) =
                (x.chunks(channels).collect(), weight.chunks(channels).collect());
            let run = |level| {
                let mut out = vec![f32::NAN; channels];
                token(level, &x, &weight, &mut out);
                out
            };
            for level in Level::available() {
                assert_eq!(run(level), run(Level::Scalar), "{level:?}");
            }
        }
    }
}
