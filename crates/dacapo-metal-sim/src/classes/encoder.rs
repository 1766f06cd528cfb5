//! Compute encoders.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use objc2::rc::Retained;
use objc2::{DefinedClass, Message};
use objc2_foundation::NSRange;
use objc2_metal::{MTLBarrierScope, MTLResourceUsage, MTLSize};

use super::commands::CommandBuffer;
use super::foundation::{Text, says};
use super::indirect::Indirect;
use super::kernels::PipelineState;
use super::living;
use super::resources::{Buffer, Fence};
use crate::gpu::{Code, Item, Pass, Reference, Run, Samples, Slot};
use crate::objc::{Plant, planted};
use crate::{complain, lock};

/// Bytes that may be set inline.
const INLINE: usize = 4 << 10;
/// Indices of buffers.
const BUFFERS: usize = 31;
/// Bytes of threadgroup memory.
const THREADGROUP_MEMORY: usize = 32 << 10;
/// Alignment of offsets of buffers.
const ALIGN: usize = 4;

/// What is bound for the next dispatch: by encoders and by indirect commands.
#[derive(Default)]
pub(crate) struct Table {
    pub pipeline: Option<(Arc<Reference<PipelineState>>, Arc<Code>)>,
    slots: BTreeMap<u32, Arc<Slot>>,
    threadgroup_memory: Vec<usize>,
}

impl Table {
    pub fn set_pipeline(&mut self, state: &PipelineState, keep: bool) {
        let code = living(state).code().clone();
        self.pipeline = Some((Arc::new(Reference::new(state, keep)), code));
    }

    pub fn set_buffer(
        &mut self,
        buffer: &Buffer,
        offset: usize,
        index: usize,
        keep: bool,
    ) -> Result<(), String> {
        let storage = living(buffer).storage().clone();
        if index >= BUFFERS {
            return Err(format!("buffer index {index}; there are {BUFFERS}"));
        }
        if offset >= storage.len || !offset.is_multiple_of(ALIGN) {
            return Err(format!("buffer {index} of {} bytes is bound at {offset}", storage.len));
        }
        let slot = Slot::Buffer { buffer: Reference::new(buffer, keep), storage, offset };
        self.slots.insert(index as u32, Arc::new(slot));
        Ok(())
    }

    fn set_bytes(&mut self, bytes: &[u8], index: usize) -> Result<(), String> {
        if index >= BUFFERS {
            return Err(format!("buffer index {index}; there are {BUFFERS}"));
        }
        if bytes.is_empty() || bytes.len() > INLINE {
            return Err(format!("{} bytes are set inline; from 1 to {INLINE} work", bytes.len()));
        }
        self.slots.insert(index as u32, Arc::new(Slot::bytes(bytes)));
        Ok(())
    }

    pub fn set_threadgroup_memory(&mut self, length: usize, index: usize) -> Result<(), String> {
        if !length.is_multiple_of(16) || length > THREADGROUP_MEMORY {
            return Err(format!(
                "{length} bytes of threadgroup memory: multiples of 16 up to {THREADGROUP_MEMORY} work"
            ));
        }
        if self.threadgroup_memory.len() <= index {
            self.threadgroup_memory.resize(index + 1, 0);
        }
        self.threadgroup_memory[index] = length;
        Ok(())
    }

    /// A dispatch of what is bound.
    pub fn dispatch(&self, threadgroups: MTLSize, threads: MTLSize) -> Result<Run, String> {
        let (pipeline, code) = self.pipeline.clone().ok_or("a dispatch without a pipeline")?;
        let extent = |size: MTLSize| -> Result<[u32; 3], String> {
            let part = |n: usize| u32::try_from(n).map_err(|_| format!("{size:?} is too large"));
            Ok([part(size.width)?, part(size.height)?, part(size.depth)?])
        };
        let (threadgroups, threads) = (extent(threadgroups)?, extent(threads)?);
        let count: usize = threads.iter().map(|&n| n as usize).product();
        let label = &code.label;
        if count == 0 || count > code.most || threadgroups.contains(&0) {
            return Err(format!(
                "{label}: {threadgroups:?} threadgroups of {threads:?}; at most {} threads",
                code.most
            ));
        }
        if code.whole && !count.is_multiple_of(32) {
            return Err(format!("{label}: threadgroups of {count} were promised to be whole simdgroups"));
        }
        // Lengths stay until others are set, also those that the pipeline has no use for.
        let memory: usize = self.threadgroup_memory.iter().sum();
        if memory > THREADGROUP_MEMORY {
            return Err(format!(
                "{label}: {memory} bytes of threadgroup memory in all: up to {THREADGROUP_MEMORY} work"
            ));
        }
        let slots = self.slots.iter().map(|(index, slot)| (*index, slot.clone())).collect();
        let threadgroup_memory = self.threadgroup_memory.clone();
        Ok(Run { pipeline, code, slots, threadgroup_memory, threadgroups, threads })
    }
}

/// What an encoder holds.
pub(crate) struct Encoding {
    commands: Retained<CommandBuffer>,
    concurrent: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    label: String,
    table: Table,
    pass: Pass,
    ended: bool,
}

impl Drop for Encoding {
    fn drop(&mut self) {
        let state = lock(&self.state);
        if !state.ended {
            complain(format!("{:?}: an encoder is freed without having ended", state.label));
        }
    }
}

class!(Encoder "SimulatedComputeCommandEncoder" { Encoding }
    #[unsafe(method(setLabel:))]
    fn set_label(&self, label: Option<&Text>) {
        self.open("setLabel").label = says(label);
    }

    #[unsafe(method(waitForFence:))]
    fn wait_for(&self, fence: &Fence) {
        let fence = Reference::new(living(fence), self.keeps());
        let mut state = self.open("waitForFence");
        if state.pass.groups.iter().any(|group| !group.is_empty()) {
            complain("an encoder waits for a fence after its first dispatch");
        }
        state.pass.waits.push(fence);
    }

    #[unsafe(method(updateFence:))]
    fn update(&self, fence: &Fence) {
        let fence = Reference::new(living(fence), self.keeps());
        self.open("updateFence").pass.updates.push(fence);
    }

    #[unsafe(method(memoryBarrierWithScope:))]
    fn barrier(&self, scope: MTLBarrierScope) {
        assert_eq!(scope, MTLBarrierScope::Buffers, "other barriers are not simulated");
        self.open("memoryBarrier").pass.groups.push(Vec::new());
    }

    #[unsafe(method(setComputePipelineState:))]
    fn set_pipeline(&self, state: &PipelineState) {
        self.open("setComputePipelineState").table.set_pipeline(state, self.keeps());
    }

    #[unsafe(method(setBuffer:offset:atIndex:))]
    fn set_buffer(&self, buffer: Option<&Buffer>, offset: usize, index: usize) {
        let buffer = buffer.expect("nothing is ever unbound");
        let offset = match planted(c"setBuffer:offset:atIndex:", false) {
            Some(Plant::Changed(by)) => offset.wrapping_add_signed(by),
            _ => offset,
        };
        let keeps = self.keeps();
        self.told("setBuffer", |state| state.table.set_buffer(buffer, offset, index, keeps));
    }

    #[unsafe(method(setBytes:length:atIndex:))]
    fn set_bytes(&self, bytes: NonNull<c_void>, length: usize, index: usize) {
        let length = match planted(c"setBytes:length:atIndex:", false) {
            Some(Plant::Changed(by)) => length.saturating_add_signed(by.min(0)),
            _ => length,
        };
        // SAFETY: so many bytes, as the caller says.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>().as_ptr(), length) };
        self.told("setBytes", |state| state.table.set_bytes(bytes, index));
    }

    #[unsafe(method(setThreadgroupMemoryLength:atIndex:))]
    fn set_threadgroup_memory(&self, length: usize, index: usize) {
        let length = match planted(c"setThreadgroupMemoryLength:atIndex:", false) {
            Some(Plant::Changed(by)) => length.saturating_add_signed(by),
            _ => length,
        };
        let call = "setThreadgroupMemoryLength";
        self.told(call, |state| state.table.set_threadgroup_memory(length, index));
    }

    #[unsafe(method(dispatchThreadgroups:threadsPerThreadgroup:))]
    fn dispatch(&self, threadgroups: MTLSize, threads: MTLSize) {
        self.told("dispatchThreadgroups", |state| {
            let run = state.table.dispatch(threadgroups, threads)?;
            self.item(state, Item::Run(run));
            Ok(())
        });
    }

    #[unsafe(method(useResources:count:usage:))]
    fn use_resources(&self, resources: NonNull<NonNull<Buffer>>, count: usize, usage: MTLResourceUsage) {
        let written = usage.contains(MTLResourceUsage::Write);
        let mut state = self.open("useResources");
        for i in 0..count {
            // SAFETY: so many objects, as the caller says.
            let buffer = unsafe { resources.add(i).read().as_ref() };
            let id = std::ptr::from_ref(living(buffer)).addr();
            *state.pass.used.entry(id).or_default() |= written;
        }
    }

    #[unsafe(method(executeCommandsInBuffer:withRange:))]
    fn execute(&self, commands: &Indirect, range: NSRange) {
        let commands = Reference::new(living(commands), self.keeps());
        self.told("executeCommandsInBuffer", |state| {
            self.item(state, Item::Indirect(commands, range.location, range.end()));
            Ok(())
        });
    }

    #[unsafe(method(endEncoding))]
    fn end(&self) {
        let mut state = self.open("endEncoding");
        if !std::mem::replace(&mut state.ended, true) {
            let pass = std::mem::take(&mut state.pass);
            drop(state);
            self.ivars().commands.ended(pass);
        }
    }
);

impl Encoder {
    pub fn new(commands: &CommandBuffer, concurrent: bool, samples: Option<Samples>) -> Retained<Encoder> {
        let pass = Pass { samples, groups: vec![Vec::new()], used: HashMap::new(), ..Pass::default() };
        let state = Mutex::new(State { pass, ..State::default() });
        Encoder::make(Encoding { commands: commands.retain(), concurrent, state })
    }

    fn keeps(&self) -> bool {
        self.ivars().commands.keeps()
    }

    /// The state, for a call that only works before the end.
    fn open(&self, call: &str) -> std::sync::MutexGuard<'_, State> {
        let state = lock(&living(self).ivars().state);
        if state.ended {
            complain(format!("{:?}: {call} is called on an encoder that has ended", state.label));
        }
        state
    }

    /// Does what a call says; an error is a complaint.
    fn told(&self, call: &str, what: impl FnOnce(&mut State) -> Result<(), String>) {
        let mut state = self.open(call);
        if let Err(error) = what(&mut state) {
            complain(format!("{:?}: {call}: {error}", state.label));
        }
    }

    /// Adds to the last group, or makes one of its own where dispatches follow each other.
    fn item(&self, state: &mut State, item: Item) {
        if !self.ivars().concurrent {
            state.pass.groups.push(Vec::new());
        }
        if let Some(group) = state.pass.groups.last_mut() {
            group.push(item);
        }
    }
}
