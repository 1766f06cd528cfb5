//! The thread that runs what was committed, and how tests hold it.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, LazyLock, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use objc2::rc::Retained;

use super::{Item, Pass, Run, Slot};
use crate::classes::CommandBuffer;
use crate::{complain, lock};

/// The device's clock: nanoseconds.
pub(crate) fn clock() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // Never 0, as if the device had been on for a while.
    START.elapsed().as_nanos() as u64 + 1_000_000
}

/// What a shared event counts.
#[derive(Debug, Default)]
pub(crate) struct Event {
    value: Mutex<u64>,
    changed: Condvar,
    /// Highest value that a command buffer was told to signal.
    pub promised: AtomicU64,
}

impl Event {
    pub fn value(&self) -> u64 {
        *lock(&self.value)
    }

    fn signal(&self, value: u64) {
        let mut now = lock(&self.value);
        if value <= *now {
            complain(format!("an event at {now} is signalled to {value}: events only rise"));
        }
        *now = value;
        self.changed.notify_all();
    }

    /// Whether it reached the value in time.
    pub fn wait(&self, value: u64, patience: Duration) -> bool {
        let now = lock(&self.value);
        let (now, _) = self
            .changed
            .wait_timeout_while(now, patience, |now| *now < value)
            .unwrap_or_else(PoisonError::into_inner);
        *now >= value
    }
}

/// The content of a command buffer.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub label: String,
    /// What tells queues apart.
    pub queue: usize,
    pub passes: Vec<Pass>,
    pub signals: Vec<(Arc<Event>, u64)>,
}

impl Work {
    /// Every dispatch that can be named: not those of indirect command buffers.
    fn runs(&self) -> impl Iterator<Item = &Run> {
        let items = self.passes.iter().flat_map(|pass| &pass.groups).flatten();
        items.filter_map(|item| match item {
            Item::Run(run) => Some(run),
            Item::Indirect(..) => None,
        })
    }

    /// An error if something that it uses was freed.
    fn alive(&self) -> Result<(), String> {
        self.runs().try_for_each(Run::alive)?;
        for item in self.passes.iter().flat_map(|pass| &pass.groups).flatten() {
            if let Item::Indirect(commands, ..) = item {
                commands.get()?;
            }
        }
        for fence in self.passes.iter().flat_map(|pass| pass.waits.iter().chain(&pass.updates)) {
            fence.get()?;
        }
        Ok(())
    }

    fn uses(&self, buffer: usize) -> bool {
        let bound = |slot: &Slot| matches!(slot, Slot::Buffer { buffer: used, .. } if used.id() == buffer);
        self.runs().any(|run| run.slots.iter().any(|(_, slot)| bound(slot)))
            || self.passes.iter().any(|pass| pass.used.contains_key(&buffer))
    }
}

/// A committed command buffer.
pub(crate) struct Submitted {
    pub commands: Retained<CommandBuffer>,
    pub work: Arc<Work>,
}

// SAFETY: command buffers guard what they hold by locks.
unsafe impl Send for Submitted {}

/// Why a command buffer fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A code of `MTLCommandBufferErrorDomain`.
    pub code: isize,
    /// What the error says.
    pub reason: String,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submitted>,
    /// What was committed and has not ended.
    unfinished: Vec<Arc<Work>>,
    /// Command buffers whose handlers run, or that are about to be given up.
    closing: usize,
    held: bool,
    failure: Option<Failure>,
}

static STATE: LazyLock<(Mutex<State>, Condvar)> = LazyLock::new(Default::default);

fn update<R>(change: impl FnOnce(&mut State) -> R) -> R {
    let result = change(&mut lock(&STATE.0));
    STATE.1.notify_all();
    result
}

/// The device starts nothing new until [`resume`]. What it has begun goes on.
pub fn hold() {
    update(|state| state.held = true);
}

/// The device goes on.
pub fn resume() {
    update(|state| state.held = false);
}

/// Has the next command buffer that starts fail, without having run.
pub fn fail_next(failure: Failure) {
    update(|state| state.failure = Some(failure));
}

/// Whether nothing is committed that has not ended.
pub fn is_idle() -> bool {
    let state = lock(&STATE.0);
    state.unfinished.is_empty() && state.closing == 0
}

/// Waits until everything that was committed has ended, and nothing refers to it any more.
pub fn settle() {
    let busy = |state: &mut State| !state.unfinished.is_empty() || state.closing > 0;
    drop(STATE.1.wait_while(lock(&STATE.0), busy).unwrap_or_else(PoisonError::into_inner));
}

/// Whether something that was committed and has not ended uses a buffer.
pub(crate) fn uses(buffer: usize) -> bool {
    lock(&STATE.0).unfinished.iter().any(|work| work.uses(buffer))
}

/// The device has it from now on.
pub(crate) fn start(submitted: Submitted) {
    static THREAD: Once = Once::new();
    THREAD.call_once(|| {
        let thread = std::thread::Builder::new().name("simulated-gpu".into());
        thread.spawn(|| Device::default().live()).expect("a thread starts");
    });
    update(|state| {
        state.unfinished.push(submitted.work.clone());
        state.waiting.push_back(submitted);
    });
}

/// A pass that may have begun.
struct Running {
    /// What is left of each group, the next one last. `None` before it begins.
    groups: Option<Vec<Vec<Run>>>,
    ended: bool,
}

impl Running {
    fn advance(&mut self, pass: &Pass, seed: u64) -> Result<(), String> {
        let groups = match &mut self.groups {
            Some(groups) => groups,
            None => {
                pass.samples.iter().for_each(|samples| samples.note(samples.begin));
                let mut groups = pass.flat()?;
                groups.reverse();
                self.groups.insert(groups)
            }
        };
        if let Some(group) = groups.last_mut() {
            let run = group.swap_remove(seed as usize % group.len());
            run.run(seed >> 8)?;
            if group.is_empty() {
                groups.pop();
            }
        }
        if groups.is_empty() {
            self.ended = true;
            pass.samples.iter().for_each(|samples| samples.note(samples.end));
        }
        Ok(())
    }
}

struct Active {
    submitted: Submitted,
    passes: Vec<Running>,
    failure: Option<Failure>,
    complaint: Option<String>,
    /// When its first dispatch ran.
    begin: Option<u64>,
}

impl Active {
    fn ended(&self) -> bool {
        self.failed() || self.passes.iter().all(|pass| pass.ended)
    }

    fn failed(&self) -> bool {
        self.failure.is_some() || self.complaint.is_some()
    }
}

/// What the thread knows.
#[derive(Default)]
struct Device {
    active: Vec<Active>,
    random: u64,
}

impl Device {
    fn live(mut self) {
        loop {
            self.take();
            if let Some((index, pass)) = self.choose() {
                self.step(index, pass);
            }
            self.close();
        }
    }

    /// Takes what was committed; waits for it if there is nothing else to do.
    fn take(&mut self) {
        let mut state = lock(&STATE.0);
        while self.active.is_empty() && (state.held || state.waiting.is_empty()) {
            state = STATE.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.held {
            return;
        }
        while let Some(submitted) = state.waiting.pop_front() {
            let running = |_: &Pass| Running { groups: None, ended: false };
            let passes = submitted.work.passes.iter().map(running).collect();
            let failure = state.failure.take();
            self.active.push(Active { submitted, passes, failure, complaint: None, begin: None });
        }
    }

    /// A pass that nothing holds back: one of several, if there are.
    fn choose(&mut self) -> Option<(usize, usize)> {
        let mut ready = Vec::new();
        let mut updated = Vec::new();
        for (index, active) in self.active.iter().enumerate() {
            for (i, (pass, running)) in active.submitted.work.passes.iter().zip(&active.passes).enumerate() {
                if running.ended || active.failed() {
                    continue;
                }
                if !pass.waits.iter().any(|fence| updated.contains(&fence.id())) {
                    ready.push((index, i));
                }
                updated.extend(pass.updates.iter().map(|fence| fence.id()));
            }
        }
        if ready.is_empty() { None } else { Some(ready[self.below(ready.len())]) }
    }

    /// Runs one dispatch of a pass: any of those before its next barrier.
    fn step(&mut self, index: usize, pass: usize) {
        let seed = self.next();
        let active = &mut self.active[index];
        active.begin.get_or_insert_with(clock);
        let work = &active.submitted.work;
        if let Err(error) = active.passes[pass].advance(&work.passes[pass], seed) {
            active.complaint = Some(format!("{:?}: {error}", work.label));
        }
    }

    /// Ends command buffers that are done, in their queues' order.
    fn close(&mut self) {
        let mut blocked = Vec::new();
        let mut index = 0;
        while let Some(active) = self.active.get(index) {
            let queue = active.submitted.work.queue;
            if active.ended() && !blocked.contains(&queue) {
                end(self.active.remove(index));
            } else {
                blocked.push(queue);
                index += 1;
            }
        }
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        self.next() as usize % count
    }
}

/// A command buffer has ended: events rise, handlers are called.
fn end(active: Active) {
    let Active { submitted, failure, complaint, begin, .. } = active;
    let end = clock();
    // What was made to fail did not begin.
    let times = if begin.is_none() && failure.is_some() { (0, 0) } else { (begin.unwrap_or(end), end) };
    let Submitted { commands, work } = submitted;
    let complaint = complaint.or_else(|| work.alive().err().map(|why| format!("{:?}: {why}", work.label)));
    let failure = failure.or_else(|| {
        complaint.map(|reason| {
            complain(reason.clone());
            Failure { code: 9, reason }
        })
    });
    if failure.is_none() {
        work.signals.iter().for_each(|(event, value)| event.signal(*value));
    }
    // What uses the buffers has ended before the program learns that it has.
    update(|state| {
        state.unfinished.retain(|other| !Arc::ptr_eq(other, &work));
        state.closing += 1;
    });
    drop(work);
    commands.complete(failure, times);
    drop(commands);
    update(|state| state.closing -= 1);
}
