//! What compiled graphs and their caches promise, one promise a test.

mod common;

use common::{LEN, PANIC, SLOW, device, increment, mixed, record, shared, transient};
use dacapo::{
    Buckets, Buffer, CompiledGraph, ComputeGraph, CostModel, DType, Device, Dispatch, Error, GraphCache,
    GraphOptions,
};

/// A graph that adds 2 to every element of `x`: turned around by way of a transient value, twice.
fn counting(device: &Device, x: &Buffer, options: &GraphOptions) -> CompiledGraph {
    let (zero, turned) = (device.alloc(DType::U32, &[LEN]).unwrap(), transient(device));
    let graph = record(device, [mixed(&zero, x, &turned), mixed(&zero, &turned, x)]);
    graph.compile(device, "counting", options).unwrap()
}

#[test]
fn a_compiled_graph_owns_what_it_touches() {
    let device = device(2);
    let x = shared(&device, 0);
    let compiled = counting(&device, &x, &GraphOptions::default());
    for _ in 0..100 {
        drop(compiled.replay().unwrap());
    }
    let expected: Vec<u32> = (0..LEN as u32).map(|i| i + 200).collect();
    assert_eq!(x.to_vec::<u32>().unwrap(), expected);
    let counted = device.counters();
    assert_eq!((counted.replays, counted.submissions, counted.dispatches), (100, 100, 2), "encoded once");
    let last = compiled.replay().unwrap();
    drop((compiled, device));
    last.wait().unwrap();
    assert_eq!(x.to_vec::<u32>().unwrap()[0], 202);
}

#[test]
fn host_and_replay_respect_each_other() {
    let device = device(2);
    let x = shared(&device, 0);
    let compiled = counting(&device, &x, &GraphOptions::default());
    let guard = x.read::<u32>().unwrap();
    assert!(matches!(compiled.replay(), Err(Error::Busy { .. })));
    drop(guard);
    let slow = record(&device, [Dispatch::new(&SLOW).buffer(&x).bytes(&20_u32)]);
    let slow = slow.compile(&device, "slow", &GraphOptions::default()).unwrap();
    drop((slow.replay().unwrap(), compiled.replay().unwrap()));
    assert_eq!(*x.read::<u32>().unwrap(), [9; LEN], "the guard waits for both");
    x.write::<u32>().unwrap().fill(1);
    compiled.replay().unwrap().wait().unwrap();
    assert_eq!(*x.read::<u32>().unwrap(), [3; LEN]);
}

#[test]
fn a_failed_replay_does_not_spoil_the_graph() {
    let device = device(2);
    let (x, t) = (shared(&device, 0), transient(&device));
    let doomed = record(&device, [mixed(&x, &x, &t), Dispatch::new(&PANIC).buffer(&x).bytes(&3_u32)]);
    let doomed = doomed.compile(&device, "doomed", &GraphOptions::default()).unwrap();
    for _ in 0..3 {
        assert!(doomed.replay().unwrap().wait().is_err());
        x.copy_from(&[1_u32; LEN]).unwrap();
    }
    let compiled = counting(&device, &x, &GraphOptions::default());
    compiled.replay().unwrap().wait().unwrap();
    assert_eq!(x.to_vec::<u32>().unwrap(), [3; LEN]);
}

#[test]
fn the_cache_is_bounded_and_forgets_the_oldest() {
    let device = device(1);
    let x = shared(&device, 0);
    let mut cache = GraphCache::new(2);
    let compile = || Ok::<_, dacapo::Error>(counting(&device, &x, &GraphOptions::default()));
    for key in [1, 2, 1, 3, 1, 2] {
        cache.get_or_compile(&key, compile).unwrap().replay().unwrap().wait().unwrap();
    }
    let stats = cache.stats();
    // 1 and 2 are compiled; 1 hits; 3 displaces 2; 1 hits; 2 displaces 3.
    assert_eq!((stats.misses, stats.hits, stats.evictions, cache.len()), (4, 2, 2, 2));
    let fails = || Err(Error::NoDevice("on purpose".into()));
    assert!(cache.get_or_compile(&9, fails).is_err());
    assert_eq!((cache.len(), cache.stats()), (2, stats));
    let held = cache.get_or_compile(&1, fails).unwrap();
    cache.clear();
    assert!(cache.is_empty());
    held.replay().unwrap().wait().unwrap();
    assert_eq!(x.to_vec::<u32>().unwrap()[0], 14);
}

#[test]
fn the_smallest_bucket_that_fits_is_replayed() {
    let device = device(2);
    let lengths = Buckets::doubling(2, 12);
    assert_eq!((lengths.sizes(), Buckets::new([3, 1, 3]).sizes()), (&[2, 4, 8, 12][..], &[1, 3][..]));
    let rows = Buckets::new([1, 3]);
    let x = device.alloc(DType::U32, &[3 * LEN]).unwrap();
    let mut cache = GraphCache::new(3);
    let mut compiled = Vec::new();
    let mut run = |length: usize, count: usize| -> Result<usize, Error> {
        let graph = cache.fit_or_compile([&lengths, &rows], [length, count], |[length, count]| {
            compiled.push([length, count]);
            let row = |row| increment(&x.slice_view(row * LEN, &[length]).unwrap(), 1);
            record(&device, (0..count).map(row)).compile(&device, "bucket", &GraphOptions::default())
        })?;
        graph.replay()?.wait()?;
        Ok(graph.graph().len())
    };
    for (length, count) in [(0, 1), (2, 1), (3, 1), (4, 0), (5, 2), (8, 3), (12, 3), (1, 1)] {
        assert_eq!(run(length, count).unwrap(), if count < 2 { 1 } else { 3 });
    }
    assert!(matches!(run(13, 1), Err(Error::NoBucket { need: 13, largest: 12 })));
    assert!(matches!(run(1, 4), Err(Error::NoBucket { need: 4, largest: 3 })));
    // The last is compiled again: it gave way to the three after it.
    assert_eq!(compiled, [[2, 1], [4, 1], [8, 3], [12, 3], [2, 1]]);
    assert_eq!((cache.len(), cache.stats().hits, cache.stats().evictions), (3, 3, 2));
    let found = x.to_vec::<u32>().unwrap();
    assert_eq!(found[..LEN], [8, 8, 5, 5, 3, 3, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0]);
    assert_eq!(found[LEN..LEN + 13], [3, 3, 3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 0]);
    assert!(matches!(Buckets::new([]).fit(0), Err(Error::NoBucket { need: 0, largest: 0 })));
}

#[test]
fn compiled_graphs_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<CompiledGraph>();
    check::<GraphCache<usize>>();
    check::<Buckets>();
    check::<CostModel>();
    check::<ComputeGraph>();
}
