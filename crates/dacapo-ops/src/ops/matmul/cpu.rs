//! CPU twin: tiles of some panels by some tokens.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};

use super::product::{Rows, product, scratch_len};
use super::{Params, many};
use crate::ops::matmul::codes::META;
use crate::quant::panel::{BLOCK, PanelFormat, Panels, ROWS};
use crate::simd::Level;

/// Most tokens of a tile, and most of their activations, bytes if they are int8: these stay in the second-level cache while the tile's panels pass.
const TOKENS: usize = 256;
const ACTIVATIONS: usize = 512 << 10;

/// Fewest bytes of weights in a tile, below which handing out tiles costs more than it balances.
const TILE_BYTES: usize = 64 << 10;

/// Fewest panels in a tile of several tokens, below which packing their activations costs too much.
const FEWEST_PANELS: usize = 16;

/// Panels and tokens of a tile.
pub(super) fn tile_shape(
    context: &PlanContext<'_>,
    params: Params,
    format: PanelFormat,
    tokens: usize,
) -> [usize; 2] {
    let (panels, k) = ((params.n as usize).div_ceil(ROWS), params.k as usize);
    if tokens > 1 {
        // With many threads fewer tokens rather than fewer panels.
        let fair = tokens * panels / (context.threads() * FEWEST_PANELS);
        let rows = tokens.div_ceil((ACTIVATIONS / k.max(1)).min(fair).clamp(24, TOKENS));
        // Pairs of panels; never so many that a thread is left without work.
        let fair = context.chunk(panels * rows, many::PANELS, 1).min(panels.next_multiple_of(2));
        let balanced = context.chunk(panels * rows, many::PANELS, 4);
        return [balanced.max(FEWEST_PANELS.min(fair)).min(fair), tokens.div_ceil(rows)];
    }
    let fewest = (TILE_BYTES / format.panel_bytes(k).max(1)).clamp(1, panels);
    let fair = context.chunk(panels, 1, 1);
    [context.chunk(panels, 1, 8).max(fewest.min(fair)), 1]
}

/// `OUT` is the index of the output binding.
pub(super) fn plan<const INT8: bool, const OUT: usize>(context: &PlanContext<'_>) -> CpuPlan {
    let params: Params = context.params();
    let format = format(params);
    let n = params.n as usize;
    let tokens = context.len(OUT) / n;
    let [panels, rows] = tile_shape(context, params, format, tokens);
    CpuPlan::new(n.div_ceil(panels * ROWS), tokens.div_ceil(rows))
        .split(OUT, Split::block(n, rows, panels * ROWS))
        .scratch(scratch_len(format, INT8, rows, params.k as usize))
}

pub(super) fn format(params: Params) -> PanelFormat {
    PanelFormat::decode(params.format).expect("the entry point encodes a format")
}

/// One tile: `rows` yields the activations of the tokens from a given one on.
fn run(tile: &Tile<'_>, rows: impl Fn(usize) -> RowsOf, weight: usize, bias: Option<usize>, out: usize) {
    let params: Params = tile.params();
    let panels = Panels::new(format(params), params.n as usize, params.k as usize, tile.read_bytes(weight))
        .expect("the entry point checks the weight's size");
    let bias = bias.map(|binding| tile.read::<f32>(binding));
    let mut y = tile.write::<f32>(out);
    let (first_col, cols, tokens) = (y.first_col(), y.cols(), y.rows());
    let range = first_col / ROWS..(first_col + cols).div_ceil(ROWS);
    let rows = rows(y.first_row()).of(tile, panels.k());
    product(Level::best(), &panels, range, rows, tokens, tile.scratch(), &mut |panel, sums| {
        let from = panel * ROWS - first_col;
        let to = (from + ROWS).min(cols);
        for (token, sums) in sums.chunks_exact(ROWS).enumerate() {
            let y = &mut y.row(token)[from..to];
            // Nearly always whole, and then no call.
            if let Ok(whole) = <&mut [f32; ROWS]>::try_from(&mut *y) {
                whole.copy_from_slice(sums);
            } else {
                y.copy_from_slice(&sums[..to - from]);
            }
            if let Some(bias) = bias {
                y.iter_mut().zip(&bias[panel * ROWS..]).for_each(|(y, b)| *y += b);
            }
        }
    });
}

/// Which activations a kernel reads, from which token on.
enum RowsOf {
    Exact(usize),
    Int8(usize),
}

impl RowsOf {
    fn of<'a>(&self, tile: &Tile<'a>, k: usize) -> Rows<'a> {
        match *self {
            RowsOf::Exact(token) => Rows::Exact(&tile.read::<f32>(0)[token * k..]),
            RowsOf::Int8(token) => Rows::Int8 {
                codes: &tile.read::<i8>(0)[token * k..],
                meta: &tile.read::<f32>(1)[token * (k / BLOCK) * META..],
            },
        }
    }
}

pub(super) fn exact(tile: &Tile<'_>) {
    run(tile, RowsOf::Exact, 1, None, 2);
}

pub(super) fn exact_bias(tile: &Tile<'_>) {
    run(tile, RowsOf::Exact, 1, Some(2), 3);
}

pub(super) fn int8(tile: &Tile<'_>) {
    run(tile, RowsOf::Int8, 2, None, 3);
}

pub(super) fn int8_bias(tile: &Tile<'_>) {
    run(tile, RowsOf::Int8, 2, Some(3), 4);
}
