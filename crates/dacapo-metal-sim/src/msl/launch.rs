//! Kernels and their dispatches.

use std::fmt;
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::Arc;

use super::abi::{self, BUFFERS, WIDTH};
use super::fiber::MOST;
use super::schedule::{HOST, Random, Run};
use super::shadow::{Named, Shadow};
use super::source::{Entry, Place};
use super::{Checks, Library};

/// Bytes of threadgroup memory that there are.
const THREADGROUP_MEMORY: usize = 32 << 10;
/// Bytes between threadgroup memory arguments that belong to none.
const GAP: usize = 256;
/// What fresh threadgroup memory holds: nothing that anybody would want.
const FILL: u8 = 0xff;
/// Threads of a dispatch from which it is worth to take a second processor.
const MANY: u64 = 1 << 14;

/// A kernel of a library.
pub struct Function {
    run: unsafe extern "C" fn(),
    entry: Entry,
    arguments: Vec<abi::Argument>,
    /// Where the library's own constants are.
    module: Range<usize>,
    checks: Checks,
    /// Keeps the code.
    _library: Arc<Library>,
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.entry.name)
    }
}

/// A dispatch of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Launch<'a> {
    /// Memory by `[[buffer(i)]]`.
    pub buffers: &'a [Bound],
    /// Bytes of threadgroup memory by `[[threadgroup(i)]]`.
    pub threadgroup_memory: &'a [usize],
    /// Threadgroups in x, y and z.
    pub threadgroups: [u32; 3],
    /// Threads of a threadgroup in x, y and z.
    pub threads: [u32; 3],
    /// Chooses the order in which threadgroups and threads run.
    pub seed: u64,
}

/// Memory that is bound to an argument. Bytes that are set inline are bound in the same way.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Index of the argument.
    pub index: u32,
    /// The first byte.
    pub ptr: *mut u8,
    /// Bytes.
    pub len: usize,
}

impl Function {
    pub(super) fn new(library: &Arc<Library>, entry: &Entry) -> Option<Function> {
        let symbol = |start: &str| format!("{start}{}\0", entry.name);
        // SAFETY: the object has these, with these types: they were added to the text.
        let (run, table) = unsafe {
            let run = library.object.get::<unsafe extern "C" fn()>(symbol("sim_run_").as_bytes()).ok()?;
            let table =
                library.object.get::<*const abi::Argument>(symbol("sim_arguments_").as_bytes()).ok()?;
            (*run, table.try_as_raw_ptr()?.cast::<abi::Argument>())
        };
        // SAFETY: as above: two addresses.
        let [start, end] = unsafe {
            let ends = library.object.get::<*const [usize; 2]>(b"sim_module\0").ok()?;
            *ends.try_as_raw_ptr()?.cast::<[usize; 2]>()
        };
        let module = start..end;
        // SAFETY: a row of kind 2 ends the table.
        let row = |i| unsafe { *table.add(i) };
        let arguments = (0..).map(row).take_while(|row: &abi::Argument| row.kind < 2).collect();
        let (entry, checks) = (entry.clone(), library.checks);
        Some(Function { run, entry, arguments, module, checks, _library: library.clone() })
    }

    /// Threads of a simdgroup.
    pub fn simdgroup_width() -> u32 {
        WIDTH as u32
    }

    /// Threads of a threadgroup that the kernel takes.
    pub fn max_threads(&self) -> u32 {
        self.entry.most_threads.unwrap_or(MOST as u32)
    }

    /// Whether the kernel's text lets it write a buffer argument.
    pub fn writes(&self, buffer: u32) -> bool {
        let place = Place::Buffer(buffer);
        self.entry.arguments.iter().any(|argument| argument.place == place && argument.writes)
    }

    /// Runs a dispatch to its end.
    ///
    /// # Errors
    /// What is not bound or too small, more threads or threadgroup memory than there are, barriers and functions of
    /// simdgroups that not every thread reaches, indices outside of arrays in buffers; with [`Checks::All`] also races,
    /// any access outside of what is bound, threads that do not end. What the kernel wrote until then is written.
    ///
    /// # Safety
    /// Nobody else uses the bound memory, or, where the kernel only reads it, writes it.
    pub unsafe fn run(&self, launch: &Launch<'_>) -> Result<(), String> {
        // SAFETY: as promised.
        unsafe { self.start(launch) }.map_err(|error| format!("{}: {error}", self.entry.name))
    }

    unsafe fn start(&self, launch: &Launch<'_>) -> Result<(), String> {
        self.check(launch)?;
        let count: u64 = launch.threadgroups.iter().map(|&n| u64::from(n)).product();
        let count = u32::try_from(count).map_err(|_| format!("{count} threadgroups"))?;
        let threads = launch.threads.iter().product::<u32>();
        if count == 0 {
            return Ok(());
        }
        let order = Order::new(count, launch.seed);
        let many = count > 1 && u64::from(count) * u64::from(threads) >= MANY;
        if self.checks == Checks::All || !many {
            // SAFETY: as promised.
            return unsafe { self.groups(launch, &order, 0..count) };
        }
        let launch = Shared(launch);
        std::thread::scope(|scope| {
            let (half, launch, order) = (count / 2, &launch, &order);
            // SAFETY: as promised. Threadgroups may run side by side, as they do on a GPU.
            let other = scope.spawn(move || unsafe { self.groups(launch.get(), order, half..count) });
            // SAFETY: as above.
            let own = unsafe { self.groups(launch.get(), order, 0..half) };
            let other = other.join().unwrap_or_else(|_| Err("the simulation panicked".to_owned()));
            own.and(other)
        })
    }

    fn check(&self, launch: &Launch<'_>) -> Result<(), String> {
        let threads = launch.threads.iter().map(|&n| u64::from(n)).product::<u64>();
        if threads == 0 || threads > u64::from(self.max_threads()).min(MOST as u64) {
            return Err(format!("{threads} threads in a threadgroup; from 1 to {} work", self.max_threads()));
        }
        let memory: usize = launch.threadgroup_memory.iter().sum();
        if memory > THREADGROUP_MEMORY {
            return Err(format!("{memory} bytes of threadgroup memory; there are {THREADGROUP_MEMORY}"));
        }
        for argument in &self.arguments {
            let (name, size) = (name(argument), argument.size as usize);
            if argument.kind == 1 {
                let length = launch.threadgroup_memory.get(argument.index as usize).copied().unwrap_or(0);
                if length < size {
                    return Err(format!("{name} has {length} bytes; the kernel's variable has {size}"));
                }
                continue;
            }
            let bound = launch.buffers.iter().find(|bound| bound.index == argument.index);
            let bound = bound.ok_or_else(|| format!("nothing is bound to {name}"))?;
            if bound.len < size {
                return Err(format!("{name} has {} bytes; the kernel's type has {size}", bound.len));
            }
            if !bound.ptr.addr().is_multiple_of(argument.align as usize) {
                return Err(format!("{name} is not aligned to {} bytes", argument.align));
            }
        }
        Ok(())
    }

    /// Runs a part of the threadgroups on this thread.
    unsafe fn groups(&self, launch: &Launch<'_>, order: &Order, part: Range<u32>) -> Result<(), String> {
        let mut arena = Arena::new(launch.threadgroup_memory);
        let mut shared = abi::Launch {
            host: &HOST,
            buffers: [null_mut(); BUFFERS],
            lengths: [0; BUFFERS],
            threadgroup_memory: [null_mut(); BUFFERS],
            threadgroups: launch.threadgroups,
            threads: launch.threads,
        };
        for bound in launch.buffers.iter().filter(|bound| (bound.index as usize) < BUFFERS) {
            shared.buffers[bound.index as usize] = bound.ptr;
            shared.lengths[bound.index as usize] = bound.len as u64;
        }
        for (to, range) in shared.threadgroup_memory.iter_mut().zip(&arena.parts) {
            *to = arena.memory.as_mut_ptr().cast::<u8>().wrapping_add(range.start);
        }
        let shadow = (self.checks == Checks::All).then(|| self.shadow(launch, &arena));
        let seed = launch.seed ^ u64::from(part.start) << 32;
        let mut run = Run::new(self.run, &shared, seed, shadow)?;
        let [x, y, _] = launch.threadgroups;
        let mut result = Ok(());
        for i in part {
            let index = order.at(i);
            arena.clear();
            // SAFETY: as promised; what the launch names lives.
            result = unsafe { run.group(index, [index % x, index / x % y, index / x / y]) };
            if result.is_err() {
                break;
            }
        }
        run.finish();
        result
    }

    fn shadow(&self, launch: &Launch<'_>, arena: &Arena) -> Shadow {
        let writes = |argument: &abi::Argument| {
            let place = Place::Buffer(argument.index);
            self.entry.arguments.iter().any(|known| known.place == place && known.writes)
        };
        let buffers = self.arguments.iter().filter(|argument| argument.kind == 0).filter_map(|argument| {
            let bound = launch.buffers.iter().find(|bound| bound.index == argument.index)?;
            let range = bound.ptr.addr()..bound.ptr.addr() + bound.len;
            Some(Named { name: name(argument), range, writes: writes(argument) })
        });
        let start = arena.memory.as_ptr().addr();
        let memory = arena.parts.iter().enumerate().map(|(i, part)| Named {
            name: format!("threadgroup({i})"),
            range: start + part.start..start + part.end,
            writes: true,
        });
        Shadow::new(buffers.collect(), memory.collect(), self.module.clone())
    }
}

/// A launch that several threads look at. Pointers in it are only handed on to kernels.
struct Shared<'a>(&'a Launch<'a>);

// SAFETY: see `Function::run`: the kernel's threadgroups may touch the memory from any thread.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn get(&self) -> &'a Launch<'a> {
        self.0
    }
}

fn name(argument: &abi::Argument) -> String {
    format!("{}({})", ["buffer", "threadgroup"][argument.kind as usize % 2], argument.index)
}

/// Threadgroup memory.
struct Arena {
    memory: Vec<abi::Slot>,
    parts: Vec<Range<usize>>,
}

impl Arena {
    fn new(sizes: &[usize]) -> Arena {
        let mut end = GAP;
        let mut parts = Vec::new();
        for size in sizes {
            parts.push(end..end + size);
            end = (end + size + GAP).next_multiple_of(GAP);
        }
        Arena { memory: vec![abi::Slot([FILL; size_of::<abi::Slot>()]); end / size_of::<abi::Slot>()], parts }
    }

    /// Forgets what the last threadgroup left.
    fn clear(&mut self) {
        self.memory.fill(abi::Slot([FILL; size_of::<abi::Slot>()]));
    }
}

/// An order of threadgroups: in steps that meet each once.
struct Order {
    count: u32,
    step: u64,
    start: u64,
}

impl Order {
    fn new(count: u32, seed: u64) -> Order {
        let mut random = Random::new(seed);
        let mut step = 1 + random.below(count as usize) as u64;
        while common(step, u64::from(count)) != 1 {
            step += 1;
        }
        Order { count, step, start: random.below(count as usize) as u64 }
    }

    fn at(&self, i: u32) -> u32 {
        ((self.start + self.step * u64::from(i)) % u64::from(self.count)) as u32
    }
}

/// The greatest common divisor.
fn common(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_meets_every_threadgroup_once() {
        for count in [1, 2, 7, 64, 360] {
            for seed in 0..20 {
                let order = Order::new(count, seed);
                let mut met: Vec<_> = (0..count).map(|i| order.at(i)).collect();
                met.sort_unstable();
                assert!(met.into_iter().eq(0..count), "{count} {seed}");
            }
        }
    }
}
