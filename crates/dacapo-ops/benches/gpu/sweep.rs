//! The same products with every way of dividing them: what the tables of `ops/matmul/gpu.rs` are chosen from.

use std::sync::Mutex;

use dacapo::cpu::CpuPlan;
use dacapo::gpu::{GpuNeeds, GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, Buffer, CommandEncoder, CpuTwin, Device, Dispatch, Kernel, OpKind, Result};
use dacapo_ops::Weight;

use super::{FAR, Product, WORK, weight};

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../src/ops/matmul/", $name))
    };
}

/// The texts of products of int8 activations, with a plan from outside.
static KERNEL: Kernel = Kernel {
    name: "sweep",
    kind: OpKind::Matmul,
    bindings: &[Binding::read("codes"), Binding::read("meta"), Binding::read("weight"), Binding::write("y")],
    cpu: CpuTwin { plan: |_| CpuPlan::new(0, 0), run: |_| {} },
    gpu: Some(&TWIN),
};

static TWIN: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new(
            "matvec",
            &[
                text!("bind_int8.wgsl"),
                text!("activations_stored.wgsl"),
                text!("weight_one.wgsl"),
                text!("panels.wgsl"),
                text!("matvec_int8.wgsl"),
                text!("matvec.wgsl"),
            ],
        ),
        Wgsl::new(
            "tile",
            &[
                text!("bind_int8.wgsl"),
                text!("weight_one.wgsl"),
                text!("panels.wgsl"),
                text!("tile.wgsl"),
                text!("tile_int8.wgsl"),
            ],
        ),
        Wgsl::new(
            "coop",
            &[
                text!("enable_coop.wgsl"),
                text!("bind_int8.wgsl"),
                text!("weight_one.wgsl"),
                text!("panels.wgsl"),
                text!("coop_operands.wgsl"),
                text!("coop_int8.wgsl"),
            ],
        )
        .needs(GpuNeeds { f16: true, matrix_side: 16 }),
        Wgsl::new(
            "small",
            &[
                text!("bind_int8.wgsl"),
                text!("activations_stored.wgsl"),
                text!("weight_one.wgsl"),
                text!("panels.wgsl"),
                text!("matvec_int8.wgsl"),
                text!("matvec_small.wgsl"),
            ],
        ),
    ],
    plan: |_| PLAN.lock().expect("nobody panics with it").clone().expect("set before dispatches"),
};

static PLAN: Mutex<Option<GpuPlan>> = Mutex::new(None);

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    format: [u32; 2],
    n: u32,
    k: u32,
    tokens: u32,
}

/// Records a product as [`PLAN`] says.
pub fn dispatch(
    encoder: &mut CommandEncoder,
    product: &Product<'_>,
    weight: &Weight,
    out: &Buffer,
) -> Result<()> {
    let (codes, meta) = product.activation.int8_buffers().expect("quantized");
    let params = Params {
        format: weight.format().encode(),
        n: weight.n() as u32,
        k: weight.k() as u32,
        tokens: (out.len() / weight.n()) as u32,
    };
    encoder.dispatch(
        Dispatch::new(&KERNEL).buffer(codes).buffer(meta).buffer(weight.data()).buffer(out).bytes(&params),
    )
}

/// The plan with the format that this module measures: 4 bits, affine, groups of 64, f16 scales.
fn with_format(plan: GpuPlan, k: usize) -> GpuPlan {
    plan.constant("BLOCKS", (k / 32) as u32)
        .constant("BITS", 4)
        .constant("SCALES", 1)
        .constant("GROUP", 64)
        .constant("FLOAT", 1)
}

fn set(plan: GpuPlan) {
    *PLAN.lock().expect("nobody panics with it") = Some(plan);
}

/// Shapes, and how many products run between two barriers.
const FEW: [(usize, usize, usize); 8] = [
    (1024, 1024, 2),
    (2048, 1024, 1),
    (3072, 1024, 2),
    (1024, 3072, 1),
    (2048, 2048, 1),
    (8192, 2048, 2),
    (14_336, 4096, 2),
    (151_936, 1024, 1),
];

/// Tunings of a shape with their times, the quickest first.
pub fn few(device: &Device, cpu: &Device, far: usize, best: usize) -> Result<()> {
    let format = super::FORMATS[0].1;
    let subgroup = device.info().gpu.as_ref().map_or(32, |limits| limits.subgroup_size);
    println!("\n{:<34} {:>9} {:>9}", "one token, microseconds for all", "barrier", "GB/s");
    for (n, k, beside) in FEW {
        let weight = weight(cpu, format, n, k)?;
        let copies = far.div_ceil(weight.byte_len()).max(2 * beside);
        let mut product = Product::new(device, &weight, 1, copies)?;
        product.record = dispatch;
        let count = (WORK / (FAR / far) / 4 / weight.byte_len()).clamp(copies, 4000).next_multiple_of(beside);
        let mut found = Vec::new();
        for quads in [1u32, 2, 4] {
            for threads in [1u32, 2, 4, 8, 16, 32].map(|subgroups| subgroups * subgroup) {
                // Nobody without work, and not too much of it.
                let (slots, blocks) = (threads / quads, (k / 32) as u32);
                let plan = GpuPlan::linear(n.div_ceil(4 * quads as usize))
                    .constant("THREADS", threads)
                    .constant("SUBGROUP", subgroup)
                    .constant("QUADS", quads);
                if 4 * quads <= subgroup && slots <= 4 * blocks && blocks <= 4 * slots {
                    set(with_format(plan.clone().variant(3), k));
                    let seconds = product.seconds(count, beside)? * beside as f64;
                    found.push((seconds, format!("small quads {quads} threads {threads}")));
                }
                if slots > blocks || blocks > 16 * slots {
                    continue;
                }
                for pairs in [0u32, 1] {
                    if pairs == 1 && blocks < 2 * slots {
                        continue;
                    }
                    let plan = plan.clone().constant("TOKENS", 1).constant("PAIRS", pairs);
                    set(with_format(plan, k));
                    let seconds = product.seconds(count, beside)? * beside as f64;
                    found.push((seconds, format!("quads {quads} threads {threads} pairs {pairs}")));
                }
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        println!("{beside} x {n}x{k}");
        for (seconds, name) in found.into_iter().take(best) {
            let rate = (beside * weight.byte_len()) as f64 / seconds / 1e9;
            println!("    {name:<30} {:>9.2} {rate:>9.0}", seconds * 1e6);
        }
    }
    Ok(())
}

/// Texts for many tokens.
pub fn many(device: &Device, cpu: &Device, tokens: usize) -> Result<()> {
    let format = super::FORMATS[0].1;
    let Some(limits) = device.info().gpu.clone() else { return Ok(()) };
    let threads = 1u32 << limits.workgroup_size.clamp(16, 256).ilog2();
    println!("\n{:<34} {:>9} {:>9}", format!("{tokens} tokens"), "us", "TFLOP/s");
    for (n, k) in
        [(1024, 1024), (3072, 1024), (1024, 3072), (2048, 2048), (8192, 2048), (4096, 4096), (14_336, 4096)]
    {
        let weight = weight(cpu, format, n, k)?;
        let mut product = Product::new(device, &weight, tokens, 2)?;
        product.record = dispatch;
        let grid = |side: usize, rows: usize| [tokens.div_ceil(side) as u32, n.div_ceil(rows) as u32, 1];
        let tile = GpuPlan::new(grid(threads as usize / 4, 64)).variant(1).constant("THREADS", threads);
        let mut plans = vec![("tile", tile)];
        if TWIN.variants[2].needs.met_by(&limits) && limits.subgroup_size == 32 {
            for (name, tokens, rows) in [
                ("coop 128x128", 128, 128),
                ("coop 128x64", 128, 64),
                ("coop 64x128", 64, 128),
                ("coop 64x64", 64, 64),
            ] {
                let plan = GpuPlan::new(grid(tokens, rows)).variant(2);
                let plan = plan.constant("FM", (tokens / 32) as u32).constant("FN", (rows / 64) as u32);
                plans.push((name, plan));
            }
        }
        let ops = 2.0 * (n * k * tokens) as f64;
        let count = (1e12 / ops).clamp(1.0, 100.0) as usize;
        for (name, plan) in plans {
            set(with_format(plan, k));
            let seconds = product.seconds(count, 1)?;
            println!(
                "{:<34} {:>9.1} {:>9.1}",
                format!("{n}x{k} {name}"),
                seconds * 1e6,
                ops / seconds / 1e12
            );
        }
    }
    Ok(())
}
