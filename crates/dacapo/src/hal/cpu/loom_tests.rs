//! The worker pool under loom: every interleaving of small cases.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p dacapo --lib --release loom`.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::job::Progress;
use super::queue::{Queue, Scratch, Work};
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
        let job = queue.submit(Chain::new()).unwrap();
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
        let jobs = [queue.submit(Chain::new()).unwrap(), queue.submit(Chain::new()).unwrap()];
        queue.close();
        worker.join().unwrap();
        assert!(jobs.iter().all(|job| job.is_done() && job.wait().is_ok()));
    });
}
