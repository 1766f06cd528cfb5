//! GPU twins: which text multiplies, and how a product is divided.

use dacapo::gpu::{GpuContext, GpuLimits, GpuNeeds, GpuPlan, GpuTwin, Wgsl};

use super::{Params, normed};
use crate::ops::activation::gpu::FUNCTIONS;
use crate::quant::Float;
use crate::quant::panel::{BLOCK, PanelFormat, ROWS, Scales};
use crate::wgsl::MATH;

/// Most tokens of a product that is bound by reading the weights.
const FEW: usize = 8;

pub(crate) const PANEL: &str = include_str!("panels.wgsl");
/// Panels that are one binding.
const ONE: &str = include_str!("weight_one.wgsl");
/// Activations that were quantized before, and those that a workgroup quantizes.
pub(crate) const STORED: &str = include_str!("activations_stored.wgsl");
const OWN: &str = include_str!("activations_own.wgsl");
pub(crate) const MATVEC: &str = include_str!("matvec.wgsl");
pub(crate) const MATVEC_INT8: &str = include_str!("matvec_int8.wgsl");

pub(crate) const MATVEC_EXACT: &str = include_str!("matvec_exact.wgsl");
pub(crate) const MATVEC_SMALL: &str = include_str!("matvec_small.wgsl");
pub(crate) const MATVEC_DENSE: &str = include_str!("matvec_dense.wgsl");

pub(crate) const TILE: &str = include_str!("tile.wgsl");
pub(crate) const TILE_INT8: &str = include_str!("tile_int8.wgsl");
const ENABLE_COOP: &str = include_str!("enable_coop.wgsl");
const COOP_OPERANDS: &str = include_str!("coop_operands.wgsl");
const COOP_INT8: &str = include_str!("coop_int8.wgsl");
const COOP8_INT8: &str = include_str!("coop8_int8.wgsl");
pub(crate) const TILE_EXACT: &str = include_str!("tile_exact.wgsl");
pub(crate) const TILE_ROWS: &str = include_str!("tile_rows.wgsl");
pub(crate) const TILE_ROWS_DENSE: &str = include_str!("tile_rows_dense.wgsl");

/// Rows of a workgroup of the texts for many tokens, and most invocations, a quarter of them tokens: see `tile.wgsl`.
const TILE_SIDE: usize = 64;
const TILE_THREADS: u32 = 256;

/// Exact products: of any activations, of those that lie on multiples of 16 bytes, and with dense weights.
const ANY: usize = 0;
const VEC: usize = 1;
const DENSE: usize = 2;
/// With many tokens: of quantized weights, and of dense ones.
const MANY: usize = 3;
const MANY_DENSE: usize = 4;
/// Products of int8 activations with many tokens.
const MANY_INT8: usize = 1;
/// The same on cooperative matrices of 16 by 16.
const COOPERATIVE: usize = 2;
/// Of one token and small weights.
pub(crate) const SMALL: usize = 3;
/// Of many tokens, on cooperative matrices of 8 by 8.
const COOPERATIVE8: usize = 4;

macro_rules! normed {
    ($bind:literal) => {
        GpuTwin {
            variants: &[normed!("matvec", $bind, MATVEC), normed!("matvec_small", $bind, MATVEC_SMALL)],
            plan: plan_normed,
        }
    };
    ($name:literal, $bind:literal, $main:expr) => {
        Wgsl::new(
            $name,
            &[include_str!($bind), OWN, include_str!("prepare_norm.wgsl"), ONE, PANEL, MATVEC_INT8, $main],
        )
    };
}

pub(super) static EXACT: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("matvec", &[include_str!("bind_exact_any.wgsl"), ONE, PANEL, MATVEC_EXACT, MATVEC]),
        Wgsl::new("matvec_vec", &[include_str!("bind_exact_vec.wgsl"), ONE, PANEL, MATVEC_EXACT, MATVEC]),
        Wgsl::new("matvec_dense", &[include_str!("bind_exact_any.wgsl"), ONE, MATVEC_DENSE]),
        Wgsl::new("tile", &[include_str!("bind_exact_any.wgsl"), ONE, PANEL, TILE, TILE_EXACT, TILE_ROWS]),
        Wgsl::new(
            "tile_dense",
            &[include_str!("bind_exact_any.wgsl"), ONE, TILE, TILE_EXACT, TILE_ROWS_DENSE],
        ),
    ],
    plan: plan_exact,
};

pub(super) static EXACT_BIAS: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("matvec", &[include_str!("bind_exact_bias_any.wgsl"), ONE, PANEL, MATVEC_EXACT, MATVEC]),
        Wgsl::new(
            "matvec_vec",
            &[include_str!("bind_exact_bias_vec.wgsl"), ONE, PANEL, MATVEC_EXACT, MATVEC],
        ),
        Wgsl::new("matvec_dense", &[include_str!("bind_exact_bias_any.wgsl"), ONE, MATVEC_DENSE]),
        Wgsl::new(
            "tile",
            &[include_str!("bind_exact_bias_any.wgsl"), ONE, PANEL, TILE, TILE_EXACT, TILE_ROWS],
        ),
        Wgsl::new(
            "tile_dense",
            &[include_str!("bind_exact_bias_any.wgsl"), ONE, TILE, TILE_EXACT, TILE_ROWS_DENSE],
        ),
    ],
    plan: plan_exact,
};

pub(super) static INT8: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("matvec", &[include_str!("bind_int8.wgsl"), STORED, ONE, PANEL, MATVEC_INT8, MATVEC]),
        Wgsl::new("tile", &[include_str!("bind_int8.wgsl"), ONE, PANEL, TILE, TILE_INT8]),
        Wgsl::new(
            "coop",
            &[ENABLE_COOP, include_str!("bind_int8.wgsl"), ONE, PANEL, COOP_OPERANDS, COOP_INT8],
        )
        .needs(COOP.needs()),
        Wgsl::new(
            "matvec_small",
            &[include_str!("bind_int8.wgsl"), STORED, ONE, PANEL, MATVEC_INT8, MATVEC_SMALL],
        ),
        Wgsl::new(
            "coop8",
            &[ENABLE_COOP, include_str!("bind_int8.wgsl"), ONE, PANEL, COOP_OPERANDS, COOP8_INT8],
        )
        .needs(COOP8.needs()),
    ],
    plan: plan_int8,
};

pub(super) static INT8_BIAS: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("matvec", &[include_str!("bind_int8_bias.wgsl"), STORED, ONE, PANEL, MATVEC_INT8, MATVEC]),
        Wgsl::new("tile", &[include_str!("bind_int8_bias.wgsl"), ONE, PANEL, TILE, TILE_INT8]),
        Wgsl::new(
            "coop",
            &[ENABLE_COOP, include_str!("bind_int8_bias.wgsl"), ONE, PANEL, COOP_OPERANDS, COOP_INT8],
        )
        .needs(COOP.needs()),
        Wgsl::new(
            "matvec_small",
            &[include_str!("bind_int8_bias.wgsl"), STORED, ONE, PANEL, MATVEC_INT8, MATVEC_SMALL],
        ),
        Wgsl::new(
            "coop8",
            &[ENABLE_COOP, include_str!("bind_int8_bias.wgsl"), ONE, PANEL, COOP_OPERANDS, COOP8_INT8],
        )
        .needs(COOP8.needs()),
    ],
    plan: plan_int8,
};

/// Products whose workgroups normalize and quantize one token's activations themselves.
pub(super) static NORMED: GpuTwin = normed!("bind_normed.wgsl");
pub(super) static NORMED_BIAS: GpuTwin = normed!("bind_normed_bias.wgsl");

/// Both products of a gated MLP and what becomes of them.
pub(super) static GATED: GpuTwin = GpuTwin {
    variants: &[Wgsl::new(
        "gated",
        &[
            include_str!("bind_gated.wgsl"),
            OWN,
            include_str!("prepare_norm.wgsl"),
            PANEL,
            MATVEC_INT8,
            include_str!("gated_rows.wgsl"),
            FUNCTIONS,
            MATH,
        ],
    )],
    plan: plan_gated,
};

/// How products with few tokens are divided on a class of devices.
struct MatvecTuning {
    /// Fewest and most invocations of a workgroup.
    threads: [u32; 2],
    /// Blocks of weights that an invocation should have to itself before more invocations are added.
    blocks: u32,
    /// Workgroups that a processor should get before a workgroup takes more rows.
    workgroups: u32,
    /// Values up to which a weight is small, and most invocations that share its rows.
    small: usize,
    small_threads: u32,
    /// Most invocations that share 32 rows of a gated MLP.
    gated_threads: u32,
    /// Values of a row from which on it is long: a workgroup takes as many rows as it can, since making activations ready
    /// takes its time, and has half as many invocations for a gated MLP, so that a processor holds several workgroups, each
    /// of which reads while others wait.
    long: usize,
    /// Blocks in a row up to which an invocation takes two at a time. More invocations with fewer registers read faster
    /// where there is more to read.
    pair_blocks: u32,
}

/// For devices with many processors, and for software devices, whose workgroups are loops.
const MATVEC_WIDE: MatvecTuning = MatvecTuning {
    threads: [64, 512],
    blocks: 2,
    workgroups: 1,
    small: 4 << 20,
    small_threads: 1024,
    gated_threads: 512,
    long: 4096,
    pair_blocks: 32,
};
const MATVEC_NARROW: MatvecTuning = MatvecTuning {
    threads: [16, 32],
    blocks: 8,
    workgroups: 1,
    small: 1 << 14,
    small_threads: 32,
    gated_threads: 64,
    long: usize::MAX,
    pair_blocks: 0,
};

impl MatvecTuning {
    fn of(limits: &GpuLimits) -> &'static MatvecTuning {
        if limits.subgroup_size >= 16 { &MATVEC_WIDE } else { &MATVEC_NARROW }
    }

    /// Quads of rows of a workgroup.
    fn quads(&self, limits: &GpuLimits, panels: usize, k: usize) -> u32 {
        let wanted = (limits.processors * self.workgroups) as usize;
        let mut quads = 4u32.min(limits.subgroup_size);
        while quads > 2 && k < self.long && panels * (4 / quads as usize) < wanted {
            quads /= 2;
        }
        quads
    }

    /// Invocations of a workgroup: whole units, that leave as few as possible idle in the last round.
    fn threads(&self, limits: &GpuLimits, quads: u32, blocks: u32, unit: u32) -> u32 {
        let most = self.threads[1].min(limits.workgroup_size);
        let wanted = (quads * blocks.div_ceil(self.blocks)).clamp(self.threads[0].min(most), most);
        let fewest = (wanted / 2).div_ceil(unit).max(1);
        let wasted = |threads: u32| {
            let slots = threads / quads;
            (blocks.next_multiple_of(slots) - blocks) as f32 / blocks as f32
        };
        let sizes = (fewest..=(wanted / unit).max(fewest)).rev().map(|units| units * unit);
        sizes.min_by(|a, b| wasted(*a).total_cmp(&wasted(*b))).unwrap_or(unit)
    }
}

/// Sets the overrides that describe quantized panels.
pub(crate) fn panel_constants(plan: GpuPlan, format: PanelFormat, k: usize) -> GpuPlan {
    let plan = plan.constant("BLOCKS", (k / BLOCK) as u32);
    let PanelFormat::Quantized { bits, scales } = format else { return plan };
    let plan = plan.constant("BITS", u32::from(bits));
    match scales {
        Scales::Affine { group, float } => {
            plan.constant("SCALES", 1).constant("GROUP", u32::from(group)).constant("FLOAT", float as u32)
        }
        Scales::Symmetric { zero, float } => {
            plan.constant("SCALES", 2).constant("ZERO", u32::from(zero)).constant("FLOAT", float as u32)
        }
        Scales::MinPer32 => plan.constant("SCALES", 3),
        Scales::MinPer16 => plan.constant("SCALES", 4),
        Scales::SignedPer16 { zero } => plan.constant("SCALES", 5).constant("ZERO", u32::from(zero)),
        Scales::WidePer16 { twice_zero } => {
            plan.constant("SCALES", 6).constant("ZERO", u32::from(twice_zero))
        }
        Scales::SymmetricPer16 { zero } => plan.constant("SCALES", 7).constant("ZERO", u32::from(zero)),
    }
}

/// `unit` is what invocations come in: subgroups, or more.
pub(crate) fn matvec(
    limits: &GpuLimits,
    format: PanelFormat,
    n: usize,
    k: usize,
    tokens: usize,
    unit: u32,
) -> GpuPlan {
    let tuning = MatvecTuning::of(limits);
    let quads = tuning.quads(limits, n.div_ceil(ROWS), k);
    let threads = tuning.threads(limits, quads, (k / BLOCK) as u32, unit);
    let plan = GpuPlan::linear(n.div_ceil(4 * quads as usize));
    panel_constants(plan, format, k)
        .constant("THREADS", threads)
        .constant("SUBGROUP", limits.subgroup_size)
        .constant("QUADS", quads)
        .constant("PAIRS", u32::from((k / BLOCK) as u32 <= tuning.pair_blocks))
        .constant("TOKENS", tokens as u32)
}

/// A product of small weights with one token: quarters of blocks are shared, all of them at once if possible.
pub(crate) fn matvec_small(
    limits: &GpuLimits,
    format: PanelFormat,
    n: usize,
    k: usize,
    unit: u32,
) -> GpuPlan {
    let tuning = MatvecTuning::of(limits);
    let subgroup = limits.subgroup_size;
    let quads = tuning.quads(limits, n.div_ceil(ROWS), k).min(subgroup / 4);
    let most = tuning.small_threads.min(limits.workgroup_size).max(unit);
    let wanted = 4 * quads * (k / BLOCK) as u32;
    // As few rounds as possible, then as few invocations for them.
    let threads = wanted.div_ceil(wanted.div_ceil(most)).next_multiple_of(unit).min(most / unit * unit);
    panel_constants(GpuPlan::linear(n.div_ceil(4 * quads as usize)).variant(SMALL), format, k)
        .constant("THREADS", threads)
        .constant("SUBGROUP", subgroup)
        .constant("QUADS", quads)
}

/// A product with dense weights, whose workgroups take one panel each.
pub(crate) fn matvec_dense(limits: &GpuLimits, float: Float, n: usize, k: usize, tokens: usize) -> GpuPlan {
    let tuning = MatvecTuning::of(limits);
    // Invocations that hold one k, and at least four values of k for each.
    let share = if float == Float::F32 { 4 } else { 2 };
    let threads = tuning.threads(limits, share, (k as u32).div_ceil(4).max(1), limits.subgroup_size);
    GpuPlan::linear(n.div_ceil(ROWS))
        .variant(DENSE)
        .constant("FLOAT", float as u32)
        .constant("THREADS", threads)
        .constant("SUBGROUP", limits.subgroup_size)
        .constant("TOKENS", tokens as u32)
}

/// A product with many tokens, whose workgroups take a square of the result. Those that read the same weights come one
/// after the other.
pub(crate) fn tiles(limits: &GpuLimits, n: usize, tokens: usize) -> GpuPlan {
    let threads = 1 << limits.workgroup_size.clamp(16, TILE_THREADS).ilog2();
    GpuPlan::new([tokens.div_ceil(threads as usize / 4) as u32, n.div_ceil(TILE_SIDE) as u32, 1])
        .constant("THREADS", threads)
}

/// How products with many tokens are divided among cooperative matrices.
struct CoopTuning {
    /// Side of the matrices, and the text for them.
    side: u32,
    variant: usize,
    /// Invocations of a workgroup.
    threads: u32,
    /// Fewest tokens: below, most of a workgroup's would be idle.
    tokens: usize,
    /// Tokens and rows of a workgroup, the largest first.
    tiles: &'static [[usize; 2]],
    /// Whether a tile is for so few tokens that half of it is idle.
    idle: bool,
    /// Overrides that say how many matrices a subgroup has: along tokens (0) or rows (1), one for each so many of the tile.
    matrices: &'static [(&'static str, usize, usize)],
    /// Bytes of workgroup memory for each token or row, and besides.
    memory: [usize; 2],
    /// Workgroups that there have to be for a tile to be taken, in percent of the processors.
    busy: usize,
}

/// See `coop_int8.wgsl`.
const COOP: CoopTuning = CoopTuning {
    side: 16,
    variant: COOPERATIVE,
    threads: 256,
    tokens: 32,
    tiles: &[[128, 128], [64, 128], [64, 64]],
    idle: true,
    matrices: &[("FM", 0, 32), ("FN", 1, 64)],
    memory: [144, 2048 * 4 + 256 * 4],
    busy: 150,
};

/// See `coop8_int8.wgsl`. Nobody has measured it.
const COOP8: CoopTuning = CoopTuning {
    side: 8,
    variant: COOPERATIVE8,
    threads: 128,
    tokens: FEW + 1,
    tiles: &[[64, 64], [32, 64]],
    idle: false,
    matrices: &[("FM", 0, 16)],
    memory: [64, 1024 * 4 + 128 * 4],
    busy: 150,
};

impl CoopTuning {
    const fn needs(&self) -> GpuNeeds {
        GpuNeeds { f16: true, matrix_side: self.side }
    }

    /// Bytes of workgroup memory.
    fn shared_memory(&self, [tokens, rows]: [usize; 2]) -> usize {
        (tokens + rows) * self.memory[0] + self.memory[1]
    }

    /// A product on cooperative matrices, if the device has them and they pay.
    fn plan(&self, limits: &GpuLimits, n: usize, tokens: usize) -> Option<GpuPlan> {
        let able = self.needs().met_by(limits)
            && limits.subgroup_size == 32
            && limits.workgroup_size >= self.threads;
        if !able || tokens < self.tokens {
            return None;
        }
        let grid = |tile: [usize; 2]| [tokens.div_ceil(tile[0]), n.div_ceil(tile[1])];
        let fits = |tile: [usize; 2]| self.shared_memory(tile) <= limits.shared_memory as usize;
        let busy = |tile: [usize; 2]| {
            grid(tile).iter().product::<usize>() * 100 >= self.busy * limits.processors as usize
        };
        let filled = |tile: [usize; 2]| self.idle || tokens > tile[0] / 2;
        let mut fitting = self.tiles.iter().copied().filter(|&tile| fits(tile));
        let tile = fitting.clone().find(|&tile| filled(tile) && busy(tile)).or(fitting.next_back())?;
        let [x, y] = grid(tile);
        let plan = GpuPlan::new([x as u32, y as u32, 1]).variant(self.variant);
        let with_matrices = |plan: GpuPlan, &(name, side, each): &(&'static str, usize, usize)| {
            plan.constant(name, (tile[side] / each) as u32)
        };
        Some(self.matrices.iter().fold(plan, with_matrices))
    }
}

/// What the parameters say: format, n, k and tokens.
fn shape(context: &GpuContext<'_>) -> (PanelFormat, usize, usize, usize) {
    shape_of(&context.params())
}

fn shape_of(params: &Params) -> (PanelFormat, usize, usize, usize) {
    let format = PanelFormat::decode(params.format).expect("the entry point encodes a format");
    (format, params.n as usize, params.k as usize, params.tokens as usize)
}

fn plan_int8(context: &GpuContext<'_>) -> GpuPlan {
    let (format, n, k, tokens) = shape(context);
    if tokens > FEW {
        let coop = [&COOP, &COOP8];
        let plan = coop.into_iter().find_map(|coop| coop.plan(context.limits(), n, tokens));
        return panel_constants(
            plan.unwrap_or_else(|| tiles(context.limits(), n, tokens).variant(MANY_INT8)),
            format,
            k,
        );
    }
    few(context.limits(), format, n, k, tokens, context.limits().subgroup_size)
}

/// A product of few int8 activations.
pub(crate) fn few(
    limits: &GpuLimits,
    format: PanelFormat,
    n: usize,
    k: usize,
    tokens: usize,
    unit: u32,
) -> GpuPlan {
    if tokens == 1 && n * k <= MatvecTuning::of(limits).small && limits.subgroup_size >= 4 {
        return matvec_small(limits, format, n, k, unit);
    }
    matvec(limits, format, n, k, tokens, unit)
}

/// Invocations that activations are quantized by come in blocks of eight, and in subgroups.
fn quantizing_unit(limits: &GpuLimits) -> u32 {
    limits.subgroup_size.max(8)
}

fn plan_normed(context: &GpuContext<'_>) -> GpuPlan {
    let normed::Params { product, .. } = context.params();
    let (format, n, k, _) = shape_of(&product);
    let plan = few(context.limits(), format, n, k, 1, quantizing_unit(context.limits()));
    let small = plan.variant == SMALL;
    plan.variant(usize::from(small))
}

/// A workgroup takes 32 rows of both weights, the two panels of each by a quarter of its subgroups.
fn plan_gated(context: &GpuContext<'_>) -> GpuPlan {
    let normed::GatedParams { product, function, .. } = context.params();
    let (format, n, k, _) = shape_of(&product);
    let (limits, tuning) = (context.limits(), MatvecTuning::of(context.limits()));
    let subgroup = limits.subgroup_size;
    // Four quads of each of four panels: 16 invocations for each slot.
    let wanted = 16 * ((k / BLOCK) as u32).div_ceil(tuning.blocks);
    let share = if k < tuning.long { 1 } else { 2 };
    let most = (tuning.gated_threads / share).min(limits.workgroup_size);
    let unit = (4 * subgroup).next_multiple_of(8);
    let threads = wanted.min(most).next_multiple_of(unit).min(most.max(unit) / unit * unit);
    panel_constants(GpuPlan::linear(n.div_ceil(2 * ROWS)), format, k)
        .constant("THREADS", threads)
        .constant("SUBGROUP", subgroup)
        .constant("PAIRS", u32::from((k / BLOCK) as u32 <= tuning.pair_blocks))
        .constant("FUNCTION", function)
}

fn plan_exact(context: &GpuContext<'_>) -> GpuPlan {
    let (format, n, k, tokens) = shape(context);
    let many = tokens > FEW;
    match format {
        PanelFormat::Dense(float) if many => {
            tiles(context.limits(), n, tokens).variant(MANY_DENSE).constant("FLOAT", float as u32)
        }
        PanelFormat::Dense(float) => matvec_dense(context.limits(), float, n, k, tokens),
        _ if many => panel_constants(tiles(context.limits(), n, tokens), format, k).variant(MANY),
        _ => {
            let aligned = context.misalignment(0).is_multiple_of(16);
            matvec(context.limits(), format, n, k, tokens, context.limits().subgroup_size)
                .variant(if aligned { VEC } else { ANY })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR_BITS: PanelFormat =
        PanelFormat::Quantized { bits: 4, scales: Scales::Affine { group: 64, float: Float::F16 } };

    /// A large GPU, or another subgroup size.
    fn limits(subgroup_size: u32) -> GpuLimits {
        GpuLimits {
            subgroup_size,
            shared_memory: 48 << 10,
            workgroup_size: if subgroup_size == 4 { 128 } else { 1024 },
            workgroups: [65_535; 3],
            binding_bytes: 1 << 32,
            binding_align: 16,
            processors: 132,
            f16: true,
            matrix_side: 16,
            fast_int8_dot: true,
        }
    }

    fn constant(plan: &GpuPlan, name: &str) -> u32 {
        plan.constants.iter().find(|(found, _)| *found == name).expect("is set").1 as u32
    }

    #[test]
    fn workgroups_are_whole_subgroups_and_take_all_rows() {
        for subgroup in [4, 8, 16, 32, 64] {
            let limits = limits(subgroup);
            for (n, k) in [(1, 32), (1000, 4096), (4096, 14_336), (151_936, 1024), (128_256, 2048)] {
                let plan = matvec(&limits, FOUR_BITS, n, k, 1, subgroup);
                let (threads, quads) = (constant(&plan, "THREADS"), constant(&plan, "QUADS"));
                assert!(threads.is_multiple_of(subgroup) && threads <= limits.workgroup_size, "{plan:?}");
                assert!(subgroup >= quads && 4 % quads == 0, "{plan:?}");
                let rows = plan.workgroups.iter().product::<u32>() * 4 * quads;
                assert!(rows as usize >= n && plan.workgroups[0] <= 65_535, "{plan:?}");
                let plan = matvec_small(&limits, FOUR_BITS, n, k, subgroup);
                let (threads, quads) = (constant(&plan, "THREADS"), constant(&plan, "QUADS"));
                assert!(threads.is_multiple_of(subgroup) && threads <= limits.workgroup_size, "{plan:?}");
                assert!(subgroup >= 4 * quads && threads >= 4 * quads, "{plan:?}");
                for float in Float::ALL {
                    let plan = matvec_dense(&limits, float, n, k, 8);
                    assert!(constant(&plan, "THREADS").is_multiple_of(subgroup), "{plan:?}");
                }
            }
            let plan = tiles(&limits, 4096, 512);
            assert!(constant(&plan, "THREADS") <= limits.workgroup_size, "{plan:?}");
            let tokens = constant(&plan, "THREADS") / 4 * plan.workgroups[0];
            assert_eq!((tokens, plan.workgroups[1] as usize * TILE_SIDE), (512, 4096));
        }
    }

    #[test]
    fn a_small_matrix_keeps_all_processors_busy() {
        let plan = matvec(&limits(32), FOUR_BITS, 1024, 2048, 1, 32);
        assert_eq!((constant(&plan, "QUADS"), plan.workgroups), (2, [128, 1, 1]));
        let long = matvec(&limits(32), FOUR_BITS, 1024, 4096, 1, 32);
        assert_eq!((constant(&long, "QUADS"), long.workgroups), (4, [64, 1, 1]), "its rows are long");
        let plan = matvec(&limits(32), FOUR_BITS, 14_336, 4096, 1, 32);
        assert_eq!((constant(&plan, "QUADS"), plan.workgroups), (4, [896, 1, 1]));
    }

    #[test]
    fn cooperative_matrices_are_used_where_they_are_and_pay() {
        let with = limits(32);
        for (n, tokens, tile, grid) in [
            (14_336, 512, [4, 2], [4, 112, 1]),
            (4096, 512, [2, 2], [8, 32, 1]),
            (1024, 512, [2, 1], [8, 16, 1]),
        ] {
            let plan = COOP.plan(&with, n, tokens).expect("pays");
            assert_eq!((plan.variant, plan.workgroups), (COOPERATIVE, grid));
            assert_eq!([constant(&plan, "FM"), constant(&plan, "FN")], tile);
        }
        assert!(COOP.plan(&with, 4096, 16).is_none(), "few tokens");
        assert!(COOP.plan(&GpuLimits { matrix_side: 0, ..with.clone() }, 4096, 512).is_none());
        assert!(COOP.plan(&limits(64), 4096, 512).is_none(), "another subgroup size");
        assert!(COOP8.plan(&with, 4096, 512).is_none(), "another side");
        let apple = GpuLimits { matrix_side: 8, shared_memory: 32 << 10, processors: 16, ..with.clone() };
        for (n, tokens, tile, grid) in
            [(4096, 512, 4, [8, 64, 1]), (512, 128, 2, [4, 8, 1]), (4096, 9, 2, [1, 64, 1])]
        {
            let plan = COOP8.plan(&apple, n, tokens).expect("pays");
            assert_eq!((plan.variant, plan.workgroups), (COOPERATIVE8, grid));
            assert_eq!(constant(&plan, "FM"), tile);
        }
        assert!(COOP.plan(&apple, 4096, 512).is_none(), "another side");
        assert!(COOP8.plan(&GpuLimits { workgroup_size: 64, ..apple }, 4096, 512).is_none(), "small");
        let small = GpuLimits { shared_memory: 32 << 10, ..with };
        assert_eq!(constant(&COOP.plan(&small, 14_336, 2048).expect("fits"), "FN"), 1);
    }
}
