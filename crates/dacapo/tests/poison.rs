//! How failure spreads: along bytes, and no further.

mod common;

use common::{crash, device, increment, mix, mixed};
use dacapo::{Buffer, ChunkOptions, DType, Device, Dispatch, Error, GraphExecutor, GraphOptions, Submission};
use proptest::prelude::*;

fn submit(device: &Device, label: &str, dispatches: impl IntoIterator<Item = Dispatch>) -> Submission {
    let mut encoder = device.encoder(label).unwrap();
    dispatches.into_iter().for_each(|dispatch| encoder.dispatch(dispatch).unwrap());
    encoder.commit().unwrap()
}

fn part(x: &Buffer, range: std::ops::Range<usize>) -> Buffer {
    x.slice_view(range.start, &[range.len()]).unwrap()
}

fn is_poisoned(submission: &Submission) -> bool {
    match submission.wait() {
        Ok(()) => false,
        Err(Error::Poisoned { by, .. }) if by == r#"submission "root""# => true,
        Err(error) => panic!("neither run nor poisoned by the root: {error}"),
    }
}

#[test]
fn what_reads_a_failure_fails_and_what_does_not_runs() {
    for threads in [1, 3] {
        let device = device(threads);
        let [x, y, z] = [16, 8, 8].map(|n| device.alloc(DType::U32, &[n]).unwrap());
        let root = submit(&device, "root", [crash(&part(&x, 0..8))]);
        let reads = submit(&device, "reads", [mixed(&part(&x, 7..8), &part(&x, 7..8), &part(&y, 0..1))]);
        let reads_on = submit(&device, "reads on", [increment(&y, 1)]);
        let beside = submit(&device, "the other half", [increment(&part(&x, 8..16), 1)]);
        let apart = submit(&device, "another allocation", [increment(&z, 1)]);
        assert!(root.wait().is_err());
        assert!(is_poisoned(&reads) && is_poisoned(&reads_on), "named by the first failure");
        assert!(!is_poisoned(&beside) && !is_poisoned(&apart));
        assert!(part(&x, 0..8).read::<u32>().is_err());
        assert_eq!(*part(&x, 8..16).read::<u32>().unwrap(), [1; 8]);
        assert!(x.read::<u32>().is_err(), "half of it is bad");
        assert_eq!(*z.read::<u32>().unwrap(), [1; 8]);
    }
}

#[test]
fn overwriting_heals_what_it_covers() {
    let device = device(2);
    let [x, good] = [16, 16].map(|n| device.alloc(DType::U32, &[n]).unwrap());
    let root = submit(&device, "root", [crash(&x)]);
    assert!(root.wait().is_err());
    assert!(is_poisoned(&submit(&device, "in place", [increment(&part(&x, 0..4), 1)])));
    let rewrite = mixed(&part(&good, 0..8), &part(&good, 0..8), &part(&x, 0..8));
    let reread = mixed(&part(&x, 0..8), &part(&x, 0..8), &part(&good, 8..16));
    assert!(!is_poisoned(&submit(&device, "rewrites, then reads", [rewrite, reread])));
    assert_eq!(*part(&x, 0..8).read::<u32>().unwrap(), [1; 8]);
    assert!(is_poisoned(&submit(
        &device,
        "reads too much",
        [mixed(&part(&x, 4..12), &good, &part(&good, 0..0))]
    )));
    part(&x, 8..12).copy_from(&[5_u32; 4]).unwrap();
    assert!(part(&x, 8..16).read::<u32>().is_err(), "the host healed a part");
    part(&x, 12..16).write::<u32>().unwrap().fill(6);
    assert!(!is_poisoned(&submit(&device, "all good", [increment(&x, 1)])));
    assert_eq!(x.to_vec::<u32>().unwrap(), [2, 2, 2, 2, 2, 2, 2, 2, 6, 6, 6, 6, 7, 7, 7, 7]);
}

#[test]
fn a_later_success_elsewhere_hides_nothing() {
    let device = device(2);
    let x = device.alloc(DType::U32, &[16]).unwrap();
    let _root = submit(&device, "root", [crash(&part(&x, 0..8))]);
    submit(&device, "the other half", [increment(&part(&x, 8..16), 1)]).wait().unwrap();
    assert!(matches!(part(&x, 0..8).read::<u32>(), Err(Error::KernelFailed { .. })));
}

#[test]
fn replays_obey_the_rule() {
    let device = device(2);
    let [x, y, z] = [8; 3].map(|n| device.alloc(DType::U32, &[n]).unwrap());
    let t = device.transient(DType::U32, &[8]).unwrap();
    for chunk in [None, Some(ChunkOptions { first: 1, budget: 1, ..ChunkOptions::default() })] {
        let mut recording = GraphExecutor::new(&device).begin_recorded("graph").unwrap();
        recording.dispatch(mixed(&x, &x, &t)).unwrap();
        recording.dispatch(mixed(&t, &t, &y)).unwrap();
        recording.dispatch(increment(&y, 1)).unwrap();
        let graph = recording.into_graph().unwrap();
        let graph =
            graph.compile(&device, "graph", &GraphOptions { chunk, ..GraphOptions::default() }).unwrap();
        x.copy_from(&[1_u32; 8]).unwrap();
        let overwritten = submit(&device, "overwritten", [crash(&y)]);
        assert!(!is_poisoned(&graph.replay().unwrap()), "it writes y before it reads it");
        assert!(overwritten.wait().is_err());
        assert_eq!(*y.read::<u32>().unwrap(), [mix(mix(1, 1), mix(1, 1)) + 1; 8]);
        let root = submit(&device, "root", [crash(&x)]);
        assert!(is_poisoned(&graph.replay().unwrap()) && is_poisoned(&graph.replay().unwrap()));
        assert!(is_poisoned(&submit(&device, "reads the replay", [mixed(&y, &y, &z)])));
        assert!(root.wait().is_err());
        x.copy_from(&[2_u32; 8]).unwrap();
        assert!(!is_poisoned(&graph.replay().unwrap()), "healed");
        assert_eq!(*y.read::<u32>().unwrap(), [mix(mix(2, 2), mix(2, 2)) + 1; 8]);
    }
}

/// A submission of a random program.
#[derive(Debug, Clone)]
struct Work {
    steps: Vec<Step>,
    crashes: bool,
    waits: bool,
}

/// `y` from `a` and `b`, of `len` elements each, all in one arena.
#[derive(Debug, Clone)]
struct Step {
    a: usize,
    b: usize,
    y: usize,
    len: usize,
}

const ARENA: usize = 64;

fn any_work() -> impl Strategy<Value = Work> {
    let step = (1..16_usize).prop_flat_map(|len| {
        let start = 0..ARENA - len;
        (start.clone(), start.clone(), start).prop_map(move |(a, b, y)| Step { a, b, y, len })
    });
    let apart = |s: &Step| [s.a, s.b].iter().all(|&x| x + s.len <= s.y || s.y + s.len <= x);
    (
        prop::collection::vec(step.prop_filter("no aliases", apart), 1..5),
        prop::bool::weighted(0.25),
        any::<bool>(),
    )
        .prop_map(|(steps, crashes, waits)| Work { steps, crashes, waits })
}

/// What should become of the arena: for each element its value, or that it is bad.
struct Model {
    values: Vec<u32>,
    bad: Vec<bool>,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Ran,
    Crashed,
    Poisoned,
}

impl Model {
    fn run(&mut self, work: &Work) -> Outcome {
        let mut written = [false; ARENA];
        let mut reads_bad = false;
        for s in &work.steps {
            for x in (s.a..s.a + s.len).chain(s.b..s.b + s.len) {
                reads_bad |= self.bad[x] && !written[x];
            }
            written[s.y..s.y + s.len].fill(true);
            for i in 0..s.len {
                self.values[s.y + i] = mix(self.values[s.a + i], self.values[s.b + s.len - 1 - i]);
            }
        }
        let outcome = match (reads_bad, work.crashes) {
            (true, _) => Outcome::Poisoned,
            (false, true) => Outcome::Crashed,
            (false, false) => Outcome::Ran,
        };
        for x in (0..ARENA).filter(|&x| written[x]) {
            self.bad[x] = outcome != Outcome::Ran;
        }
        outcome
    }
}

fn outcome(submission: &Submission) -> Outcome {
    match submission.wait() {
        Ok(()) => Outcome::Ran,
        Err(Error::KernelFailed { .. }) => Outcome::Crashed,
        Err(Error::Poisoned { .. }) => Outcome::Poisoned,
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every submission's fate and every element of the arena, against the rule written down element by element,
    /// whether submissions are waited for or pile up.
    #[test]
    fn failure_spreads_by_the_rule(program in prop::collection::vec(any_work(), 1..16), threads in 1..4_usize) {
        let device = device(threads);
        let arena = device.upload(&(0..ARENA as u32).collect::<Vec<_>>(), &[ARENA]).unwrap();
        let mut model = Model { values: (0..ARENA as u32).collect(), bad: vec![false; ARENA] };
        let mut pending = Vec::new();
        for (index, work) in program.iter().enumerate() {
            let doom = device.alloc(DType::U32, &[1]).unwrap();
            let view = |at: usize, s: &Step| part(&arena, at..at + s.len);
            let steps = work.steps.iter().map(|s| mixed(&view(s.a, s), &view(s.b, s), &view(s.y, s)));
            let submission = submit(&device, &format!("work {index}"), steps.chain(work.crashes.then(|| crash(&doom))));
            if work.waits {
                let _ = submission.wait();
            }
            pending.push((submission, model.run(work)));
        }
        for (submission, expected) in &pending {
            prop_assert_eq!(&outcome(submission), expected);
        }
        for (x, (&value, &bad)) in model.values.iter().zip(&model.bad).enumerate() {
            match part(&arena, x..x + 1).to_vec::<u32>() {
                Ok(found) => prop_assert!(!bad && found[0] == value, "element {}", x),
                Err(_) => prop_assert!(bad, "element {} is good", x),
            }
        }
    }

    /// The same for a few graphs replayed again and again, alone or as part of other work: what the engine remembers of
    /// which graph reads which must never say anything else than the rule.
    #[test]
    fn replays_spread_it_by_the_rule(
        works in prop::collection::vec(any_work(), 1..5),
        runs in prop::collection::vec((0..5_usize, 0..3_u8, any::<bool>()), 1..24),
        threads in 1..4_usize,
    ) {
        let device = device(threads);
        let arena = device.upload(&(0..ARENA as u32).collect::<Vec<_>>(), &[ARENA]).unwrap();
        let doom = device.alloc(DType::U32, &[1]).unwrap();
        let mut model = Model { values: (0..ARENA as u32).collect(), bad: vec![false; ARENA] };
        let view = |at: usize, s: &Step| part(&arena, at..at + s.len);
        let dispatches = |work: &Work| {
            let steps = work.steps.iter().map(|s| mixed(&view(s.a, s), &view(s.b, s), &view(s.y, s)));
            steps.chain(work.crashes.then(|| crash(&doom))).collect::<Vec<_>>()
        };
        let graphs: Vec<_> = works.iter().enumerate().map(|(index, work)| {
            let mut recording = GraphExecutor::new(&device).begin_recorded("graph").unwrap();
            dispatches(work).into_iter().for_each(|dispatch| recording.dispatch(dispatch).unwrap());
            let graph = recording.into_graph().unwrap();
            graph.compile(&device, &format!("graph {index}"), &GraphOptions::default()).unwrap()
        }).collect();
        let mut pending = Vec::new();
        for (index, way, waits) in runs {
            let (work, graph) = (&works[index % works.len()], &graphs[index % works.len()]);
            let submission = match way {
                0 => graph.replay().unwrap(),
                1 => submit(&device, "live", dispatches(work)),
                _ => {
                    let mut encoder = device.encoder("contains").unwrap();
                    encoder.replay(graph).unwrap();
                    encoder.commit().unwrap()
                }
            };
            if waits {
                let _ = submission.wait();
            }
            pending.push((submission, model.run(work)));
        }
        for (submission, expected) in &pending {
            prop_assert_eq!(&outcome(submission), expected);
        }
        for (x, (&value, &bad)) in model.values.iter().zip(&model.bad).enumerate() {
            match part(&arena, x..x + 1).to_vec::<u32>() {
                Ok(found) => prop_assert!(!bad && found[0] == value, "element {}", x),
                Err(_) => prop_assert!(bad, "element {} is good", x),
            }
        }
    }
}
