//! Attention of one token with the rotation before it: as a layer's graph has it with the whole table of fusions, and without
//! the rows that make one dispatch of both.

use std::time::Instant;

use dacapo::{Buffer, DType, Device, FusePattern, GraphOptions, Result, ScheduleOptions};
use dacapo_ops::{AttentionOptions, FUSIONS, RopeOptions};

use super::RUNS;

/// Head counts, elements of a head, layers.
#[derive(Clone, Copy)]
pub struct Shape {
    pub heads: usize,
    pub kv_heads: usize,
    pub dim: usize,
    pub layers: usize,
}

/// The table without rows that end in attention and begin before it.
fn shorter() -> Vec<FusePattern> {
    let rotates = |row: &&FusePattern| {
        row.steps.len() == 3 && row.steps[2].select != dacapo::Selector::Kernel("kv_write")
    };
    FUSIONS.iter().filter(|row| !rotates(row)).copied().collect()
}

/// Positions from the lowest frequency down.
pub fn inv_freq(device: &Device, dim: usize) -> Result<Buffer> {
    let pairs = dim / 2;
    let values: Vec<f32> = (0..pairs).map(|i| 10_000_f32.powf(-(i as f32) / pairs as f32)).collect();
    device.upload(&values, &[pairs])
}

/// Seconds and groups of a layer without and with the rows. In a layer are besides: a copy of the layer before's
/// result, which stands for the products between; and what puts splits together.
pub fn seconds(device: &Device, shape: Shape, (depth, slots): (usize, usize)) -> Result<[(f64, f64); 2]> {
    let Shape { heads, kv_heads, dim, layers } = shape;
    let value = |heads: usize| device.transient(DType::F32, &[1, heads, dim]);
    let ones = device.upload(&vec![0.5_f32; heads * dim], &[1, heads, dim])?;
    let fewer = ones.slice_view(0, &[1, kv_heads, dim])?;
    let (step, inv_freq) = (device.upload(&[depth as u32 - 1], &[1])?, inv_freq(device, dim)?);
    let mut enc = device.encoder("bench")?;
    enc.start_capture()?;
    let mut before = ones.clone();
    for _ in 0..layers {
        let [q, k, v] = [value(heads)?, value(kv_heads)?, value(kv_heads)?];
        let cache = || device.alloc(DType::F16, &[kv_heads, slots, dim]);
        let [k_cache, v_cache] = [cache()?, cache()?];
        dacapo_ops::copy(&mut enc, &before, &q)?;
        dacapo_ops::copy(&mut enc, &fewer, &k)?;
        dacapo_ops::copy(&mut enc, &fewer, &v)?;
        dacapo_ops::rope(&mut enc, &q, &inv_freq, &step, RopeOptions::default())?;
        dacapo_ops::rope(&mut enc, &k, &inv_freq, &step, RopeOptions::default())?;
        dacapo_ops::kv_write(&mut enc, &k, &v, &step, &k_cache, &v_cache)?;
        before = device.alloc(DType::F32, &[1, heads, dim])?;
        let options = AttentionOptions::causal(0.1);
        dacapo_ops::attention(&mut enc, &q, &k_cache, &v_cache, &step, None, &before, options)?;
    }
    let graph = enc.take_capture()?;
    let time = |fuse: Vec<FusePattern>| -> Result<(f64, f64)> {
        let options = GraphOptions { fuse: fuse.leak(), ..GraphOptions::default() };
        let compiled = graph.compile(device, "bench", &options)?;
        let (fused, _) = graph.fuse(device, options.fuse);
        let groups = fused.reorder(&ScheduleOptions::default()).1.groups as f64 / layers as f64;
        let mut best = f64::INFINITY;
        for _ in 0..=RUNS {
            // Some queued ahead, so that submitting hardly counts.
            let start = Instant::now();
            for _ in 0..3 {
                compiled.replay()?;
            }
            compiled.replay()?.wait()?;
            best = best.min(start.elapsed().as_secs_f64() / (4 * layers) as f64);
        }
        Ok((best, groups))
    };
    Ok([time(shorter())?, time(FUSIONS.to_vec())?])
}
