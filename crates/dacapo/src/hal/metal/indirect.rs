//! Replay through an indirect command buffer: encoded once, run by one command.

use std::collections::HashMap;
use std::ptr::NonNull;

use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBuffer, MTLComputeCommandEncoder, MTLDevice, MTLIndirectCommandBuffer,
    MTLIndirectCommandBufferDescriptor, MTLIndirectCommandType, MTLIndirectComputeCommand, MTLResource,
    MTLResourceOptions, MTLResourceUsage,
};

use super::context::Context;
use super::node::Node;
use super::objects::{Object, Shared, size};
use super::work::Work;
use crate::Result;
use crate::hal::wgsl::msl::{INLINE_BUFFER, SIZES_BUFFER};

/// Commands that an indirect command buffer holds at most.
const COMMANDS: usize = 16 << 10;

/// Alignment of inline bytes in their buffer: what the constant address space may ask for.
const CONSTANTS: usize = 256;

/// An indirect command buffer, and what it uses.
pub(super) struct Indirect {
    commands: Shared<dyn MTLIndirectCommandBuffer>,
    count: usize,
    /// Inline bytes of all dispatches: indirect commands cannot set bytes.
    _constants: Option<Shared<dyn MTLBuffer>>,
    /// What is only read, and what is written too: the encoder has to be told.
    reads: Vec<Shared<dyn MTLResource>>,
    writes: Vec<Shared<dyn MTLResource>>,
}

impl Indirect {
    /// The work's dispatches as indirect commands. `None` if they do not all fit.
    pub fn new(context: &Context, work: &Work) -> Result<Option<Indirect>> {
        let count = work.nodes.len();
        if !context.physical.features.indirect || count == 0 || count > COMMANDS {
            return Ok(None);
        }
        autoreleasepool(|_| {
            let constants = Constants::new(context, work)?;
            let commands = allocate(context, work)?;
            let mut started = false;
            for group in work.busy() {
                for index in group.clone() {
                    // SAFETY: there are so many commands.
                    let command = unsafe { commands.indirectComputeCommandAtIndex(index) };
                    write(&command, &work.nodes[index], constants.at(index));
                    // The command waits for all before it.
                    if started && index == group.start {
                        command.setBarrier();
                    }
                }
                started = true;
            }
            let [reads, writes] = resources(work, constants.buffer.as_ref());
            Ok(Some(Indirect {
                commands: Shared(commands),
                count,
                _constants: constants.buffer.map(Shared),
                reads,
                writes,
            }))
        })
    }

    /// Encodes the command that runs it all.
    pub fn encode(&self, encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>) {
        let read_write = MTLResourceUsage::Read | MTLResourceUsage::Write;
        for (resources, usage) in [(&self.reads, MTLResourceUsage::Read), (&self.writes, read_write)] {
            let mut all: Vec<_> = resources.iter().map(|resource| NonNull::from(&**resource)).collect();
            if let Some(first) = NonNull::new(all.as_mut_ptr()).filter(|_| !resources.is_empty()) {
                // SAFETY: as many objects as the count says, which live until the work has ended.
                unsafe { encoder.useResources_count_usage(first, resources.len(), usage) };
            }
        }
        // SAFETY: all the commands were written.
        unsafe { encoder.executeCommandsInBuffer_withRange(&self.commands, NSRange::new(0, self.count)) };
    }
}

fn allocate(context: &Context, work: &Work) -> Result<Object<dyn MTLIndirectCommandBuffer>> {
    let describe = MTLIndirectCommandBufferDescriptor::new();
    describe.setCommandTypes(MTLIndirectCommandType::ConcurrentDispatch);
    describe.setInheritPipelineState(false);
    describe.setInheritBuffers(false);
    describe.setMaxKernelBufferBindCount(INLINE_BUFFER as usize + 1);
    let threadgroups = work.nodes.iter().map(|node| node.made.msl.threadgroup.len()).max().unwrap_or(0);
    // SAFETY: no more than the kernels declare, whose number Metal accepted.
    unsafe { describe.setMaxKernelThreadgroupMemoryBindCount(threadgroups) };
    let options = MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeUntracked;
    // SAFETY: the count is within the limit.
    let commands = unsafe {
        context.physical.raw.newIndirectCommandBufferWithDescriptor_maxCommandCount_options(
            &describe,
            work.nodes.len(),
            options,
        )
    };
    let commands = commands.ok_or_else(|| context.refused("newIndirectCommandBuffer", "it gave none"))?;
    commands.setLabel(Some(&NSString::from_str(&work.label)));
    Ok(commands)
}

/// Writes a dispatch as an indirect command.
fn write(
    command: &ProtocolObject<dyn MTLIndirectComputeCommand>,
    node: &Node,
    constants: [Option<(&ProtocolObject<dyn MTLBuffer>, usize)>; 2],
) {
    command.setComputePipelineState(&node.made.state);
    // SAFETY: the buffers are kept as long as the commands, and the views lie in them; lengths of threadgroup memory are
    // what the kernel's text asks for.
    unsafe {
        for (index, binding) in node.bindings.iter().enumerate() {
            command.setKernelBuffer_offset_atIndex(&binding.buffer, binding.offset, index);
        }
        for (constants, index) in constants.into_iter().zip([INLINE_BUFFER, SIZES_BUFFER]) {
            if let Some((buffer, offset)) = constants {
                command.setKernelBuffer_offset_atIndex(buffer, offset, index as usize);
            }
        }
        for (index, &bytes) in node.made.msl.threadgroup.iter().enumerate() {
            command.setThreadgroupMemoryLength_atIndex(bytes as usize, index);
        }
    }
    command.concurrentDispatchThreadgroups_threadsPerThreadgroup(
        size(node.workgroups),
        size(node.made.msl.workgroup),
    );
}

/// The inline bytes and sizes of all dispatches, in one buffer.
struct Constants {
    buffer: Option<Object<dyn MTLBuffer>>,
    /// Where each dispatch's inline bytes and sizes begin, if it has any.
    places: Vec<[Option<usize>; 2]>,
}

impl Constants {
    fn new(context: &Context, work: &Work) -> Result<Constants> {
        let (mut bytes, mut places) = (Vec::new(), Vec::with_capacity(work.nodes.len()));
        for node in &work.nodes {
            let parts: [&[u8]; 2] = [&node.inline, bytemuck::cast_slice(&node.sizes)];
            places.push(parts.map(|part| {
                let start = bytes.len();
                bytes.extend_from_slice(part);
                bytes.resize(bytes.len().next_multiple_of(CONSTANTS), 0);
                (!part.is_empty()).then_some(start)
            }));
        }
        if bytes.is_empty() {
            return Ok(Constants { buffer: None, places });
        }
        let options = MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeUntracked;
        // SAFETY: the bytes are copied by the call.
        let buffer = unsafe {
            context.physical.raw.newBufferWithBytes_length_options(
                NonNull::from(&bytes[..]).cast(),
                bytes.len(),
                options,
            )
        };
        let buffer = buffer.ok_or_else(|| context.out_of_memory(bytes.len()))?;
        buffer.setLabel(Some(&NSString::from_str("dacapo inline bytes")));
        Ok(Constants { buffer: Some(buffer), places })
    }

    fn at(&self, node: usize) -> [Option<(&ProtocolObject<dyn MTLBuffer>, usize)>; 2] {
        self.places[node].map(|place| self.buffer.as_deref().zip(place))
    }
}

/// Every buffer once: those that are only read, and those that are written.
fn resources(work: &Work, constants: Option<&Object<dyn MTLBuffer>>) -> [Vec<Shared<dyn MTLResource>>; 2] {
    let bindings = work.nodes.iter().flat_map(|node| &node.bindings);
    let bindings = bindings.map(|binding| (&binding.buffer.0, binding.writes));
    let mut all = HashMap::new();
    for (buffer, writes) in bindings.chain(constants.map(|buffer| (buffer, false))) {
        all.entry(&raw const **buffer).or_insert((buffer, false)).1 |= writes;
    }
    let (written, read): (Vec<_>, Vec<_>) = all.into_values().partition(|(_, writes)| *writes);
    [read, written].map(|buffers| {
        let resource = |(buffer, _): (&Object<dyn MTLBuffer>, bool)| {
            Shared(ProtocolObject::from_retained(buffer.clone()))
        };
        buffers.into_iter().map(resource).collect()
    })
}
