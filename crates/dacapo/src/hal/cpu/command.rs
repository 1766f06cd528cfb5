//! Command buffers of the CPU backend: the plan of every dispatch, cut into groups by barriers.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use smallvec::SmallVec;

use super::job::Progress;
use super::queue::{Job, Queue, Scratch, Work};
use super::tile::{BoundArg, PlanContext, Split, Tile};
use crate::hal::event::Order;
use crate::hal::kernel::Kernel;
use crate::hal::{CommandBuffer, Completion, Memory, Pipeline, Recording, ResolvedArg};
use crate::profile::Span;
use crate::{Error, Result};

/// A kernel on the CPU: its twin, ready as it is.
#[derive(Debug)]
pub(super) struct CpuPipeline {
    pub kernel: &'static Kernel,
}

impl Pipeline for CpuPipeline {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A planned dispatch.
struct Planned {
    kernel: &'static Kernel,
    args: SmallVec<[BoundArg; 8]>,
    params: SmallVec<[u8; 64]>,
    tiles: [usize; 2],
    scratch: usize,
    /// Tiles of the group before this dispatch's first.
    first: usize,
}

/// Dispatches that run beside each other.
#[derive(Default)]
struct Group {
    dispatches: Vec<Planned>,
    tiles: usize,
}

/// A command buffer being encoded.
pub(super) struct CpuCommandBuffer {
    queue: Arc<Queue<Program>>,
    threads: usize,
    label: String,
    groups: Vec<Group>,
    memory: Vec<Arc<dyn Memory>>,
    timing: Option<Timing>,
}

/// What has to be known to tell the times of a command buffer's stretches between barriers.
struct Timing {
    origin: Instant,
    /// The group that each stretch became; `None` without tiles.
    stretches: Vec<Option<usize>>,
}

impl CpuCommandBuffer {
    pub fn new(queue: Arc<Queue<Program>>, threads: usize, label: &str) -> Self {
        CpuCommandBuffer {
            queue,
            threads,
            label: label.to_owned(),
            groups: vec![Group::default()],
            memory: Vec::new(),
            timing: None,
        }
    }
}

impl CommandBuffer for CpuCommandBuffer {
    fn dispatch(
        &mut self,
        pipeline: &dyn Pipeline,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        let kernel = pipeline
            .as_any()
            .downcast_ref::<CpuPipeline>()
            .map(|p| p.kernel)
            .ok_or_else(|| Error::WrongDevice { what: "a pipeline".into() })?;
        let mut bound = args.iter().map(bind).collect::<Result<SmallVec<[BoundArg; 8]>>>()?;
        let context = PlanContext { args: &bound, params, grid, threads: self.threads };
        let plan = catch_unwind(|| (kernel.cpu.plan)(&context))
            .map_err(|panic| failure(kernel, &self.label, panic.as_ref()))?;
        for &(binding, split) in &plan.splits {
            let arg = bound.get_mut(binding).filter(|arg| arg.access.writes());
            arg.ok_or_else(|| {
                Error::argument(
                    kernel.name,
                    "plan",
                    "splits of written bindings",
                    format!("binding {binding}"),
                )
            })?
            .split = split;
        }
        let tiles = plan.tiles[0] * plan.tiles[1];
        if tiles == 0 {
            return Ok(());
        }
        self.memory.extend(args.iter().map(|arg| arg.memory.clone()));
        let group = self.groups.last_mut().expect("there is always a group");
        group.dispatches.push(Planned {
            kernel,
            args: bound,
            params: SmallVec::from_slice(params),
            tiles: plan.tiles,
            scratch: plan.scratch,
            first: group.tiles,
        });
        group.tiles += tiles;
        Ok(())
    }

    fn time_groups(&mut self) {
        self.timing = Some(Timing { origin: Instant::now(), stretches: Vec::new() });
    }

    fn barrier(&mut self) {
        self.end_stretch();
        if self.groups.last().is_some_and(|group| group.tiles > 0) {
            self.groups.push(Group::default());
        }
    }

    fn submit(self: Box<Self>, order: Order) -> Result<Arc<dyn Completion>> {
        self.into_recording().submit(order)
    }

    fn finish(self: Box<Self>) -> Result<Arc<dyn Recording>> {
        Ok(Arc::new(self.into_recording()))
    }
}

impl CpuCommandBuffer {
    fn end_stretch(&mut self) {
        let working = self.groups.last().is_some_and(|group| group.tiles > 0);
        if let Some(timing) = &mut self.timing {
            timing.stretches.push(working.then_some(self.groups.len() - 1));
        }
    }

    fn into_recording(mut self) -> CpuRecording {
        self.end_stretch();
        // Most arguments share a few allocations: one reference to each is enough.
        self.memory.sort_unstable_by_key(|memory| Arc::as_ptr(memory).addr());
        self.memory.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let plan = Plan {
            groups: self.groups,
            label: self.label,
            spare: Mutex::new(Vec::new()),
            timing: self.timing,
            _memory: self.memory,
        };
        CpuRecording { queue: self.queue, plan: Arc::new(plan) }
    }
}

/// A finished command buffer.
struct CpuRecording {
    queue: Arc<Queue<Program>>,
    plan: Arc<Plan>,
}

impl std::fmt::Debug for CpuRecording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "recording of {:?}", self.plan.label)
    }
}

impl Recording for CpuRecording {
    fn submit(&self, order: Order) -> Result<Arc<dyn Completion>> {
        let program = Program { progress: Some(self.plan.progress()), plan: self.plan.clone() };
        Ok(Arc::new(CpuCompletion(self.queue.submit(program, order)?)))
    }
}

/// What a finished command buffer runs: the same for each of its submissions.
struct Plan {
    groups: Vec<Group>,
    label: String,
    /// Present if it is timed.
    timing: Option<Timing>,
    /// Progress of submissions that nobody asks about any more, for the next ones.
    spare: Mutex<Vec<Progress>>,
    /// Keeps what the dispatches point to alive until nobody can run them any more.
    _memory: Vec<Arc<dyn Memory>>,
}

impl Plan {
    /// Progress that has not begun.
    fn progress(&self) -> Progress {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| {
            let progress = Progress::new(self.groups.iter().map(|group| group.tiles));
            match &self.timing {
                Some(timing) => progress.timed(timing.origin),
                None => progress,
            }
        })
    }
}

fn bind(arg: &ResolvedArg) -> Result<BoundArg> {
    let foreign = || Error::WrongDevice { what: "a buffer".into() };
    let base = arg.memory.host_ptr().ok_or_else(foreign)?;
    // The view lies inside its memory, so this stays inside the allocation.
    let ptr = base.as_ptr().wrapping_add(arg.offset);
    if !(ptr as usize).is_multiple_of(arg.dtype.size()) {
        return Err(Error::Misaligned { what: "an argument".into(), offset: arg.offset, dtype: arg.dtype });
    }
    Ok(BoundArg { ptr, len: arg.len, dtype: arg.dtype, access: arg.access, split: Split::whole() })
}

/// A submission in the queue.
pub(super) struct Program {
    plan: Arc<Plan>,
    /// Present until the program is dropped.
    progress: Option<Progress>,
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut progress) = self.progress.take() {
            progress.reset();
            self.plan.spare.lock().unwrap_or_else(PoisonError::into_inner).push(progress);
        }
    }
}

impl Work for Program {
    fn progress(&self) -> &Progress {
        self.progress.as_ref().expect("present until the program is dropped")
    }

    fn tile(&self, group: usize, tile: usize, worker: &mut Scratch) -> Result<()> {
        let dispatches = &self.plan.groups[group].dispatches;
        let index = dispatches.partition_point(|d| d.first <= tile) - 1;
        let planned = &dispatches[index];
        let local = tile - planned.first;
        let position = [local % planned.tiles[0], local / planned.tiles[0]];
        let scratch = worker.take(planned.scratch);
        // SAFETY: the addresses belong to memory that this program keeps alive, checked for bounds, alignment
        // and initialization when the dispatch was encoded. `Progress` hands out each tile of a group once, so
        // positions are unique. The encoder has put a barrier between dispatches that conflict, refused
        // arguments that overlap, and host access waits for the end of this program.
        let tile = unsafe {
            Tile::new(planned.kernel.name, &planned.args, &planned.params, position, planned.tiles, scratch)
        };
        // Unwind safety: after a panic the submission has failed; what it wrote is never taken for a result.
        catch_unwind(AssertUnwindSafe(|| (planned.kernel.cpu.run)(&tile)))
            .map_err(|panic| failure(planned.kernel, &self.plan.label, panic.as_ref()))
    }
}

fn failure(kernel: &'static Kernel, label: &str, panic: &(dyn Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked".to_owned());
    Error::KernelFailed { kernel: kernel.name, label: label.to_owned(), message }
}

/// The fate of a program.
struct CpuCompletion(super::sync::Arc<Job<Program>>);

impl std::fmt::Debug for CpuCompletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "completion of {:?}", self.0.work.plan.label)
    }
}

impl Completion for CpuCompletion {
    fn is_done(&self) -> bool {
        self.0.is_done()
    }

    fn wait(&self) -> Result<()> {
        self.0.wait()
    }

    fn group_times(&self) -> Vec<Vec<Option<Span>>> {
        let Some(timing) = &self.0.work.plan.timing else { return vec![Vec::new()] };
        let progress = self.0.work.progress();
        let span = |group: &Option<usize>| progress.span((*group)?);
        vec![timing.stretches.iter().map(span).collect()]
    }
}
