//! Indirect command buffers.

use std::sync::Mutex;

use objc2::rc::Retained;
use objc2::{DefinedClass, Message};
use objc2_metal::{MTLIndirectCommandType, MTLSize};

use super::descriptors::IndirectSaid;
use super::encoder::Table;
use super::foundation::{Text, says};
use super::kernels::PipelineState;
use super::living;
use super::resources::Buffer;
use crate::gpu::Run;
use crate::{complain, lock};

/// A command as it was written. It keeps nothing of what it uses.
#[derive(Default)]
struct Command {
    table: Table,
    dispatch: Option<Run>,
    barrier: bool,
}

/// What an indirect command buffer holds.
pub(crate) struct Content {
    may: IndirectSaid,
    commands: Mutex<Vec<Command>>,
}

class!(Indirect "SimulatedIndirectCommandBuffer" { Content }
    #[unsafe(method(setLabel:))]
    fn set_label(&self, label: Option<&Text>) {
        says(label);
    }

    #[unsafe(method_id(indirectComputeCommandAtIndex:))]
    fn command(&self, index: usize) -> Retained<IndirectCommand> {
        let count = lock(&living(self).ivars().commands).len();
        assert!(index < count, "command {index} of {count}");
        IndirectCommand::make((self.retain(), index))
    }
);

impl Indirect {
    /// Empty commands. Only what the backend asks for is simulated: dispatches that inherit nothing.
    pub fn new(may: IndirectSaid, count: usize) -> Option<Retained<Indirect>> {
        if may.commands != MTLIndirectCommandType::ConcurrentDispatch || may.inherits {
            complain(format!("an indirect command buffer of another kind: {may:?}"));
            return None;
        }
        let commands = (0..count).map(|_| Command::default()).collect();
        Some(Indirect::make(Content { may, commands: Mutex::new(commands) }))
    }

    /// The dispatches of a range, between their barriers.
    pub fn runs(&self, from: usize, to: usize) -> Result<Vec<Vec<Run>>, String> {
        let commands = lock(&living(self).ivars().commands);
        let count = commands.len();
        let commands = commands.get(from..to).ok_or(format!("commands {from} to {to} of {count}"))?;
        let mut groups = vec![Vec::new()];
        for (index, command) in commands.iter().enumerate() {
            if command.barrier {
                groups.push(Vec::new());
            }
            let run = command.dispatch.clone().ok_or(format!("command {index} was not written"))?;
            if let Some(group) = groups.last_mut() {
                group.push(run);
            }
        }
        Ok(groups)
    }
}

class!(IndirectCommand "SimulatedIndirectComputeCommand" { (Retained<Indirect>, usize) }
    #[unsafe(method(setComputePipelineState:))]
    fn set_pipeline(&self, state: &PipelineState) {
        self.told(|command, _| {
            command.table.set_pipeline(state, false);
            match state.code() {
                code if code.indirect => Ok(()),
                code => Err(format!("{}: its pipeline was not made for indirect commands", code.label)),
            }
        });
    }

    #[unsafe(method(setKernelBuffer:offset:atIndex:))]
    fn set_buffer(&self, buffer: &Buffer, offset: usize, index: usize) {
        self.told(|command, may| {
            if index >= may.buffers {
                return Err(format!("buffer {index} where there are {}", may.buffers));
            }
            command.table.set_buffer(buffer, offset, index, false)
        });
    }

    #[unsafe(method(setThreadgroupMemoryLength:atIndex:))]
    fn set_threadgroup_memory(&self, length: usize, index: usize) {
        self.told(|command, may| {
            if index >= may.threadgroup_memory {
                return Err(format!("threadgroup memory {index} where there are {}", may.threadgroup_memory));
            }
            command.table.set_threadgroup_memory(length, index)
        });
    }

    #[unsafe(method(concurrentDispatchThreadgroups:threadsPerThreadgroup:))]
    fn dispatch(&self, threadgroups: MTLSize, threads: MTLSize) {
        self.told(|command, _| {
            command.dispatch = Some(command.table.dispatch(threadgroups, threads)?);
            Ok(())
        });
    }

    #[unsafe(method(setBarrier))]
    fn barrier(&self) {
        self.told(|command, _| {
            command.barrier = true;
            Ok(())
        });
    }
);

impl IndirectCommand {
    fn told(&self, what: impl FnOnce(&mut Command, &IndirectSaid) -> Result<(), String>) {
        let (buffer, index) = living(self).ivars();
        let content = living(&**buffer).ivars();
        if let Err(error) = what(&mut lock(&content.commands)[*index], &content.may) {
            complain(format!("indirect command {index}: {error}"));
        }
    }
}
