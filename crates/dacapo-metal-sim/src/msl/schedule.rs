//! Runs threadgroups: a fiber for each thread, whose turn comes in an order that a seed chooses.

use super::abi::{self, STACK, WIDTH, failure, operation};
use super::fiber::{MOST, Stacks, switch};
use super::shadow::{Epochs, Moment, Shadow};

/// Edges of the control flow that a thread may take. Counted where accesses are watched.
const BUDGET: u64 = 1 << 26;
/// Barriers that a threadgroup may pass.
const BARRIERS: u32 = 1 << 22;
/// Stands behind a thread's record until the stack reaches it.
const CANARY: u64 = 0x9e37_79b9_7f4a_7c15;

/// What kernels call.
pub static HOST: abi::Host = abi::Host { barrier, simd, fail, access };

/// The record at the start of a stack.
#[repr(C)]
struct Thread {
    shared: abi::Fiber,
    run: *mut Run,
    /// Where to go on.
    at: usize,
    canary: u64,
}

/// Threads of a simdgroup on their way to something that they do together.
#[derive(Debug, Clone, Copy, Default)]
struct Meeting {
    arrived: u32,
    /// What, for which memory, and where in the text.
    what: (u32, u32, usize),
    epochs: Epochs,
}

/// A threadgroup that is running.
pub struct Run {
    kernel: unsafe extern "C" fn(),
    stacks: Stacks,
    launch: *const abi::Launch,
    threads: usize,
    ready: Vec<u16>,
    random: Random,
    simdgroups: Vec<abi::Simdgroup>,
    meetings: Vec<Meeting>,
    at_barrier: u32,
    /// Which memory the barrier is for, and where in the text it is.
    barrier: (u32, usize),
    barriers: u32,
    epochs: Epochs,
    ended: u32,
    group: u32,
    main: usize,
    error: Option<String>,
    shadow: Option<Shadow>,
}

/// A small deterministic generator (xorshift64*, Vigna 2016).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Any seed will do.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`, which is at most 2^32.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        ((high * n as u64) >> 32) as usize
    }
}

impl Run {
    /// For threadgroups of a dispatch, which holds until this is dropped.
    pub fn new(
        kernel: unsafe extern "C" fn(),
        launch: &abi::Launch,
        seed: u64,
        shadow: Option<Shadow>,
    ) -> Result<Run, String> {
        let threads = launch.threads.iter().map(|&n| n as usize).product::<usize>();
        assert!(threads <= MOST, "was checked");
        let simdgroup = |i: usize| abi::Simdgroup {
            lanes: (threads - i * WIDTH).min(WIDTH) as u32,
            computed: [0; 2],
            result: [abi::Slot([0; 32]); 2],
            slots: [[abi::Slot([0; 32]); WIDTH]; 2],
        };
        let simdgroups: Vec<_> = (0..threads.div_ceil(WIDTH)).map(simdgroup).collect();
        Ok(Run {
            kernel,
            stacks: Stacks::take()?,
            launch,
            threads,
            ready: Vec::with_capacity(threads),
            random: Random::new(seed),
            meetings: vec![Meeting::default(); simdgroups.len()],
            simdgroups,
            at_barrier: 0,
            barrier: (0, 0),
            barriers: 0,
            epochs: Epochs::default(),
            ended: 0,
            group: 0,
            main: 0,
            error: None,
            shadow,
        })
    }

    /// Gives the stacks back.
    pub fn finish(self) {
        self.stacks.give_back();
    }

    /// Runs a threadgroup; `index` is its number in the grid, `place` where it is in x, y and z.
    ///
    /// # Errors
    /// What a thread did wrong, or what they wait for in vain. Nothing else may be run then.
    ///
    /// # Safety
    /// The kernel may touch what the launch names.
    pub unsafe fn group(&mut self, index: u32, place: [u32; 3]) -> Result<(), String> {
        self.prepare(index, place);
        let run: *mut Run = self;
        let first = self.random.below(self.threads);
        let first = self.ready.swap_remove(first);
        // SAFETY: the fibers were prepared, and stay on this thread until they come back here.
        unsafe {
            let to = (*thread(&(*run).stacks, first.into())).at;
            switch(&raw mut (*run).main, to);
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let intact = |i: usize| {
            // SAFETY: the record was written above.
            unsafe { (*thread(&self.stacks, i)).canary == CANARY }
        };
        if !(0..self.threads).all(intact) {
            return Err(format!("a thread needs more than {STACK} bytes of stack"));
        }
        if (self.ended as usize) < self.threads {
            return Err(self.stuck());
        }
        Ok(())
    }

    fn prepare(&mut self, index: u32, place: [u32; 3]) {
        let run: *mut Run = self;
        self.ready.clear();
        self.ready.extend(0..self.threads as u16);
        (self.at_barrier, self.barriers, self.ended, self.group) = (0, 0, 0, index);
        self.epochs = Epochs::default();
        self.meetings.fill(Meeting::default());
        for simdgroup in &mut self.simdgroups {
            simdgroup.computed = [0; 2];
        }
        if let Some(shadow) = &mut self.shadow {
            shadow.next_group();
        }
        for i in 0..self.threads {
            let shared = abi::Fiber {
                launch: self.launch,
                simd: &raw mut self.simdgroups[i / WIDTH],
                budget: BUDGET,
                thread_index: i as u32,
                operations: 0,
                group: place,
            };
            let at = self.stacks.prepare(i, enter);
            // SAFETY: the stack is large enough, aligned, and nobody stands on it.
            unsafe { thread(&self.stacks, i).write(Thread { shared, run, at, canary: CANARY }) };
        }
    }

    /// Why threads wait that nobody will wake.
    fn stuck(&self) -> String {
        let meeting: u32 = self.meetings.iter().map(|meeting| meeting.arrived).sum();
        let waits = self.meetings.iter().find(|meeting| meeting.arrived > 0);
        let what = waits.map_or("nothing", |meeting| operation::NAMES[meeting.what.0 as usize]);
        format!(
            "divergent barrier in threadgroup {}: of {} threads, {} wait at threadgroup_barrier, {meeting} for their \
             simdgroup ({what}), and {} have ended",
            self.group, self.threads, self.at_barrier, self.ended
        )
    }

    /// The fiber whose turn it is after `me`, or the one that runs threadgroups; `None` if it is `me`.
    fn next(&mut self, me: u32) -> Option<usize> {
        if self.error.is_some() || self.ready.is_empty() {
            return Some(self.main);
        }
        let next = self.random.below(self.ready.len());
        let next = self.ready.swap_remove(next);
        if u32::from(next) == me {
            return None;
        }
        // SAFETY: the record was written by `prepare`.
        Some(unsafe { (*thread(&self.stacks, next.into())).at })
    }

    fn barrier(&mut self, flags: u32, site: usize) {
        if self.at_barrier == 0 {
            self.barrier = (flags, site);
        } else if self.barrier != (flags, site) {
            self.error = Some(format!(
                "divergent barrier: threads of threadgroup {} are at different calls of threadgroup_barrier",
                self.group
            ));
        }
        self.at_barrier += 1;
        if self.at_barrier as usize == self.threads {
            self.at_barrier = 0;
            self.epochs.advance(flags);
            self.ready.extend(0..self.threads as u16);
            self.barriers += 1;
            if self.barriers > BARRIERS {
                self.error = Some(format!("endless: threadgroup {} passed {BARRIERS} barriers", self.group));
            }
        }
    }

    fn meet(&mut self, thread: u32, what: (u32, u32, usize)) {
        let i = thread as usize / WIDTH;
        let meeting = &mut self.meetings[i];
        if meeting.arrived == 0 {
            meeting.what = what;
        } else if meeting.what != what {
            let names = [meeting.what.0, what.0].map(|name| operation::NAMES[name as usize]);
            self.error = Some(format!(
                "divergent simdgroup: threads of simdgroup {i} of threadgroup {} are at different calls: {} and {}",
                self.group, names[0], names[1]
            ));
        }
        meeting.arrived += 1;
        if meeting.arrived == self.simdgroups[i].lanes {
            meeting.arrived = 0;
            if what.0 == operation::BARRIER {
                meeting.epochs.advance(what.1);
            }
            let first = (i * WIDTH) as u16;
            self.ready.extend(first..first + self.simdgroups[i].lanes as u16);
        }
    }
}

/// The record of a thread.
fn thread(stacks: &Stacks, i: usize) -> *mut Thread {
    stacks.start(i).as_ptr().cast()
}

/// The record of the thread that runs this.
fn this_thread() -> *mut Thread {
    let here = 0u8;
    let here = (&raw const here).expose_provenance();
    std::ptr::with_exposed_provenance_mut(here & !(STACK - 1))
}

/// Where fibers begin.
extern "C" fn enter() -> ! {
    let me = this_thread();
    // SAFETY: the record is this thread's, and the run outlives it. The kernel is called as its text wants.
    unsafe {
        let kernel = (*(*me).run).kernel;
        kernel();
        (*(*me).run).ended += 1;
        leave(me);
    }
    // Nobody goes on with a thread that has ended.
    std::process::abort()
}

/// Lets others run. Comes back when it is this thread's turn.
///
/// # Safety
/// `me` is this thread's record.
unsafe fn leave(me: *mut Thread) {
    // SAFETY: the run outlives its threads, and nothing of it is borrowed during the switch.
    unsafe {
        let next = (*(*me).run).next((*me).shared.thread_index);
        if let Some(to) = next {
            switch(&raw mut (*me).at, to);
        }
    }
}

unsafe extern "C" fn barrier(fiber: *mut abi::Fiber, flags: u32, site: usize) {
    let me = fiber.cast::<Thread>();
    // SAFETY: kernels pass their own record.
    unsafe {
        (*(*me).run).barrier(flags, site);
        leave(me);
    }
}

unsafe extern "C" fn simd(fiber: *mut abi::Fiber, operation: u32, flags: u32, site: usize) {
    let me = fiber.cast::<Thread>();
    // SAFETY: as above.
    unsafe {
        (*(*me).run).meet((*me).shared.thread_index, (operation, flags, site));
        leave(me);
    }
}

unsafe extern "C" fn fail(fiber: *mut abi::Fiber, what: u32, a: u64, b: u64) {
    let me = fiber.cast::<Thread>();
    // SAFETY: as above.
    unsafe {
        let run = &mut *(*me).run;
        let (group, thread) = (run.group, (*me).shared.thread_index);
        let error = match what {
            failure::OUT_OF_BOUNDS => {
                let length = (*(*me).shared.launch).lengths[a as usize];
                format!("out of bounds: offset {b} of buffer({a}), which has {length}")
            }
            failure::ENDLESS => format!("endless: more than {BUDGET} steps"),
            failure::INACTIVE_LANE => format!("a shuffle from lane {a} of {b}"),
            failure::UNSET_MATRIX => "a matrix is used that nothing was loaded into".to_owned(),
            failure::MIXED_MATRIX => "threads of a simdgroup bring parts of different matrices".to_owned(),
            failure::MATRIX_PLACES => "threads of a simdgroup name different places for a matrix".to_owned(),
            failure::MATRIX_LANES => format!("a matrix in a simdgroup of {a} threads; it takes {b}"),
            _ => format!("failure {what}"),
        };
        run.error = Some(format!("{error}; thread {thread} of threadgroup {group}"));
        leave(me);
    }
}

unsafe extern "C" fn access(fiber: *mut abi::Fiber, at: *const u8, size: u64, kind: u32) {
    let me = fiber.cast::<Thread>();
    if at.addr() & !(STACK - 1) == me.addr() {
        return;
    }
    // SAFETY: as above.
    unsafe {
        let run = &mut *(*me).run;
        let thread = (*me).shared.thread_index;
        let Some(shadow) = &mut run.shadow else { return };
        let moment = Moment {
            group: run.group,
            thread,
            epochs: run.epochs,
            simd_epochs: run.meetings[thread as usize / WIDTH].epochs,
        };
        if let Err(error) = shadow.access(at.addr(), size as usize, kind, &moment) {
            run.error = Some(error);
            leave(me);
        }
    }
}
