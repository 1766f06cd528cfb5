//! Speed of the matrix products on a Vulkan device.
//!
//! `cargo bench -p dacapo-ops --bench gpu -- DEVICE [FILTER]`, DEVICE being the index or a part of the name. One token in
//! GB of panels read per second, with a barrier after each product and without, from weights that are far larger than the
//! device's caches; many tokens in TFLOP/s. Times are those of whole command buffers, the quickest of some. With `sweep`
//! as the filter the same products run with every way of dividing them.

mod sweep;

use std::time::Instant;

use dacapo::{Buffer, CommandEncoder, Device, DeviceOptions, DeviceSelect, Result};
use dacapo_ops::quant::{Float, Format, Ggml};
use dacapo_ops::{Activation, Int8Buffers, Weight, WeightSource};

/// Bytes of weights to go through before one is read again: many times any cache.
const FAR: usize = 512 << 20;
/// Bytes of weights that one command buffer reads, so that its submission does not count.
const WORK: usize = 4 << 30;
/// Runs of which the quickest counts.
const RUNS: usize = 5;

/// Shapes `[n, k]` of a model.
struct Model {
    name: &'static str,
    shapes: &'static [(usize, usize)],
}

const MODELS: [Model; 3] = [
    Model {
        name: "llama-8b",
        shapes: &[(4096, 4096), (1024, 4096), (14_336, 4096), (4096, 14_336), (128_256, 4096)],
    },
    Model {
        name: "llama-1b",
        shapes: &[(2048, 2048), (512, 2048), (8192, 2048), (2048, 8192), (128_256, 2048)],
    },
    Model {
        name: "qwen3-0.6b",
        shapes: &[(2048, 1024), (1024, 1024), (3072, 1024), (1024, 3072), (1024, 2048), (151_936, 1024)],
    },
];

const FORMATS: [(&str, Format); 2] = [
    ("affine4-g64", Format::Affine { bits: 4, group: 64, float: Float::F16 }),
    ("q4_0", Format::Ggml(Ggml::Q4_0)),
];

/// A weight with codes and scales that mean little.
fn weight(cpu: &Device, format: Format, n: usize, k: usize) -> Result<Weight> {
    let fill = |len: usize| (0..len).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect::<Vec<_>>();
    // The bytes of an f16 of about 0.1, wherever they are read from.
    let half = |len: usize| std::iter::repeat_n([0x66u8, 0x2e], len / 2).flatten().collect::<Vec<_>>();
    let upload = |bytes: Vec<u8>| cpu.upload(&bytes, &[bytes.len()]);
    let bytes = n * format.row_bytes(k);
    let (codes, scales) = match format {
        Format::Affine { .. } => {
            let scales = upload(half(n * format.row_scale_bytes(k)))?;
            (fill(bytes), Some((scales.clone(), scales)))
        }
        _ => (half(bytes), None),
    };
    Weight::load(cpu, &WeightSource { format, n, k, codes: upload(codes)?, scales })
}

/// A product to time: weights that differ in nothing but their place, and activations.
struct Product<'a> {
    device: &'a Device,
    weights: Vec<Weight>,
    activation: Activation,
    outs: Vec<Buffer>,
    record: fn(&mut CommandEncoder, &Product<'_>, &Weight, &Buffer) -> Result<()>,
}

impl<'a> Product<'a> {
    fn new(device: &'a Device, weight: &Weight, tokens: usize, copies: usize) -> Result<Self> {
        let (n, k) = (weight.n(), weight.k());
        let x: Vec<f32> = (0..tokens * k).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
        let x = device.upload(&x, &[tokens, k])?;
        let into = Int8Buffers::new(device, x.len())?;
        let mut encoder = device.encoder("quantize")?;
        let activation = Activation::quantize(&mut encoder, &x, &into)?;
        encoder.commit_and_wait()?;
        let weights = (0..copies).map(|_| weight.to_device(device)).collect::<Result<Vec<_>>>()?;
        let outs = (0..copies)
            .map(|_| device.alloc(dacapo::DType::F32, &[tokens, n]))
            .collect::<Result<Vec<_>>>()?;
        let record = |encoder: &mut CommandEncoder, product: &Product<'_>, weight: &Weight, out: &Buffer| {
            dacapo_ops::matmul(encoder, &product.activation, weight, None, out)
        };
        Ok(Product { device, weights, activation, outs, record })
    }

    /// Seconds for each of `count` products, with a barrier after every `beside`.
    fn seconds(&self, count: usize, beside: usize) -> Result<f64> {
        let mut best = f64::INFINITY;
        for _ in 0..=RUNS {
            let mut encoder = self.device.encoder("bench")?;
            for i in 0..count {
                let (weight, out) = (&self.weights[i % self.weights.len()], &self.outs[i % self.outs.len()]);
                (self.record)(&mut encoder, self, weight, out)?;
                if (i + 1) % beside == 0 {
                    encoder.memory_barrier();
                }
            }
            let start = Instant::now();
            encoder.commit_and_wait()?;
            best = best.min(start.elapsed().as_secs_f64() / count as f64);
        }
        Ok(best)
    }
}

fn one_line(device: &Device, name: &str, weight: &Weight, tokens: usize, far: usize) -> Result<()> {
    let bytes = weight.byte_len();
    let copies = far.div_ceil(bytes).max(2);
    let product = Product::new(device, weight, tokens, copies)?;
    // Few enough that submitting does not count, and enough for each copy to come by.
    let count = (WORK / (FAR / far) / bytes).clamp(copies, 4000);
    let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
    let (with, without) = (product.seconds(count, 1)?, product.seconds(count, usize::MAX)?);
    println!(
        "{name:<40} {:>9.1} {:>9.0} {:>9.1} {:>9.0}",
        with * 1e6,
        rate(with),
        without * 1e6,
        rate(without)
    );
    Ok(())
}

fn many_tokens(device: &Device, name: &str, weight: &Weight, tokens: usize) -> Result<()> {
    let product = Product::new(device, weight, tokens, 2)?;
    let ops = 2.0 * (weight.n() * weight.k() * tokens) as f64;
    let count = (2e12 / ops).clamp(1.0, 100.0) as usize;
    let seconds = product.seconds(count, 1)?;
    println!("{name:<40} {:>9.1} {:>9.1}", seconds * 1e6, ops / seconds / 1e12);
    Ok(())
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let device = args.next().unwrap_or_else(|| "0".into());
    let filter = args.next().unwrap_or_default();
    let select = device.parse().map_or(DeviceSelect::Name(device), DeviceSelect::Index);
    let device = Device::open(DeviceOptions::vulkan(select))?;
    let cpu = Device::open(DeviceOptions::default())?;
    // A software device would take minutes.
    let slow = device.info().gpu.as_ref().is_some_and(|limits| limits.subgroup_size < 16);
    let far = if slow { FAR / 64 } else { FAR };
    println!("{}\n", device.info().name);
    if filter == "sweep" {
        sweep::few(&device, &cpu, far, if slow { 2 } else { 8 })?;
        return sweep::many(&device, &cpu, if slow { 16 } else { 512 });
    }
    let wanted = |name: &str| name.contains(&filter);
    println!("{:<40} {:>19} {:>19}", "few tokens", "with barriers", "without");
    println!("{:<40} {:>9} {:>9} {:>9} {:>9}", "", "us", "GB/s", "us", "GB/s");
    for (format_name, format) in FORMATS {
        for model in &MODELS {
            for &(n, k) in model.shapes {
                for tokens in if (n, k) == (4096, 4096) { &[1, 2, 4, 8][..] } else { &[1] } {
                    let name = format!("few {} {format_name} {n}x{k} t{tokens}", model.name);
                    if wanted(&name) {
                        one_line(&device, &name, &weight(&cpu, format, n, k)?, *tokens, far)?;
                    }
                }
            }
        }
    }
    let tokens = if slow { 16 } else { 512 };
    println!("\n{:<40} {:>9} {:>9}", format!("{tokens} tokens"), "us", "TFLOP/s");
    for (format_name, format) in FORMATS {
        for model in &MODELS {
            for &(n, k) in model.shapes.iter().filter(|shape| shape.0 < 100_000) {
                let name = format!("many {} {format_name} {n}x{k}", model.name);
                if wanted(&name) {
                    many_tokens(&device, &name, &weight(&cpu, format, n, k)?, tokens)?;
                }
            }
        }
    }
    Ok(())
}
