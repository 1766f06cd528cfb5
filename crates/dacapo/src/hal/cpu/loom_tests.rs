//! The worker pool under loom: every interleaving of small cases.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p dacapo --lib --release loom`.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::event::CpuEvent;
use super::job::Progress;
use super::queue::{Queue, Scratch, Work};
use crate::hal::event::{Order, SharedEvent};
use crate::{Error, Result};

/// Two groups: the first writes two cells, the second reads both from one tile.
struct Chain {
    progress: Progress,
    cells: [UnsafeCell<u32>; 2],
    sum: UnsafeCell<u32>,
}

// SAFETY: the cells are checked by loom itself: an unsynchronized access fails the test.
unsafe impl Sync for Chain {}

impl Chain {
    fn new() -> Self {
        Chain {
            progress: Progress::new([2, 1]),
            cells: [UnsafeCell::new(0), UnsafeCell::new(0)],
            sum: UnsafeCell::new(0),
        }
    }
}

impl Work for Chain {
    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn tile(&self, group: usize, tile: usize, _worker: &mut Scratch) -> Result<()> {
        if group == 0 {
            // SAFETY: loom checks that nobody else accesses the cell meanwhile.
            self.cells[tile].with_mut(|cell| unsafe { *cell += 1 });
        } else {
            // SAFETY: as above.
            let sum = self.cells.iter().map(|cell| cell.with(|cell| unsafe { *cell })).sum();
            // SAFETY: as above.
            self.sum.with_mut(|cell| unsafe { *cell = sum });
        }
        Ok(())
    }
}

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(check);
}

#[test]
fn loom_groups_are_separated_and_tiles_run_once() {
    model(|| {
        let chain = Arc::new(Chain::new());
        let other = chain.clone();
        let worker =
            thread::spawn(move || other.progress.work(|g, t| other.tile(g, t, &mut Scratch::default())));
        let mine = chain.progress.work(|g, t| chain.tile(g, t, &mut Scratch::default()));
        let theirs = worker.join().unwrap();
        assert!(mine != theirs, "exactly one worker completes the last tile");
        // SAFETY: both workers have ended.
        assert_eq!(chain.sum.with(|sum| unsafe { *sum }), 2);
    });
}

/// What the run before has left of the counts neither opens a group too early nor hands out a tile twice.
#[test]
fn loom_groups_are_separated_in_every_run() {
    model(|| {
        let mut chain = Chain::new();
        chain.progress.work(|g, t| chain.tile(g, t, &mut Scratch::default()));
        chain.progress.reset();
        let chain = Arc::new(chain);
        let other = chain.clone();
        let worker =
            thread::spawn(move || other.progress.work(|g, t| other.tile(g, t, &mut Scratch::default())));
        let mine = chain.progress.work(|g, t| chain.tile(g, t, &mut Scratch::default()));
        let theirs = worker.join().unwrap();
        assert!(mine != theirs, "exactly one worker completes the last tile");
        // SAFETY: both workers have ended.
        assert_eq!(chain.sum.with(|sum| unsafe { *sum }), 4);
    });
}

#[test]
fn loom_progress_that_was_reset_runs_again() {
    model(|| {
        let mut progress = Progress::new([2]);
        progress.work(|_, tile| match tile {
            0 => Err(Error::DeviceLost("on purpose".into())),
            _ => Ok(()),
        });
        progress.reset();
        let progress = Arc::new(progress);
        let tiles = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let run = |progress: &Progress, tiles: &loom::sync::atomic::AtomicUsize| {
            progress.work(|_, _| {
                tiles.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
                Ok(())
            })
        };
        let (other, counted) = (progress.clone(), tiles.clone());
        let worker = thread::spawn(move || run(&other, &counted));
        let mine = run(&progress, &tiles);
        assert!(mine != worker.join().unwrap(), "exactly one worker completes the last tile");
        assert!(progress.result().is_ok() && tiles.load(loom::sync::atomic::Ordering::Relaxed) == 2);
    });
}

#[test]
fn loom_a_failed_tile_fails_the_job() {
    model(|| {
        let progress = Arc::new(Progress::new([2, 1]));
        let other = progress.clone();
        let fail = |group, tile| match (group, tile) {
            (0, 1) => Err(Error::DeviceLost("on purpose".into())),
            _ => Ok(()),
        };
        let worker = thread::spawn(move || other.work(fail));
        progress.work(fail);
        worker.join().unwrap();
        assert!(progress.result().is_err());
    });
}

#[test]
fn loom_queue_runs_jobs_in_order_and_wakes_waiters() {
    model(|| {
        let queue = Arc::new(Queue::<Chain>::new());
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || queue.run_worker())
            })
            .collect();
        let job = queue.submit(Chain::new(), Order::default()).unwrap();
        job.wait().unwrap();
        // SAFETY: the job has ended.
        assert_eq!(job.work.sum.with(|sum| unsafe { *sum }), 2);
        queue.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn loom_queue_closes_behind_two_jobs() {
    model(|| {
        let queue = Arc::new(Queue::<Chain>::new());
        let worker = {
            let queue = queue.clone();
            thread::spawn(move || queue.run_worker())
        };
        let jobs = [
            queue.submit(Chain::new(), Order::default()).unwrap(),
            queue.submit(Chain::new(), Order::default()).unwrap(),
        ];
        queue.close();
        worker.join().unwrap();
        assert!(jobs.iter().all(|job| job.is_done() && job.wait().is_ok()));
    });
}

#[test]
fn loom_an_event_wakes_whoever_waits_for_it() {
    model(|| {
        let event = Arc::new(CpuEvent::new());
        let waiters: Vec<_> = [1, 2]
            .map(|value| {
                let event = event.clone();
                thread::spawn(move || event.wait(value, &|| false).unwrap().unwrap())
            })
            .into();
        event.signal(1);
        event.signal(2);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        event.signal(1);
        assert_eq!(event.value(), 2, "it never falls");
    });
}

#[test]
fn loom_poison_ends_every_wait_with_one_answer() {
    model(|| {
        let event = Arc::new(CpuEvent::new());
        let waiter = {
            let event = event.clone();
            thread::spawn(move || event.wait(2, &|| false).unwrap().unwrap_err().to_string())
        };
        let other = {
            let event = event.clone();
            thread::spawn(move || event.poison(Error::DeviceLost("first or second".into())))
        };
        event.signal(1);
        event.poison(Error::DeviceLost("first or second".into()));
        other.join().unwrap();
        event.signal(2);
        assert_eq!(waiter.join().unwrap(), event.poisoned().unwrap().to_string());
        assert!(event.wait(2, &|| false).unwrap().is_err());
    });
}

#[test]
fn loom_a_job_waits_for_the_host_and_signals_at_its_end() {
    model(|| {
        let queue = Arc::new(Queue::<Chain>::new());
        let worker = {
            let queue = queue.clone();
            thread::spawn(move || queue.run_worker())
        };
        let event = std::sync::Arc::new(CpuEvent::new());
        let order =
            Order { waits: vec![(event.clone(), 1)], signals: vec![(event.clone(), 2)], ..Order::default() };
        let job = queue.submit(Chain::new(), order).unwrap();
        event.signal(1);
        event.wait(2, &|| false).unwrap().unwrap();
        // SAFETY: every tile had run before the event reached 2.
        assert_eq!(job.work.sum.with(|sum| unsafe { *sum }), 2);
        queue.close();
        worker.join().unwrap();
    });
}

#[test]
fn loom_closing_ends_a_wait_for_the_host_but_not_for_earlier_jobs() {
    model(|| {
        let queue = Arc::new(Queue::<Chain>::new());
        let worker = {
            let queue = queue.clone();
            thread::spawn(move || queue.run_worker())
        };
        let event = std::sync::Arc::new(CpuEvent::new());
        let signal = Order { signals: vec![(event.clone(), 1)], ..Order::default() };
        let wait = |value| Order { waits: vec![(event.clone(), value)], ..Order::default() };
        let first = queue.submit(Chain::new(), signal).unwrap();
        let served = queue.submit(Chain::new(), wait(1)).unwrap();
        let stranded = queue.submit(Chain::new(), wait(2)).unwrap();
        queue.close();
        worker.join().unwrap();
        assert!(first.wait().is_ok() && served.wait().is_ok());
        assert!(matches!(stranded.wait(), Err(Error::DeviceLost(_))));
    });
}
