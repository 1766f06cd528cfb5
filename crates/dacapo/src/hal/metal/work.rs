//! Work: the dispatches of a command buffer in their groups, and how they are encoded.

use std::ops::Range;

use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLBarrierScope, MTLCommandBuffer, MTLCommandEncoder, MTLCommandQueue, MTLComputeCommandEncoder,
    MTLDispatchType,
};

use super::context::Context;
use super::indirect::Indirect;
use super::node::Node;
use super::objects::{Object, Shared};
use super::timing::Samples;
use crate::Result;

/// A command buffer that is encoded and not yet committed.
pub(super) type Encoded = Shared<dyn MTLCommandBuffer>;

/// Dispatches between barriers. Keeps everything that they use.
pub(super) struct Work {
    pub label: String,
    pub nodes: Vec<Node>,
    /// The dispatches of each stretch between two barriers; some have none.
    pub groups: Vec<Range<usize>>,
    /// Whether the time of each group is to be noted.
    pub timed: bool,
}

impl Work {
    /// The stretches that have dispatches.
    pub fn busy(&self) -> impl Iterator<Item = &Range<usize>> {
        self.groups.iter().filter(|group| !group.is_empty())
    }

    /// Encodes everything into one encoder, or each group into one of its own if their times are noted: the device's clock
    /// is read where encoders begin and end.
    pub fn encode(&self, context: &Context, samples: Option<&Samples>) -> Result<Encoded> {
        autoreleasepool(|_| {
            let commands = command_buffer(context, &self.label)?;
            let mut groups = self.busy().enumerate().peekable();
            while groups.peek().is_some() {
                let encoder = match samples.zip(groups.peek()) {
                    Some((samples, &(index, _))) => samples.encoder(context, &commands, index)?,
                    None => encoder(context, &commands)?,
                };
                open(context, &encoder, &self.label);
                let mut bound = None;
                let mut first = true;
                while let Some((_, group)) = groups.next_if(|_| first || samples.is_none()) {
                    if !first {
                        encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
                    }
                    first = false;
                    for node in &self.nodes[group.clone()] {
                        node.encode(&encoder, &mut bound);
                    }
                }
                close(context, &encoder);
            }
            Ok(Shared(commands))
        })
    }

    /// Encodes the one command that runs an indirect command buffer.
    pub fn encode_indirect(&self, context: &Context, indirect: &Indirect) -> Result<Encoded> {
        autoreleasepool(|_| {
            let commands = command_buffer(context, &self.label)?;
            let encoder = encoder(context, &commands)?;
            open(context, &encoder, &self.label);
            indirect.encode(&encoder);
            close(context, &encoder);
            Ok(Shared(commands))
        })
    }
}

fn command_buffer(context: &Context, label: &str) -> Result<Object<dyn MTLCommandBuffer>> {
    // Unretained, the work itself keeps what it uses until it has ended.
    let commands = match context.options.retained {
        true => context.queue.commandBuffer(),
        false => context.queue.commandBufferWithUnretainedReferences(),
    };
    let commands = commands.ok_or_else(|| context.refused("commandBuffer", "it gave none"))?;
    commands.setLabel(Some(&NSString::from_str(label)));
    Ok(commands)
}

/// An encoder whose dispatches may run side by side.
fn encoder(
    context: &Context,
    commands: &ProtocolObject<dyn MTLCommandBuffer>,
) -> Result<Object<dyn MTLComputeCommandEncoder>> {
    commands
        .computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent)
        .ok_or_else(|| context.refused("computeCommandEncoder", "it gave none"))
}

/// Everything before becomes complete and visible.
fn open(context: &Context, encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, label: &str) {
    encoder.setLabel(Some(&NSString::from_str(label)));
    encoder.waitForFence(&context.fence);
}

/// Everything here becomes complete and visible to what waits for the fence.
fn close(context: &Context, encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>) {
    encoder.updateFence(&context.fence);
    encoder.endEncoding();
}
