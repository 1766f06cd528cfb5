//! What the graph engine makes of a model's decode step: groups, memory, time on the host, speed with each pass in turn.
//!
//! `cargo bench -p dacapo-lm --bench graph [-- MODEL...]`; without a model, the demo model. Times are medians; speeds are
//! medians of interleaved rounds.

use std::path::Path;
use std::time::{Duration, Instant};

use dacapo::{
    ComputeGraph, Device, DeviceOptions, GraphOptions, PassReports, ScheduleOptions, Strategy, Submission,
};
use dacapo_lm::{LoadOptions, Model, Stage, graph_options};

/// Positions of the context; as many steps are run at most.
const LENGTH: usize = 128;
/// Runs of everything that is timed on the host.
const RUNS: usize = 9;
/// Steps of one measurement of speed.
const STEPS: usize = 48;
/// Rounds of the speeds: at least, at most, and the time after which there is no further one.
const ROUNDS: (usize, usize) = (5, 101);
const ROUNDS_TIME: Duration = Duration::from_secs(20);

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result {
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

fn measure(name: &str, model: &Model) -> Result {
    println!("\n{name}: decode step at {LENGTH} positions");
    let graph = model.graph(Stage::Decode, LENGTH)?;
    passes(model.device(), &graph)?;
    host(model, &graph)?;
    prompt(model)?;
    speeds(model)
}

/// The passes, each added to those above it.
fn added() -> Vec<(&'static str, GraphOptions)> {
    let order = |strategy| GraphOptions {
        reorder: Some(ScheduleOptions::from(strategy)),
        ..GraphOptions::recorded()
    };
    vec![
        ("recorded", order(Strategy::Recorded)),
        ("look-ahead of 64", order(Strategy::LookAhead(64))),
        ("levels", order(Strategy::Levels)),
        ("fused, levels", graph_options()),
    ]
}

/// What each pass makes of the graph.
fn passes(device: &Device, graph: &ComputeGraph) -> Result {
    println!(
        "  {:<18} dispatches  groups  lower bound  moved  kB in a group: min, mean, max  threads: min, mean  activations (sum)",
        "pass"
    );
    for (label, options) in added() {
        let (_, PassReports { schedule, memory, .. }) = graph.optimize(device, &options)?;
        let r = schedule.ok_or("a schedule was asked for")?;
        let kb = |bytes: u64| bytes / 1000;
        println!(
            "  {label:<18} {:>10} {:>7} {:>12} {:>6}  {:>13} {:>6} {:>7}  {:>13} {:>6}  {:>9} ({})",
            r.dispatches,
            r.groups,
            r.lower_bound,
            r.moved,
            kb(r.group_bytes.min),
            kb(r.group_bytes.mean),
            kb(r.group_bytes.max),
            r.group_threads.min,
            r.group_threads.mean,
            memory.peak_bytes,
            memory.sum_bytes,
        );
    }
    let (recorded, _) = graph.optimize(device, &GraphOptions::recorded())?;
    let edges = graph.reorder(&ScheduleOptions::default()).1.edges;
    println!(
        "  pairs              {} in order, {} of a longest chain, {} of every longest chain; placed, the recorded order has {} groups",
        edges.read_after_write + edges.write_after_read + edges.write_after_write,
        edges.critical,
        edges.sole,
        recorded.reorder(&ScheduleOptions::from(Strategy::Recorded)).1.groups,
    );
    Ok(())
}

/// Median of some runs.
fn median<T>(mut run: impl FnMut() -> Result<T>) -> Result<(Duration, T)> {
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

/// Time on the host: once for a graph, and for each step.
fn host(model: &Model, graph: &ComputeGraph) -> Result {
    let device = model.device();
    let (record, _) = median(|| Ok(model.graph(Stage::Decode, LENGTH)?))?;
    let (optimize, _) = median(|| Ok(graph.optimize(device, &GraphOptions::default())?))?;
    let (compile, compiled) = median(|| Ok(graph.compile(device, "decode", &GraphOptions::default())?))?;
    println!(
        "  host, once         record {record:.1?} (with a session's memory), optimize {optimize:.1?}, compile {compile:.1?}"
    );
    let placed = graph.optimize(device, &GraphOptions::recorded())?.0;
    let (encode, _) = median(|| {
        let mut encoder = device.encoder("anew")?;
        Ok(placed.encode_sequential(&mut encoder)?)
    })?;
    // Behind a step that runs, as a generation does it: nobody has to be woken.
    let mut replays = Vec::with_capacity(RUNS);
    let mut running = compiled.replay()?;
    for _ in 0..RUNS {
        let start = Instant::now();
        let next = compiled.replay()?;
        replays.push(start.elapsed());
        std::mem::replace(&mut running, next).wait()?;
    }
    running.wait()?;
    replays.sort();
    let replay = replays[RUNS / 2];
    let ratio = encode.as_secs_f64() / replay.as_secs_f64();
    println!("  host, each step    encode anew {encode:.1?}, replay {replay:.1?} ({ratio:.0} times less)");
    Ok(())
}

/// Compiling a pass over a part of a prompt, against running it: what a cache of such passes saves at most.
fn prompt(model: &Model) -> Result {
    let device = model.device();
    let graph = model.graph(Stage::Prefill, LENGTH)?;
    let (compile, compiled) = median(|| Ok(graph.compile(device, "prefill", &GraphOptions::default())?))?;
    let (run, ()) = median(|| Ok(compiled.replay()?.wait()?))?;
    println!(
        "  prompt of {LENGTH}      compile {compile:.1?}, run {run:.1?} ({:.1} %)",
        100.0 * compile.as_secs_f64() / run.as_secs_f64()
    );
    Ok(())
}

/// A way to take decode steps.
struct Way {
    label: &'static str,
    /// `None` encodes each step anew.
    compiled: Option<GraphOptions>,
    /// Steps submitted before the first one's end is waited for.
    ahead: usize,
}

/// Each adds one thing to the one above it.
fn ways() -> Vec<Way> {
    let way = |label, compiled, ahead| Way { label, compiled, ahead };
    vec![
        way("encoded anew, recorded order", None, 1),
        way("+ compiled and replayed", Some(GraphOptions::recorded()), 1),
        way("+ reordered by levels", Some(GraphOptions::default()), 1),
        way("+ submitted ahead of results", Some(GraphOptions::default()), 2),
        way("+ fused", Some(graph_options()), 2),
    ]
}

impl Way {
    /// Seconds that a step takes, from position 1 on.
    fn run(&self, model: &Model) -> Result<f64> {
        // A graph of its own: each starts at position 0.
        let (device, graph) = (model.device(), model.graph(Stage::Decode, LENGTH)?);
        match &self.compiled {
            Some(options) => {
                let compiled = graph.compile(device, "decode", options)?;
                self.steps(|| Ok(compiled.replay()?))
            }
            None => {
                let placed = graph.optimize(device, &GraphOptions::recorded())?.0;
                self.steps(|| {
                    let mut encoder = device.encoder("anew")?;
                    placed.encode_sequential(&mut encoder)?;
                    Ok(encoder.commit()?)
                })
            }
        }
    }

    fn steps(&self, submit: impl Fn() -> Result<Submission>) -> Result<f64> {
        submit()?.wait()?;
        let start = Instant::now();
        let mut running = std::collections::VecDeque::new();
        for _ in 0..STEPS {
            running.push_back(submit()?);
            if running.len() == self.ahead {
                running.pop_front().ok_or("a step is running")?.wait()?;
            }
        }
        running.iter().try_for_each(Submission::wait)?;
        Ok(start.elapsed().as_secs_f64() / STEPS as f64)
    }
}

/// Tokens a second with each pass switched on in turn.
fn speeds(model: &Model) -> Result {
    let ways = ways();
    let mut times = vec![Vec::new(); ways.len()];
    let start = Instant::now();
    while times[0].len() < ROUNDS.0 || (times[0].len() < ROUNDS.1 && start.elapsed() < ROUNDS_TIME) {
        for (way, times) in ways.iter().zip(&mut times) {
            times.push(way.run(model)?);
        }
    }
    println!("  speed              median of {} interleaved rounds of {STEPS} steps", times[0].len());
    let middle = |times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    for (way, own) in ways.iter().zip(&times) {
        // Against the first in the same round: what slows the machine down slows both.
        let ratios: Vec<f64> = times[0].iter().zip(own).map(|(base, own)| base / own).collect();
        let speed = 1.0 / middle(own);
        println!("    {:<30} {speed:>8.1} tokens/s ({:.2}x)", way.label, middle(&ratios));
    }
    Ok(())
}
