//! Attention of few queries over long caches: the positions are split among workgroups, and a second kernel puts
//! together what they found (flash-decoding: Dao, Haziza, Massa and Sizov, 2023). On the CPU among threads, if there are more of them
//! than heads of the cache, or not as many for each: the result is the same bits as in one piece.
//!
//! How long a context is stands on the device, so a recorded graph has as many splits as the cache may need. A GPU's kernel
//! cuts the positions that there are into as many parts; below [`LEAST_SPLIT`] each they become fewer, and workgroups
//! without positions end at once. The CPU's always cuts parts of [`CPU_PART`].

use dacapo::gpu::GpuLimits;
use dacapo::{Binding, CommandEncoder, CpuTwin, DType, Dispatch, Kernel, OpKind, Result};

use super::cpu::PART as CPU_PART;
use super::{Arguments, Params, cpu, gpu};

/// Positions that a split has at least on a GPU, the last apart. `params.wgsl` has it too.
const LEAST_SPLIT: usize = 64;
/// Slots of a cache from which on a second kernel is worth its time. Measured on an H200: with 512 slots filled, a layer of
/// Llama 8B takes 15 microseconds in two kernels and 41 in one; with 100 filled, 14 either way.
const LONG: usize = 192;
/// Queries up to which positions are split: more keep a device busy as they are.
const FEW: usize = 8;
/// Splits at most.
const MOST: usize = 128;

/// Values of a split: maximum, sum of weights and two that mean nothing, then the weighted sum of values, filled up
/// to groups of eight.
pub(super) fn row_len(p: &Params) -> usize {
    4 + (p.value_dim as usize).next_multiple_of(8)
}

/// A split's share of attention.
pub static ATTENTION_PART: Kernel = Kernel {
    name: "attention_part",
    kind: OpKind::Attention,
    bindings: &[
        Binding::read("q"),
        Binding::read("k_cache"),
        Binding::read("v_cache"),
        Binding::read("step"),
        Binding::write("found"),
    ],
    cpu: CpuTwin { plan: cpu::split::plan_part, run: cpu::split::run_part },
    gpu: Some(&gpu::PART),
};

/// Attention from the shares of splits.
pub static ATTENTION_COMBINE: Kernel = Kernel {
    name: "attention_combine",
    kind: OpKind::Attention,
    bindings: &[Binding::read("found"), Binding::read("step"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::split::plan_combine::<2>, run: cpu::split::run_combine },
    gpu: Some(&gpu::COMBINE),
};

/// Attention from the shares of splits, with sinks.
pub static ATTENTION_COMBINE_SINKS: Kernel = Kernel {
    name: "attention_combine_sinks",
    kind: OpKind::Attention,
    bindings: &[Binding::read("found"), Binding::read("step"), Binding::read("sinks"), Binding::write("out")],
    cpu: CpuTwin { plan: cpu::split::plan_combine::<3>, run: cpu::split::run_combine_sinks },
    gpu: Some(&gpu::COMBINE_SINKS),
};

/// Tiles into which the CPU divides the parts of a head of the cache: enough of them for many threads, few enough that those
/// without work cost nothing.
pub(super) fn tiles_of_head(p: &Params) -> usize {
    const TILES: u32 = 32;
    TILES.div_ceil(p.kv_heads).clamp(1, p.splits) as usize
}

/// Parts on a CPU with so many threads: 1 where heads of the cache are work enough for all of them.
fn splits_on_cpu(p: &Params, positions: usize, threads: usize) -> usize {
    let heads = p.kv_heads as usize;
    let busy = heads.is_multiple_of(threads) || heads >= 4 * threads;
    if p.tokens > 1 || busy || positions < 2 * CPU_PART {
        return 1;
    }
    // Positions need not begin where a part does.
    let splits = positions.div_ceil(CPU_PART) + 1;
    splits.next_multiple_of(tiles_of_head(&Params { splits: splits as u32, ..*p }))
}

/// Into how many parts positions are cut: 1 for not at all.
pub(super) fn splits(p: &Params, gpu: Option<&GpuLimits>, threads: usize) -> usize {
    let (capacity, window) = (p.capacity as usize, p.window as usize);
    let positions = if window > 0 { capacity.min(window) } else { capacity };
    let Some(limits) = gpu else { return splits_on_cpu(p, positions, threads) };
    if p.tokens as usize > FEW || positions < LONG {
        return 1;
    }
    // Two workgroups for each processor hide what one waits for.
    let wanted = 2 * limits.processors as usize;
    let there = gpu::workgroups_of_heads(p, limits) as usize * p.tokens as usize;
    wanted.div_ceil(there.max(1)).min(positions / LEAST_SPLIT).clamp(1, MOST)
}

/// Attention in `splits` parts.
pub(super) fn attention(
    enc: &mut CommandEncoder,
    args: &Arguments<'_>,
    params: &Params,
    splits: usize,
) -> Result<()> {
    let params = Params { splits: splits as u32, ..*params };
    let rows = (params.tokens * params.heads) as usize * splits;
    let (device, shape) = (enc.device(), [rows, row_len(&params)]);
    // Outside of a graph there are no values without memory of their own.
    let found = if enc.is_capturing() {
        device.transient(DType::F32, &shape)
    } else {
        device.alloc(DType::F32, &shape)
    }?;
    let part = Dispatch::new(&ATTENTION_PART).buffer(args.q).buffer(args.k_cache).buffer(args.v_cache);
    enc.dispatch(part.buffer(args.step).buffer(&found).bytes(&params))?;
    let kernel = if args.sinks.is_some() { &ATTENTION_COMBINE_SINKS } else { &ATTENTION_COMBINE };
    let mut combine = Dispatch::new(kernel).buffer(&found).buffer(args.step);
    if let Some(sinks) = args.sinks {
        combine = combine.buffer(sinks);
    }
    enc.dispatch(combine.buffer(args.out).bytes(&params))
}
