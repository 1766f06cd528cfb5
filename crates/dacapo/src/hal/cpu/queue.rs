//! The queue between those who submit command buffers and the workers who run them.
//!
//! Jobs run in the order of submission, one after another, each by all workers, as soon as their gates open. An idle worker looks for new work
//! for a few microseconds, then sleeps until it is woken.

use std::collections::VecDeque;

use super::gate::Gate;
use super::job::Progress;
use super::sync::{Arc, AtomicBool, AtomicU64, Condvar, Mutex, Ordering, relax};
use crate::hal::event::Order;
use crate::{Error, Result};

/// How often an idle worker looks before it sleeps; about 10 to 20 microseconds.
#[cfg(not(loom))]
const LOOKS: u32 = 512;
#[cfg(loom)]
const LOOKS: u32 = 1;

/// Something that all workers run together.
pub(super) trait Work: Send + Sync {
    /// Its progress.
    fn progress(&self) -> &Progress;
    /// Runs one tile of one group with the worker's own scratch.
    fn tile(&self, group: usize, tile: usize, worker: &mut Scratch) -> Result<()>;
}

/// Memory of a worker, kept from tile to tile.
#[derive(Default)]
pub(super) struct Scratch(pub Vec<Line>);

/// A cache line's worth of `f32`, for alignment.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Line([f32; 16]);

impl Scratch {
    /// At least `len` elements, aligned to 64 bytes.
    pub fn take(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; 16]));
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }
}

/// A job in the queue.
pub(super) struct Job<W> {
    /// Position in the order of submission, from 1.
    sequence: u64,
    pub work: W,
    gate: Gate,
    /// The job before, while its end has to be waited for.
    previous: Mutex<Option<Arc<Job<W>>>>,
    done: AtomicBool,
    lock: Mutex<()>,
    ended: Condvar,
}

impl<W: Work> Job<W> {
    /// Whether the job has ended.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits for the end and tells how it went.
    pub fn wait(&self) -> Result<()> {
        for turn in 0..LOOKS {
            if self.is_done() {
                return self.work.progress().result();
            }
            relax(turn);
        }
        let mut guard = self.lock.lock().expect("no holder of this lock panics");
        while !self.is_done() {
            guard = self.ended.wait(guard).expect("no holder of this lock panics");
        }
        drop(guard);
        self.work.progress().result()
    }

    /// Waits until the job may run, or fails it.
    fn admit(&self, closed: &AtomicBool) {
        let previous = || {
            let previous = self.previous.lock().expect("no holder of this lock panics").take();
            if let Some(previous) = previous {
                let _ = previous.wait();
            }
        };
        self.gate.pass(self.work.progress(), previous, || closed.load(Ordering::Acquire));
    }

    fn end(&self) {
        self.gate.leave(&self.work.progress().result());
        let _guard = self.lock.lock().expect("no holder of this lock panics");
        self.done.store(true, Ordering::Release);
        self.ended.notify_all();
    }
}

struct State<W> {
    /// Unfinished jobs in order.
    jobs: VecDeque<Arc<Job<W>>>,
    closed: bool,
    sleeping: usize,
}

/// The queue itself, shared by submitters and workers.
pub(super) struct Queue<W> {
    state: Mutex<State<W>>,
    wake: Condvar,
    /// Sequence of the newest job, for idle workers to look at without the lock.
    newest: AtomicU64,
    /// What `State::closed` says, for workers at a gate.
    closing: AtomicBool,
}

impl<W: Work> Queue<W> {
    pub fn new() -> Self {
        Queue {
            state: Mutex::new(State { jobs: VecDeque::new(), closed: false, sleeping: 0 }),
            wake: Condvar::new(),
            newest: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        }
    }

    /// Adds a job behind all others.
    pub fn submit(&self, work: W, order: Order) -> Result<Arc<Job<W>>> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if state.closed {
            return Err(Error::DeviceLost("its queue is closed".into()));
        }
        // Only submitters change it, under the lock.
        let sequence = self.newest.load(Ordering::Relaxed) + 1;
        let gate = Gate::new(order);
        let trivial = gate.open && work.progress().is_empty();
        let previous = if gate.open { None } else { state.jobs.back().cloned() };
        let job = Arc::new(Job {
            sequence,
            work,
            gate,
            previous: Mutex::new(previous),
            done: AtomicBool::new(false),
            lock: Mutex::new(()),
            ended: Condvar::new(),
        });
        if trivial && state.jobs.is_empty() {
            job.end();
            return Ok(job);
        }
        state.jobs.push_back(job.clone());
        self.newest.store(sequence, Ordering::Release);
        if state.sleeping > 0 {
            self.wake.notify_all();
        }
        Ok(job)
    }

    /// Lets the workers end once the queue is empty.
    pub fn close(&self) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        state.closed = true;
        self.closing.store(true, Ordering::Release);
        state.jobs.iter().for_each(|job| job.gate.wake());
        self.wake.notify_all();
    }

    /// A worker's life: runs jobs until the queue is closed and empty.
    pub fn run_worker(&self) {
        let mut scratch = Scratch::default();
        let mut last = 0;
        while let Some(job) = self.next(last) {
            last = job.sequence;
            job.admit(&self.closing);
            let finished = job.work.progress().work(|group, tile| job.work.tile(group, tile, &mut scratch));
            if finished || job.work.progress().is_empty() {
                self.retire(&job);
            }
        }
    }

    /// The oldest unfinished job that this worker has not yet worked on.
    fn next(&self, last: u64) -> Option<Arc<Job<W>>> {
        for turn in 0..LOOKS {
            if self.newest.load(Ordering::Acquire) > last {
                break;
            }
            relax(turn);
        }
        let mut state = self.state.lock().expect("no holder of this lock panics");
        loop {
            if let Some(job) = state.jobs.iter().find(|job| job.sequence > last) {
                return Some(job.clone());
            }
            if state.closed {
                return None;
            }
            state.sleeping += 1;
            state = self.wake.wait(state).expect("no holder of this lock panics");
            state.sleeping -= 1;
        }
    }

    fn retire(&self, job: &Arc<Job<W>>) {
        self.state.lock().expect("no holder of this lock panics").jobs.retain(|j| j.sequence != job.sequence);
        job.end();
    }
}
