//! What encoders record.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::{HashMap, HashSet};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use objc2::Message;
use objc2::rc::Retained;

use crate::classes::{Buffer, Fence, Indirect, PipelineState};
use crate::lock;
use crate::msl::{Bound, Function, Launch};
use crate::objc::freed;

/// A reference to an object, kept or not: command buffers may be told not to keep what they use.
pub(crate) struct Reference<T> {
    object: NonNull<T>,
    _kept: Option<Retained<T>>,
}

impl<T> std::fmt::Debug for Reference<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.object.fmt(f)
    }
}

// SAFETY: the classes of which there are references guard what they hold by locks.
unsafe impl<T> Send for Reference<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Reference<T> {}

impl<T: Message> Reference<T> {
    pub fn new(object: &T, keep: bool) -> Reference<T> {
        Reference { object: NonNull::from(object), _kept: keep.then(|| object.retain()) }
    }

    /// The object.
    ///
    /// # Errors
    /// If it was freed.
    pub fn get(&self) -> Result<&T, String> {
        // SAFETY: it was an object, and places of objects are never used again.
        match unsafe { freed(self.object.as_ptr().cast()) } {
            Some(class) => Err(format!("a {class} was freed before the device was done with it")),
            // SAFETY: it lives; whoever uses the result meanwhile is checked again when the command buffer ends.
            None => Ok(unsafe { self.object.as_ref() }),
        }
    }

    /// What tells objects apart.
    pub fn id(&self) -> usize {
        self.object.as_ptr().addr()
    }
}

/// Memory of a buffer. It outlives the buffer as long as the device may be using it, so that a mistake is a complaint and
/// not a crash.
#[derive(Debug)]
pub(crate) struct Storage {
    pub ptr: *mut u8,
    pub len: usize,
    owned: Option<Layout>,
}

// SAFETY: bytes that host and device share; the program orders accesses.
unsafe impl Send for Storage {}
// SAFETY: as above.
unsafe impl Sync for Storage {}

/// Bytes of all buffers' memory.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

impl Storage {
    /// The alignment of memory: a page.
    pub const PAGE: usize = 4096;

    /// Fresh memory, full of what nobody should read.
    pub fn new(len: usize) -> Option<Storage> {
        let layout = Layout::from_size_align(len, Storage::PAGE).ok().filter(|layout| layout.size() > 0)?;
        // SAFETY: more than no bytes.
        let ptr = NonNull::new(unsafe { alloc(layout) })?.as_ptr();
        // SAFETY: so many bytes.
        unsafe { ptr.write_bytes(0xff, len) };
        ALLOCATED.fetch_add(len, Ordering::Relaxed);
        Some(Storage { ptr, len, owned: Some(layout) })
    }

    /// Memory of somebody else.
    pub fn wrap(ptr: *mut u8, len: usize) -> Storage {
        Storage { ptr, len, owned: None }
    }

    /// Bytes of all buffers' own memory.
    pub fn allocated() -> usize {
        ALLOCATED.load(Ordering::Relaxed)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if let Some(layout) = self.owned {
            ALLOCATED.fetch_sub(self.len, Ordering::Relaxed);
            // SAFETY: allocated so.
            unsafe { dealloc(self.ptr, layout) };
        }
    }
}

/// A kernel that was made into a pipeline.
#[derive(Debug)]
pub(crate) struct Code {
    pub label: String,
    pub function: Function,
    /// Threads of a threadgroup at most.
    pub most: usize,
    /// Threadgroups are promised to be whole simdgroups.
    pub whole: bool,
    /// Indirect command buffers may name it.
    pub indirect: bool,
}

/// What is bound to an index.
#[derive(Debug)]
pub(crate) enum Slot {
    Buffer {
        buffer: Reference<Buffer>,
        storage: Arc<Storage>,
        offset: usize,
    },
    /// Aligned as constants are; so many of the bytes count.
    Bytes(Vec<u128>, usize),
}

impl Slot {
    /// Bytes that are set inline.
    pub fn bytes(bytes: &[u8]) -> Slot {
        let whole = bytes.chunks(16).map(|chunk| {
            let mut word = [0xff; 16];
            word[..chunk.len()].copy_from_slice(chunk);
            u128::from_ne_bytes(word)
        });
        Slot::Bytes(whole.collect(), bytes.len())
    }

    fn bound(&self, index: u32) -> Bound {
        match self {
            Slot::Buffer { storage, offset, .. } => {
                Bound { index, ptr: storage.ptr.wrapping_add(*offset), len: storage.len - offset }
            }
            Slot::Bytes(words, len) => Bound { index, ptr: words.as_ptr().cast_mut().cast(), len: *len },
        }
    }
}

/// A dispatch with all that it needs.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub pipeline: Arc<Reference<PipelineState>>,
    pub code: Arc<Code>,
    pub slots: Vec<(u32, Arc<Slot>)>,
    pub threadgroup_memory: Vec<usize>,
    pub threadgroups: [u32; 3],
    pub threads: [u32; 3],
}

impl Run {
    /// Runs it.
    pub fn run(&self, seed: u64) -> Result<(), String> {
        self.alive()?;
        let buffers: Vec<Bound> = self.slots.iter().map(|(index, slot)| slot.bound(*index)).collect();
        let launch = Launch {
            buffers: &buffers,
            threadgroup_memory: &self.threadgroup_memory,
            threadgroups: self.threadgroups,
            threads: self.threads,
            seed,
        };
        // SAFETY: the memory lives as long as the slots; the program says that nobody else uses it now.
        unsafe { self.code.function.run(&launch) }.map_err(|error| format!("{}: {error}", self.code.label))
    }

    /// An error if something that it uses was freed.
    pub fn alive(&self) -> Result<(), String> {
        let named = |error: String| format!("{}: {error}", self.code.label);
        self.pipeline.get().map_err(named)?;
        for (index, slot) in &self.slots {
            if let Slot::Buffer { buffer, .. } = &**slot {
                buffer.get().map_err(|error| format!("{}: buffer {index}: {error}", self.code.label))?;
            }
        }
        Ok(())
    }

    /// The buffers that are bound, by their indices.
    pub fn buffers(&self) -> impl Iterator<Item = (u32, &Reference<Buffer>)> {
        self.slots.iter().filter_map(|(index, slot)| match &**slot {
            Slot::Buffer { buffer, .. } => Some((*index, buffer)),
            Slot::Bytes(..) => None,
        })
    }
}

/// Something that runs between two barriers.
#[derive(Debug)]
pub(crate) enum Item {
    Run(Run),
    /// Commands of an indirect command buffer, from and to.
    Indirect(Reference<Indirect>, usize, usize),
}

/// Where an encoder's times are noted.
#[derive(Debug)]
pub(crate) struct Samples {
    pub values: Arc<Mutex<Vec<u64>>>,
    pub begin: usize,
    pub end: usize,
}

impl Samples {
    /// Notes the time.
    pub fn note(&self, index: usize) {
        if let Some(value) = lock(&self.values).get_mut(index) {
            *value = super::clock();
        }
    }
}

/// An encoder's work.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    pub waits: Vec<Reference<Fence>>,
    pub updates: Vec<Reference<Fence>>,
    /// Items between barriers.
    pub groups: Vec<Vec<Item>>,
    /// Resources that indirect commands may use: those that may be written, too.
    pub used: HashMap<usize, bool>,
    /// Resources that the queue keeps resident.
    pub resident: HashSet<usize>,
    pub samples: Option<Samples>,
}

impl Pass {
    /// The dispatches between barriers, those of indirect command buffers among them.
    pub fn flat(&self) -> Result<Vec<Vec<Run>>, String> {
        let mut flat = Vec::new();
        for group in &self.groups {
            let mut runs = Vec::new();
            for item in group {
                match item {
                    Item::Run(run) => runs.push(run.clone()),
                    Item::Indirect(commands, from, to) if group.len() == 1 => {
                        let inner = commands.get()?.runs(*from, *to)?;
                        inner.iter().flatten().try_for_each(|run| self.declared(run))?;
                        flat.extend(inner);
                    }
                    Item::Indirect(..) => {
                        return Err("indirect commands beside others: this is not simulated".into());
                    }
                }
            }
            flat.push(runs);
        }
        flat.retain(|runs| !runs.is_empty());
        Ok(flat)
    }

    /// An error if the encoder was not told of what an indirect command uses.
    fn declared(&self, run: &Run) -> Result<(), String> {
        for (index, buffer) in run.buffers() {
            let writes = run.code.function.writes(index);
            let declared = match self.used.get(&buffer.id()) {
                Some(written) => *written || !writes,
                None => self.resident.contains(&buffer.id()),
            };
            if !declared {
                let how = if writes { "written" } else { "read" };
                return Err(format!("{}: buffer {index} is {how} and was not declared so", run.code.label));
            }
        }
        Ok(())
    }
}
