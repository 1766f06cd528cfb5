//! What the graph engine makes of a model's decode step: groups, memory, time on the host, speed.
//!
//! `cargo bench -p dacapo-lm --bench graph [-- MODEL...]`; without a model, the demo model. Times are medians.

use std::path::Path;
use std::time::{Duration, Instant};

use dacapo::{ComputeGraph, Device, DeviceOptions, GraphOptions, ScheduleOptions, Strategy};
use dacapo_lm::{LoadOptions, Model, Stage, graph_options};

/// Positions of the context; as many steps are run at most.
const LENGTH: usize = 128;
/// Runs of everything that is timed on the host.
const RUNS: usize = 9;
/// Steps of one measurement of speed.
const STEPS: usize = 24;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let models: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let device = Device::open(DeviceOptions::default())?;
    if models.is_empty() {
        let options = LoadOptions::default();
        measure("demo", &Model::from_checkpoint(&device, &dacapo_lm::demo()?, &options, &mut |_| {})?)?;
    }
    for path in &models {
        measure(path, &Model::load(&device, Path::new(path), &LoadOptions::default(), &mut |_| {})?)?;
    }
    Ok(())
}

/// Median of some runs.
fn median<T>(mut run: impl FnMut() -> dacapo_lm::Result<T>) -> dacapo_lm::Result<(Duration, T)> {
    let mut times = Vec::with_capacity(RUNS);
    loop {
        let start = Instant::now();
        let result = run()?;
        times.push(start.elapsed());
        if times.len() == RUNS {
            times.sort();
            return Ok((times[RUNS / 2], result));
        }
    }
}

fn measure(name: &str, model: &Model) -> Result<(), Box<dyn std::error::Error>> {
    let device = model.device();
    println!("\n{name}: decode step at {LENGTH} positions");
    let graph = model.graph(Stage::Decode, LENGTH)?;
    println!("  order              dispatches  groups  lower bound  moved");
    for (label, strategy) in [
        ("recorded", Strategy::Recorded),
        ("look-ahead of 64", Strategy::LookAhead(64)),
        ("levels", Strategy::Levels),
    ] {
        let (_, r) = graph.reorder(&ScheduleOptions { strategy });
        println!("  {label:<18} {:>10} {:>7} {:>12} {:>6}", r.dispatches, r.groups, r.lower_bound, r.moved);
    }
    fusions(model, &graph)?;
    let (_, reports) = graph.optimize(device, &GraphOptions::default())?;
    let m = reports.memory;
    println!(
        "  activations        {} bytes at once, {} in all, lower bound {}",
        m.peak_bytes, m.sum_bytes, m.lower_bound
    );

    let (record, _) = median(|| model.graph(Stage::Decode, LENGTH))?;
    let (optimize, _) = median(|| Ok(graph.optimize(device, &GraphOptions::default())?))?;
    let (compile, compiled) = median(|| Ok(graph.compile(device, "decode", &GraphOptions::default())?))?;
    println!(
        "  host               record {record:.1?} (with a session's memory), optimize {optimize:.1?}, compile {compile:.1?}"
    );

    let placed = graph.optimize(device, &GraphOptions::recorded())?.0;
    let (encode, _) = median(|| {
        let mut encoder = device.encoder("anew")?;
        Ok(placed.encode_sequential(&mut encoder)?)
    })?;
    let mut replays = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        let submission = compiled.replay()?;
        replays.push(start.elapsed());
        submission.wait()?;
    }
    replays.sort();
    let replay = replays[RUNS / 2];
    let ratio = encode.as_secs_f64() / replay.as_secs_f64();
    println!("  host, each step    encode anew {encode:.1?}, replay {replay:.1?} ({ratio:.0} times less)");

    let rows = [
        ("recorded order", GraphOptions::recorded()),
        ("levels", GraphOptions::default()),
        ("fused, levels", graph_options()),
    ];
    let mut speeds = Vec::new();
    for (label, options) in rows {
        // A graph of its own: each starts at position 0.
        let compiled = model.graph(Stage::Decode, LENGTH)?.compile(device, "decode", &options)?;
        compiled.replay()?.wait()?;
        let start = Instant::now();
        let mut last = compiled.replay()?;
        for _ in 1..STEPS {
            last = compiled.replay()?;
        }
        last.wait()?;
        speeds.push((label, STEPS as f64 / start.elapsed().as_secs_f64()));
    }
    let placed = model.graph(Stage::Decode, LENGTH)?.optimize(device, &GraphOptions::recorded())?.0;
    let start = Instant::now();
    for _ in 0..STEPS {
        let mut encoder = device.encoder("anew")?;
        placed.encode_sequential(&mut encoder)?;
        encoder.commit_and_wait()?;
    }
    let base = STEPS as f64 / start.elapsed().as_secs_f64();
    println!("  speed              encoded anew and waited for each step: {base:.1} tokens/s");
    for (label, speed) in speeds {
        println!(
            "                     replayed behind each other, {label}: {speed:.1} tokens/s ({:.2}x)",
            speed / base
        );
    }
    Ok(())
}

/// The row of the table of fusions, and what the pass costs.
fn fusions(model: &Model, graph: &ComputeGraph) -> dacapo_lm::Result<()> {
    let (time, (fused, report)) = median(|| Ok(graph.fuse(model.device(), graph_options().fuse)))?;
    let (_, r) = fused.reorder(&ScheduleOptions { strategy: Strategy::Levels });
    let (optimize, _) = median(|| Ok(graph.optimize(model.device(), &graph_options())?))?;
    println!(
        "  fuse, levels       {:>10} {:>7} {:>12} {:>6}  {} fused in {time:.1?}, {} refused, optimize {optimize:.1?} in all",
        r.dispatches,
        r.groups,
        r.lower_bound,
        r.moved,
        report.fused.len(),
        report.refused.len()
    );
    Ok(())
}
