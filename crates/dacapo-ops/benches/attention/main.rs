//! Speed of attention on a Vulkan device.
//!
//! `cargo bench -p dacapo-ops --bench attention -- DEVICE [FILTER]`, DEVICE being the index or a part of the name. One
//! token over caches of some layers, one after the other with barriers, in microseconds for a layer and GB of keys and
//! values per second; prompts in TFLOP/s. Times are those of whole command buffers, the quickest of some. With `step` as the filter:
//! graphs of one token with the rotation before attention and in it. With `sweep`: the ways of dividing the latter.

mod step;
mod sweep;

use std::time::Instant;

use dacapo::{Buffer, DType, Device, DeviceOptions, DeviceSelect, Result};
use dacapo_ops::AttentionOptions;

/// Runs of which the quickest counts.
const RUNS: usize = 5;

/// Name, query heads, heads of the cache, elements of a head, layers.
const MODELS: [(&str, usize, usize, usize, usize); 3] =
    [("llama-8b", 32, 8, 128, 32), ("llama-1b", 32, 8, 64, 16), ("qwen3-0.6b", 16, 8, 128, 28)];

/// Positions that a cache holds, and how many slots it has.
const DEPTHS: [(usize, usize); 7] =
    [(100, 512), (100, 4096), (512, 512), (512, 4096), (1024, 4096), (4096, 4608), (32_768, 32_768)];

/// Attention of `tokens` queries, the last at position `depth - 1`.
struct Bench {
    q: Buffer,
    out: Buffer,
    step: Buffer,
    caches: Vec<(Buffer, Buffer)>,
}

impl Bench {
    fn new(
        device: &Device,
        [tokens, heads, kv_heads, dim, layers]: [usize; 5],
        (depth, slots): (usize, usize),
    ) -> Result<Self> {
        let values: Vec<f32> = (0..tokens * heads * dim).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
        let cache = || device.alloc(DType::F16, &[kv_heads, slots, dim]);
        Ok(Bench {
            q: device.upload(&values, &[tokens, heads, dim])?,
            out: device.alloc(DType::F32, &[tokens, heads, dim])?,
            step: device.upload(&[(depth - tokens) as u32], &[1])?,
            caches: (0..layers).map(|_| Ok((cache()?, cache()?))).collect::<Result<_>>()?,
        })
    }

    /// Seconds for a layer.
    fn seconds(&self, device: &Device) -> Result<f64> {
        let mut best = f64::INFINITY;
        // So often that submitting does not count.
        const TURNS: usize = 8;
        for _ in 0..=RUNS {
            let mut encoder = device.encoder("bench")?;
            for (k, v) in (0..TURNS).flat_map(|_| &self.caches) {
                let options = AttentionOptions::causal(0.1);
                dacapo_ops::attention(&mut encoder, &self.q, k, v, &self.step, None, &self.out, options)?;
            }
            let start = Instant::now();
            encoder.commit_and_wait()?;
            best = best.min(start.elapsed().as_secs_f64() / (TURNS * self.caches.len()) as f64);
        }
        Ok(best)
    }
}

/// Whether this is a software device, for which everything is smaller.
fn is_slow(device: &Device) -> bool {
    device.info().gpu.as_ref().is_some_and(|limits| limits.subgroup_size < 16)
}

/// Depths and slots for [`steps`] and [`sweeps`].
fn depths(device: &Device) -> &'static [(usize, usize)] {
    const ALL: [(usize, usize); 4] = [(128, 4096), (512, 4096), (4096, 4608), (32_768, 32_768)];
    if is_slow(device) { &ALL[..2] } else { &ALL }
}

fn shape((_, heads, kv_heads, dim, layers): (&str, usize, usize, usize, usize), slow: bool) -> step::Shape {
    step::Shape { heads, kv_heads, dim, layers: if slow { 2 } else { layers } }
}

/// A layer's rotation and attention, in groups of their own and in one.
fn steps(device: &Device) -> Result<()> {
    println!("{:<40} {:>19} {:>27}", "one token, in us a layer (groups)", "rotation before", "in attention");
    for model in MODELS {
        for &depth in depths(device) {
            let [(old, old_groups), (new, groups)] =
                step::seconds(device, shape(model, is_slow(device)), depth)?;
            let rate = |seconds: f64| (depth.0 * model.2 * model.3 * 4) as f64 / seconds / 1e9;
            println!(
                "{:<40} {:>7.1} ({old_groups:.1}) {:>6.0} GB/s {:>7.1} ({groups:.1}) {:>6.0} GB/s",
                format!("step {} depth {} of {}", model.0, depth.0, depth.1),
                old * 1e6,
                rate(old),
                new * 1e6,
                rate(new),
            );
        }
    }
    Ok(())
}

/// The quickest ways of dividing each step.
fn sweeps(device: &Device) -> Result<()> {
    println!("{:<50} {:>9} {:>9}", "one token, without what puts splits together", "us", "GB/s");
    let slow = is_slow(device);
    for model in MODELS {
        for &(depth, _) in &depths(device)[..if slow { 1 } else { 4 }] {
            println!("{} depth {depth}", model.0);
            sweep::all(device, shape(model, slow), depth, if slow { 2 } else { 8 })?;
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let device = args.next().unwrap_or_else(|| "0".into());
    let filter = args.next().unwrap_or_default();
    let select = device.parse().map_or(DeviceSelect::Name(device), DeviceSelect::Index);
    let device = Device::open(DeviceOptions::vulkan(select))?;
    println!("{}\n", device.info().name);
    match filter.as_str() {
        "step" => return steps(&device),
        "sweep" => return sweeps(&device),
        _ => {}
    }
    println!("{:<40} {:>9} {:>9}", "one token", "us", "GB/s");
    for (model, heads, kv_heads, dim, layers) in MODELS {
        for depth in DEPTHS {
            let name = format!("one {model} depth {} of {}", depth.0, depth.1);
            if !name.contains(&filter) {
                continue;
            }
            let seconds = Bench::new(&device, [1, heads, kv_heads, dim, layers], depth)?.seconds(&device)?;
            let bytes = (depth.0 * kv_heads * dim * 4) as f64;
            println!("{name:<40} {:>9.1} {:>9.0}", seconds * 1e6, bytes / seconds / 1e9);
        }
    }
    println!("\n{:<40} {:>9} {:>9}", "prompts", "us", "TFLOP/s");
    for (model, heads, kv_heads, dim, _) in MODELS {
        for tokens in [32, 512, 2048] {
            let name = format!("prompt {model} {tokens}");
            if !name.contains(&filter) {
                continue;
            }
            let shape = [tokens, heads, kv_heads, dim, 2];
            let seconds = Bench::new(&device, shape, (tokens, tokens))?.seconds(&device)?;
            let operations = (2 * tokens * (tokens + 1) * heads * dim) as f64;
            println!("{name:<40} {:>9.1} {:>9.2}", seconds * 1e6, operations / seconds / 1e12);
        }
    }
    Ok(())
}
