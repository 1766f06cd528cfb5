//! Random graphs: every pass and every way of running gives the bytes of sequential execution, and an independent
//! checker finds nothing wrong with the schedules and the memory.

mod common;

use std::ops::Range;
use std::time::Duration;

use common::{PATTERNS, device, increment, mix, mixed};
use dacapo::{
    Buffer, CapturedNode, ChunkOptions, ComputeGraph, CostModel, DType, Device, Dispatch, Error, FusePattern,
    GraphOptions, OpKind, ScheduleOptions, Strategy,
};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use proptest::strategy::{Strategy as Generate, ValueTree};
use proptest::test_runner::TestRunner;

/// Elements of a buffer.
const LEN: usize = 48;

/// A part of one of the buffers, in elements.
type View = (usize, Range<usize>);

#[derive(Debug, Clone)]
enum Step {
    Mix { a: View, b: View, y: View },
    Add { x: View, n: u32 },
}

/// A random program over `shared + transient` buffers of `LEN` elements; the transient ones come last.
#[derive(Debug, Clone)]
struct Program {
    shared: usize,
    transient: usize,
    steps: Vec<(Step, bool)>,
}

impl Step {
    /// What it touches, and whether it writes it. Written down here once more, apart from the engine.
    fn touches(&self) -> Vec<(View, bool)> {
        match self {
            Step::Mix { a, b, y } => vec![(a.clone(), false), (b.clone(), false), (y.clone(), true)],
            Step::Add { x, .. } => vec![(x.clone(), true)],
        }
    }

    fn dispatch(&self, buffers: &[Buffer]) -> Dispatch {
        let view = |(buffer, part): &View| buffers[*buffer].slice_view(part.start, &[part.len()]).unwrap();
        match self {
            Step::Mix { a, b, y } => mixed(&view(a), &view(b), &view(y)),
            Step::Add { x, n } => increment(&view(x), *n),
        }
    }

    fn run(&self, memory: &mut [Vec<u32>]) {
        match self {
            Step::Mix { a, b, y } => {
                let (a, b) = (memory[a.0][a.1.clone()].to_vec(), memory[b.0][b.1.clone()].to_vec());
                let out = &mut memory[y.0][y.1.clone()];
                out.iter_mut().enumerate().for_each(|(i, y)| *y = mix(a[i], b[b.len() - 1 - i]));
            }
            Step::Add { x, n } => memory[x.0][x.1.clone()].iter_mut().for_each(|x| *x = x.wrapping_add(*n)),
        }
    }
}

/// Whether two steps must keep their order: quadratic, element by element in spirit.
fn ordered(one: &Step, other: &Step) -> bool {
    one.touches().iter().any(|((b0, r0), w0)| {
        other
            .touches()
            .iter()
            .any(|((b1, r1), w1)| b0 == b1 && (*w0 || *w1) && r0.start.max(r1.start) < r0.end.min(r1.end))
    })
}

impl Program {
    fn initial(&self) -> Vec<Vec<u32>> {
        let buffer = |index: usize| (0..LEN).map(|i| (index * 1000 + i) as u32).collect();
        (0..self.shared).map(buffer).chain((0..self.transient).map(|_| vec![0; LEN])).collect()
    }

    /// What the shared buffers hold after this many runs.
    fn expected(&self, runs: usize) -> Vec<Vec<u32>> {
        let mut memory = self.initial();
        for _ in 0..runs {
            self.steps.iter().for_each(|(step, _)| step.run(&mut memory));
        }
        memory.truncate(self.shared);
        memory
    }

    fn record(&self, device: &Device) -> (ComputeGraph, Vec<Buffer>) {
        let mut buffers: Vec<Buffer> =
            self.initial()[..self.shared].iter().map(|x| device.upload(x, &[LEN]).unwrap()).collect();
        buffers.extend((0..self.transient).map(|_| device.transient(DType::U32, &[LEN]).unwrap()));
        let mut encoder = device.encoder("random").unwrap();
        encoder.start_capture().unwrap();
        for (step, barrier) in &self.steps {
            if *barrier {
                encoder.memory_barrier();
            }
            encoder.dispatch(step.dispatch(&buffers)).unwrap();
        }
        let graph = encoder.take_capture().unwrap();
        buffers.truncate(self.shared);
        (graph, buffers)
    }

    /// The pairs that must stay in order, barriers included.
    fn pairs(&self) -> Vec<(usize, usize)> {
        let n = self.steps.len();
        let later = |i: usize| (i + 1..n).map(move |j| (i, j));
        let cut = |i: usize, j: usize| self.steps[i + 1..=j].iter().any(|(_, barrier)| *barrier);
        let all = (0..n).flat_map(later);
        all.filter(|&(i, j)| cut(i, j) || ordered(&self.steps[i].0, &self.steps[j].0)).collect()
    }

    /// Length of the longest chain of `pairs`, which are in order.
    fn longest_chain(&self, pairs: &[(usize, usize)]) -> usize {
        let mut depth = vec![1; self.steps.len()];
        pairs.iter().for_each(|&(i, j)| depth[j] = depth[j].max(depth[i] + 1));
        depth.into_iter().max().unwrap_or(0)
    }
}

/// The group of each step, in the order of recording.
fn groups(graph: &ComputeGraph) -> Vec<usize> {
    let mut group_of = vec![usize::MAX; graph.len()];
    for (group, nodes) in graph.groups().expect("scheduled").into_iter().enumerate() {
        graph.nodes()[nodes].iter().for_each(|node| group_of[node.recorded()] = group);
    }
    group_of
}

/// The checker: each ordered pair is separated by a barrier, the earlier first.
fn separated(group_of: &[usize], pairs: &[(usize, usize)]) -> bool {
    pairs.iter().all(|&(i, j)| group_of[i] < group_of[j])
}

fn any_view(buffers: Range<usize>, len: usize) -> impl Generate<Value = View> {
    (buffers, 0..=LEN - len).prop_map(move |(buffer, start)| (buffer, start..start + len))
}

/// Random shapes, and the repairs that make a program valid: no step may read what it writes, and transient buffers
/// are written as a whole before anything else touches them.
fn any_program(steps: Range<usize>) -> impl Generate<Value = Program> {
    (1..5_usize, 0..5_usize).prop_flat_map(move |(shared, transient)| {
        let buffers = shared + transient;
        let step = (1..LEN / 2, any::<bool>()).prop_flat_map(move |(len, add)| {
            let view = || any_view(0..buffers, len);
            let wild = (view(), view(), view(), 0..100_u32, prop::bool::weighted(0.4));
            wild.prop_map(move |(a, b, y, n, follows)| {
                (if add { Step::Add { x: y, n } } else { Step::Mix { a, b, y } }, follows)
            })
        });
        let steps = prop::collection::vec((step, prop::bool::weighted(0.03)), steps.clone());
        steps.prop_map(move |steps| repaired(shared, transient, steps))
    })
}

/// A step as it was drawn, whether it works on what the step before it wrote (so that fusions are found), and
/// whether a barrier comes before it.
type Wild = ((Step, bool), bool);

/// Makes `step` read what `before` wrote.
fn following(step: Step, before: &Step) -> Step {
    let (Step::Mix { y: written, .. } | Step::Add { x: written, .. }) = before;
    match step {
        Step::Add { n, .. } => Step::Add { x: written.clone(), n },
        Step::Mix { b, y, .. } => {
            let part = |(buffer, part): View| {
                let start = part.start.min(LEN - written.1.len());
                (buffer, start..start + written.1.len())
            };
            Step::Mix { a: written.clone(), b: part(b), y: part(y) }
        }
    }
}

fn repaired(shared: usize, transient: usize, wild: Vec<Wild>) -> Program {
    let mut program = Program { shared, transient, steps: Vec::new() };
    let mut live = vec![false; shared + transient];
    live[..shared].fill(true);
    for ((step, follows), barrier) in wild {
        let step = match program.steps.last() {
            Some((before, _)) if follows => following(step, before),
            _ => step,
        };
        if let Step::Mix { a, b, y } = &step {
            let clash = |x: &View| x.0 == y.0 && x.1.start.max(y.1.start) < x.1.end.min(y.1.end);
            if clash(a) || clash(b) {
                continue;
            }
        }
        for ((buffer, _), _) in step.touches() {
            if !live[buffer] {
                live[buffer] = true;
                let (from, whole) = (buffer % shared, 0..LEN);
                let fill = Step::Mix { a: (from, 0..LEN), b: (from, 0..LEN), y: (buffer, whole) };
                program.steps.push((fill, false));
            }
        }
        program.steps.push((step, barrier));
    }
    program
}

const STRATEGIES: [Strategy; 4] =
    [Strategy::Levels, Strategy::Recorded, Strategy::LookAhead(64), Strategy::LookAhead(2)];

fn arrange(graph: &ComputeGraph, strategy: Strategy) -> ComputeGraph {
    graph.reorder(&ScheduleOptions::from(strategy)).0
}

fn contents(buffers: &[Buffer]) -> Vec<Vec<u32>> {
    buffers.iter().map(|buffer| buffer.to_vec::<u32>().unwrap()).collect()
}

/// Every strategy keeps every pair apart; levels reach the longest chain; no barrier can be left out.
fn check_schedules(program: &Program, graph: &ComputeGraph) {
    let pairs = program.pairs();
    let chain = program.longest_chain(&pairs);
    for strategy in STRATEGIES {
        let (arranged, report) = graph.reorder(&ScheduleOptions::from(strategy));
        let group_of = groups(&arranged);
        assert!(separated(&group_of, &pairs), "{strategy:?}");
        let count = group_of.iter().max().map_or(0, |last| last + 1);
        assert_eq!((report.groups, report.lower_bound), (count, chain));
        assert!(count >= chain && (strategy != Strategy::Levels || count == chain), "{strategy:?}");
        assert!(report.data_bound <= chain && report.groups_before >= chain);
        // All of them in a small program, a sample in a large one.
        for barrier in (1..count).step_by(1 + count / 100) {
            let without: Vec<usize> =
                group_of.iter().map(|&group| group - usize::from(group >= barrier)).collect();
            assert!(!separated(&without, &pairs), "{strategy:?}: barrier {barrier} is not needed");
        }
        let again = arranged.reorder(&ScheduleOptions::from(strategy)).1;
        assert_eq!(again.lower_bound, chain, "barriers asked for stay what they are");
        assert!(again.groups == count || matches!(strategy, Strategy::LookAhead(_)), "{strategy:?} twice");
    }
    let order = graph.dependencies();
    let longest = order.longest_chain();
    assert_eq!(longest.len(), chain);
    assert!(longest.windows(2).all(|pair| pairs.contains(&(pair[0], pair[1]))));
}

/// Transient values that live at the same time do not share a byte, and the arena is no smaller than it can be.
fn check_memory(program: &Program, graph: &ComputeGraph) {
    let plan = graph.plan_memory().unwrap();
    let group_of = groups(graph);
    let mut lives = Vec::new();
    for buffer in program.shared..program.shared + program.transient {
        let uses = program.steps.iter().enumerate();
        let uses = uses.filter(|(_, (step, _))| step.touches().iter().any(|((b, _), _)| *b == buffer));
        let alive: Vec<usize> = uses.map(|(i, _)| group_of[i]).collect();
        lives.extend(alive.iter().min().map(|&first| (first, *alive.iter().max().unwrap())));
    }
    let mut planned: Vec<_> = plan.placements().iter().map(|p| (p.first_group, p.last_group)).collect();
    planned.sort_unstable();
    lives.sort_unstable();
    assert_eq!(planned, lives, "lives");
    for (i, a) in plan.placements().iter().enumerate() {
        assert!(a.bytes >= 4 * LEN && a.offset + a.bytes <= plan.report().peak_bytes);
        for b in &plan.placements()[..i] {
            let together = a.first_group <= b.last_group && b.first_group <= a.last_group;
            let shared = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
            assert!(!(together && shared), "{a:?} and {b:?}");
        }
    }
    let live_in = |group: usize| {
        let alive = plan.placements().iter().filter(|p| p.first_group <= group && group <= p.last_group);
        alive.map(|p| p.bytes).sum::<usize>()
    };
    let most = group_of.iter().map(|&group| live_in(group)).max().unwrap_or(0);
    let report = plan.report();
    assert_eq!(report.lower_bound, most);
    assert!(most <= report.peak_bytes && report.peak_bytes <= report.sum_bytes);
}

/// All ways to run, each on buffers of its own.
fn check_results(program: &Program, threads: usize) {
    let device = device(threads);
    let tiny = ChunkOptions { first: 300, budget: 2000, ..ChunkOptions::default() };
    for strategy in STRATEGIES {
        let (graph, buffers) = program.record(&device);
        let arranged = arrange(&graph, strategy);
        let (placed, _) = arranged.place(&device).unwrap();
        let mut encoder = device.encoder("sequential").unwrap();
        placed.encode_sequential(&mut encoder).unwrap();
        encoder.commit_and_wait().unwrap();
        assert_eq!(contents(&buffers), program.expected(1), "{strategy:?} sequential");
        let mut encoder = device.encoder("barriers").unwrap();
        placed.encode_with_barriers(&mut encoder).unwrap();
        assert_eq!(encoder.counters().barriers as usize, placed.groups().unwrap().len().saturating_sub(1));
        encoder.commit_and_wait().unwrap();
        assert_eq!(contents(&buffers), program.expected(2), "{strategy:?} barriers");
        placed.encode_chunks(&device, "chunks", &tiny).unwrap().0.wait().unwrap();
        assert_eq!(contents(&buffers), program.expected(3), "{strategy:?} chunks");
    }
    let levels = Some(ScheduleOptions::from(Strategy::Levels));
    let fused: &'static [FusePattern] = &PATTERNS;
    for (fuse, reorder, chunk) in [
        (&[][..], None, None),
        (&[], levels, None),
        (&[], levels, Some(tiny)),
        (fused, None, None),
        (fused, levels, None),
        (fused, levels, Some(tiny)),
    ] {
        let (graph, buffers) = program.record(&device);
        let options = GraphOptions { fuse, reorder, chunk, ..GraphOptions::recorded() };
        let compiled = graph.compile(&device, "compiled", &options).unwrap();
        let runs: Vec<_> = (0..4).map(|_| compiled.replay().unwrap()).collect();
        runs.iter().for_each(|run| run.wait().unwrap());
        assert_eq!(contents(&buffers), program.expected(4), "{options:?} replayed");
    }
}

/// Any limit of memory from the least on is kept, costs no bytes of the result, and keeps every pair apart; below it
/// there is an error that names both.
fn check_limits(program: &Program, threads: usize, reorder: bool) {
    let device = device(threads);
    let options = |memory_limit| {
        let reorder = reorder.then(ScheduleOptions::default);
        GraphOptions { reorder, memory_limit, ..GraphOptions::recorded() }
    };
    let pairs = program.pairs();
    let peak = program.record(&device).0.optimize(&device, &options(None)).unwrap().1.memory.peak_bytes;
    let least = match program.record(&device).0.optimize(&device, &options(Some(0))) {
        Err(Error::MemoryLimit { limit: 0, least }) => least,
        other => {
            assert_eq!((peak, other.is_ok()), (0, true), "nothing fits into nothing but nothing");
            return;
        }
    };
    assert!(least <= peak);
    for limit in [least, least + 1, least.midpoint(peak), peak, peak + 1000] {
        let (graph, buffers) = program.record(&device);
        let (arranged, reports) = graph.optimize(&device, &options(Some(limit))).unwrap();
        assert!(reports.memory.peak_bytes <= limit);
        if reorder {
            let group_of = groups(&arranged);
            assert!(separated(&group_of, &pairs));
            let schedule = reports.schedule.unwrap();
            assert_eq!(schedule.groups, schedule.lower_bound + reports.memory.extra_groups);
        }
        let compiled = graph.compile(&device, "limited", &options(Some(limit))).unwrap();
        (0..2).for_each(|_| compiled.replay().unwrap().wait().unwrap());
        assert_eq!(contents(&buffers), program.expected(2), "{limit} of {peak}");
    }
    let (graph, _) = program.record(&device);
    match graph.optimize(&device, &options(Some(least - 1))) {
        Err(error) => {
            let same = |limit, found| limit < least && found == least;
            assert!(matches!(error, Error::MemoryLimit { limit, least } if same(limit, least)), "{error}");
        }
        // One of the orders tried depends on the limit, and may take less.
        Ok((_, reports)) => assert!(reports.memory.peak_bytes < least),
    }
}

/// No submission costs more time than its budget by the model, but for single dispatches; no node is lost.
fn check_time_budgets(graph: &ComputeGraph, model: CostModel, first: u64, budget: u64) {
    let nanoseconds =
        |nodes: &[CapturedNode]| nodes.iter().map(|node| model.estimate(node)).sum::<Duration>();
    let [first, budget] = [first, budget].map(Duration::from_nanos);
    let (chunks, report) = graph.chunks(&ChunkOptions::timed(first, budget, model));
    let mut next = 0;
    for (index, chunk) in chunks.iter().enumerate() {
        assert!(chunk.start == next && chunk.start < chunk.end);
        next = chunk.end;
        let limit = if index == 0 { first.min(budget) } else { budget };
        let time = nanoseconds(&graph.nodes()[chunk.clone()]);
        assert!(time <= limit || chunk.len() == 1, "{time:?} of {limit:?}");
        assert!(report.costs[index] >= time.as_nanos() as u64);
    }
    assert_eq!(next, graph.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn limits_of_memory_are_kept(program in any_program(1..80), threads in 1..4_usize, reorder in any::<bool>()) {
        check_limits(&program, threads, reorder);
    }

    #[test]
    fn budgets_of_time_are_kept(
        program in any_program(1..120),
        rate in 0.0..20.0_f64,
        dispatch in 0..500_u64,
        first in 0..5_000_u64,
        budget in 0..20_000_u64,
    ) {
        let device = device(1);
        let model = CostModel::new(&[(OpKind::Elementwise, rate)], Duration::from_nanos(dispatch));
        let (graph, _) = program.record(&device);
        check_time_budgets(&graph, model, first, budget);
        check_time_budgets(&arrange(&graph, Strategy::Levels), model, first, budget);
    }

    #[test]
    fn schedules_keep_order_and_reach_the_bound(program in any_program(1..120)) {
        let device = device(1);
        let (graph, _) = program.record(&device);
        check_schedules(&program, &graph);
        for strategy in STRATEGIES {
            check_memory(&program, &arrange(&graph, strategy));
        }
    }

    #[test]
    fn every_way_of_running_gives_the_same_bytes(program in any_program(1..80), threads in 1..4_usize) {
        check_results(&program, threads);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn large_graphs_too(program in any_program(1000..2000)) {
        let device = device(1);
        let (graph, _) = program.record(&device);
        check_schedules(&program, &graph);
        check_memory(&program, &arrange(&graph, Strategy::Levels));
        check_results(&program, 2);
    }
}

/// The random programs do contain what the patterns look for: else the properties above would say nothing of fusion.
#[test]
fn random_programs_contain_fusions() {
    let device = device(1);
    let mut runner = TestRunner::deterministic();
    let mut found = std::collections::HashMap::new();
    let mut refused = 0;
    for _ in 0..40 {
        let program = any_program(60..120).new_tree(&mut runner).unwrap().current();
        let (graph, _) = program.record(&device);
        let (_, report) = graph.fuse(&device, &PATTERNS);
        report.fused.iter().for_each(|fused| *found.entry(fused.pattern).or_insert(0) += 1);
        refused += report.refused.len();
    }
    assert!(found.contains_key("mix, increment") && found.contains_key("mix of mix"), "{found:?}");
    assert!(refused > 0);
}
