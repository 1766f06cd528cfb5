//! Records a small forward pass of its own kernels, optimizes it, and replays it for many steps. No model needed.
//!
//! Run with `cargo run -p dacapo --release --example graph`.
//!
//! The pass is a toy of eight layers over a hidden vector: `left` and `right` are two projections of the hidden
//! vector, `scale` multiplies one, `gate` combines them, and the result is added to the hidden vector.

use dacapo::cpu::{CpuPlan, Split};
use dacapo::{
    Binding, Buffer, CpuTwin, DType, Device, DeviceOptions, Dispatch, FusePattern, FuseStep, GraphExecutor,
    GraphOptions, GraphSession, Kernel, Link, OpKind, PassReports, Result, Selector,
};

const WIDTH: usize = 256;
const LAYERS: usize = 8;
const STEPS: usize = 1000;

/// `y = W x`, one row of the matrix a tile element.
static PROJECT: Kernel = Kernel {
    name: "project",
    kind: OpKind::Matmul,
    bindings: &[Binding::read("w"), Binding::read("x"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(2).div_ceil(32), 1).split(2, Split::chunks(32)),
        run: |tile| {
            let (w, x) = (tile.read::<f32>(0), tile.read::<f32>(1));
            let mut y = tile.write::<f32>(2);
            let first = y.first_col();
            for (i, y) in y.slice().iter_mut().enumerate() {
                let row = &w[(first + i) * x.len()..][..x.len()];
                *y = row.iter().zip(x).map(|(w, x)| w * x).sum();
            }
        },
    },
    gpu: None,
};

/// `y = s x`.
static SCALE: Kernel = Kernel {
    name: "scale",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("x"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(1).div_ceil(64), 1).split(1, Split::chunks(64)),
        run: |tile| {
            let (s, x) = (tile.params::<f32>(), tile.read::<f32>(0));
            let mut y = tile.write::<f32>(1);
            let first = y.first_col();
            y.slice().iter_mut().enumerate().for_each(|(i, y)| *y = s * x[first + i]);
        },
    },
    gpu: None,
};

/// `y = a tanh(b)`.
static GATE: Kernel = Kernel {
    name: "gate",
    kind: OpKind::Activation,
    bindings: &[Binding::read("a"), Binding::read("b"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(2).div_ceil(64), 1).split(2, Split::chunks(64)),
        run: |tile| {
            let (a, b) = (tile.read::<f32>(0), tile.read::<f32>(1));
            let mut y = tile.write::<f32>(2);
            let first = y.first_col();
            y.slice().iter_mut().enumerate().for_each(|(i, y)| *y = a[first + i] * b[first + i].tanh());
        },
    },
    gpu: None,
};

/// `y = (s a) tanh(b)`: `scale` and `gate` in one.
static SCALED_GATE: Kernel = Kernel {
    name: "scaled_gate",
    kind: OpKind::Activation,
    bindings: &[Binding::read("a"), Binding::read("b"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(2).div_ceil(64), 1).split(2, Split::chunks(64)),
        run: |tile| {
            let (s, a, b) = (tile.params::<f32>(), tile.read::<f32>(0), tile.read::<f32>(1));
            let mut y = tile.write::<f32>(2);
            let first = y.first_col();
            y.slice().iter_mut().enumerate().for_each(|(i, y)| *y = (s * a[first + i]) * b[first + i].tanh());
        },
    },
    gpu: None,
};

/// `x += y`.
static ADD: Kernel = Kernel {
    name: "add",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read_write("x"), Binding::read("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(0).div_ceil(64), 1).split(0, Split::chunks(64)),
        run: |tile| {
            let y = tile.read::<f32>(1);
            let mut x = tile.write::<f32>(0);
            let first = x.first_col();
            x.slice().iter_mut().enumerate().for_each(|(i, x)| *x += y[first + i]);
        },
    },
    gpu: None,
};

/// What may be fused. The engine checks that nobody can tell.
static FUSIONS: [FusePattern; 1] = [FusePattern {
    name: "scale into gate",
    steps: &[
        FuseStep { select: Selector::Kernel("scale"), link: Link::Reads },
        FuseStep { select: Selector::Kernel("gate"), link: Link::Reads },
    ],
    build: |found| {
        let (a, b, y) = (found.buffer(0, 0)?, found.buffer(1, 1)?, found.buffer(1, 2)?);
        let s: f32 = found.params(0)?;
        Some(Dispatch::new(&SCALED_GATE).buffer(&a).buffer(&b).buffer(&y).bytes(&s))
    },
    // A real table has the figures of measurements here.
    spread: false,
    gains: &[],
}];

/// Records one pass. Every intermediate value is a buffer of its own: the memory pass decides what shares memory.
fn record(session: &mut GraphSession, weights: &[[Buffer; 2]], hidden: &Buffer) -> Result<()> {
    let device = session.device().clone();
    let value = || device.transient(DType::F32, &[WIDTH]);
    for [left, right] in weights {
        let (a, b, scaled, gated) = (value()?, value()?, value()?, value()?);
        session.dispatch(Dispatch::new(&PROJECT).buffer(left).buffer(hidden).buffer(&a))?;
        session.dispatch(Dispatch::new(&SCALE).buffer(&a).buffer(&scaled).bytes(&0.5_f32))?;
        session.dispatch(Dispatch::new(&PROJECT).buffer(right).buffer(hidden).buffer(&b))?;
        session.dispatch(Dispatch::new(&GATE).buffer(&scaled).buffer(&b).buffer(&gated))?;
        session.dispatch(Dispatch::new(&ADD).buffer(hidden).buffer(&gated))?;
    }
    Ok(())
}

fn print(title: &str, reports: &PassReports) {
    println!("{title}");
    if let Some(fuse) = &reports.fuse {
        println!("  fuse:     {} dispatches became {}", fuse.dispatches_before, fuse.dispatches);
        for fused in fuse.fused.iter().take(2) {
            println!("            {:?}: {:?} into {}", fused.pattern, fused.nodes, fused.kernel);
        }
    }
    if let Some(schedule) = &reports.schedule {
        println!(
            "  schedule: {} dispatches in {} groups (before: {}, lower bound: {}), {} moved",
            schedule.dispatches,
            schedule.groups,
            schedule.groups_before,
            schedule.lower_bound,
            schedule.moved
        );
    }
    let memory = reports.memory;
    println!(
        "  memory:   {} values of {} bytes in an arena of {} (lower bound: {})",
        memory.transients, memory.sum_bytes, memory.peak_bytes, memory.lower_bound
    );
}

fn main() -> Result<()> {
    let device = Device::open(DeviceOptions::default())?;
    let matrix = |seed: usize| {
        let cell = |i: usize| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5;
        device.upload(&(0..WIDTH * WIDTH).map(|i| 0.02 * cell(i)).collect::<Vec<_>>(), &[WIDTH, WIDTH])
    };
    let weights = (0..LAYERS)
        .map(|layer| Ok([matrix(2 * layer)?, matrix(2 * layer + 1)?]))
        .collect::<Result<Vec<_>>>()?;
    let start: Vec<f32> = (0..WIDTH).map(|i| (i as f32).sin()).collect();
    let hidden = device.upload(&start, &[WIDTH])?;

    let mut session = GraphExecutor::new(&device).begin_recorded("toy")?;
    record(&mut session, &weights, &hidden)?;
    let graph = session.into_graph()?;

    let plain = graph.compile(&device, "recorded", &GraphOptions::recorded())?;
    let options = GraphOptions { fuse: &FUSIONS, ..GraphOptions::default() };
    let optimized = graph.compile(&device, "optimized", &options)?;
    print("as recorded", plain.reports());
    print("optimized", optimized.reports());
    println!("  barriers: {} in place of {}", optimized.counters().barriers, plain.counters().barriers);

    let run = |compiled: &dacapo::CompiledGraph| -> Result<Vec<f32>> {
        hidden.copy_from(&start)?;
        for _ in 1..STEPS {
            compiled.replay()?;
        }
        compiled.replay()?.wait()?;
        hidden.to_vec()
    };
    let same = run(&plain)? == run(&optimized)?;
    println!("{STEPS} replays of each: {}", if same { "the same bytes" } else { "DIFFERENT BYTES" });
    Ok(())
}
