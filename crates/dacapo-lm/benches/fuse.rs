//! What fusing gains: the passes of a model with the table of fusions, with each of its rows alone and without each, and without any.
//!
//! `cargo bench -p dacapo-lm --bench fuse [-- MODEL... [--rounds N]]`; without a model, the demo model. All variants run in
//! every round, in turn. The first figure is the median over the rounds of the time without fusions divided by the time with
//! them, behind it the quartiles; the last is the same ratio of the fastest tenths, which other programs disturb less.

use std::path::Path;
use std::time::Instant;

use dacapo::{Buffer, CompiledGraph, Device, DeviceOptions, FusePattern, GraphOptions};
use dacapo_lm::{LoadOptions, Model, Stage};
use dacapo_ops::FUSIONS;

/// Where decode steps begin.
const POSITION: usize = 64;
/// Tokens of a prefill.
const TOKENS: usize = 128;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rounds = 200;
    let mut models = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => rounds = args.next().ok_or("--rounds needs a number")?.parse()?,
            "--bench" => {}
            _ => models.push(arg),
        }
    }
    let device = Device::open(DeviceOptions::default())?;
    let options = LoadOptions::default();
    if models.is_empty() {
        measure(
            "demo",
            &Model::from_checkpoint(&device, &dacapo_lm::demo()?, &options, &mut |_| {})?,
            rounds,
        )?;
    }
    for path in &models {
        measure(path, &Model::load(&device, Path::new(path), &options, &mut |_| {})?, rounds)?;
    }
    Ok(())
}

/// A way to run a stage.
struct Variant {
    name: &'static str,
    graph: CompiledGraph,
    /// The position, if the graph moves it.
    step: Option<Buffer>,
    /// Seconds of each round.
    times: Vec<f64>,
}

impl Variant {
    fn new(
        model: &Model,
        stage: Stage,
        name: &'static str,
        fuse: Vec<FusePattern>,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let length = if stage == Stage::Decode { POSITION } else { TOKENS };
        let recorded = model.graph(stage, length)?;
        let mover = recorded.nodes().iter().find(|node| node.kernel().name == "advance");
        let step = mover.map(|node| node.dispatch().buffers()).transpose()?.map(|buffers| buffers[0].clone());
        // For as long as the program runs.
        let options = GraphOptions { fuse: fuse.leak(), ..GraphOptions::default() };
        let graph = recorded.compile(model.device(), name, &options)?;
        Ok(Variant { name, graph, step, times: Vec::new() })
    }

    fn run(&mut self, count: usize) -> dacapo::Result<()> {
        if let Some(step) = &self.step {
            step.copy_from(&[POSITION as u32])?;
        }
        let start = Instant::now();
        let mut last = self.graph.replay()?;
        for _ in 1..count {
            last = self.graph.replay()?;
        }
        last.wait()?;
        self.times.push(start.elapsed().as_secs_f64() / count as f64);
        Ok(())
    }
}

fn measure(name: &str, model: &Model, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    for (stage, label) in [(Stage::Decode, "decode"), (Stage::Prefill, "prefill")] {
        let mut variants = vec![
            Variant::new(model, stage, "without", Vec::new())?,
            Variant::new(model, stage, "the table", FUSIONS.to_vec())?,
        ];
        for pattern in FUSIONS {
            let variant = Variant::new(model, stage, pattern.name, vec![*pattern])?;
            if variant.graph.reports().fuse.as_ref().is_none_or(|report| report.fused.is_empty()) {
                continue;
            }
            let mut others = FUSIONS.to_vec();
            others.retain(|other| other.name != pattern.name);
            variants.push(variant);
            variants.push(Variant::new(model, stage, "  the table without it", others)?);
        }
        // Short, so that other programs leave some rounds alone.
        variants[0].run(1)?;
        variants[0].run(1)?;
        let count = (0.004 / variants[0].times[1]).clamp(1.0, 64.0) as usize;
        variants.iter_mut().for_each(|variant| variant.times.clear());
        for round in 0..rounds {
            let n = variants.len();
            (0..n).try_for_each(|i| variants[(round + i) % n].run(count))?;
        }
        println!("\n{name}, {label}: {rounds} rounds of {count}");
        for variant in &variants {
            print(variant, &variants[0]);
        }
    }
    Ok(())
}

fn print(variant: &Variant, base: &Variant) {
    let sorted = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values
    };
    let gains = sorted(base.times.iter().zip(&variant.times).map(|(base, time)| base / time).collect());
    let (times, fastest) = (sorted(variant.times.clone()), variant.times.len() / 10);
    let at = |quarter: usize| gains[(gains.len() - 1) * quarter / 4];
    let best = sorted(base.times.clone())[fastest] / times[fastest];
    let (dispatches, groups) =
        (variant.graph.graph().len(), variant.graph.graph().groups().map_or(0, |g| g.len()));
    println!(
        "  {:<42} {dispatches:>4} dispatches {groups:>4} groups {:>9.1} us  {:.3}x ({:.3}-{:.3})  {best:.3}x",
        variant.name,
        1e6 * times[times.len() / 2],
        at(2),
        at(1),
        at(3)
    );
}
