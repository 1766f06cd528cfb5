//! Descriptors: what is said about an object before it is made.

use std::sync::{Arc, Mutex};

use objc2::rc::{Allocated, Retained};
use objc2::{ClassType, DefinedClass, Message, msg_send};
use objc2_metal::{MTLDispatchType, MTLIndirectCommandType, MTLLanguageVersion, MTLMathMode, MTLStorageMode};

use super::foundation::{Text, says};
use super::kernels::Kernel;
use super::resources::{CounterSet, Counters};
use crate::lock;

/// A class whose objects begin with default values and are told the others.
macro_rules! descriptor {
    ($name:ident $called:literal { $ivars:ty } $($body:tt)*) => {
        class!($name $called { Mutex<$ivars> }
            #[unsafe(method_id(init))]
            fn init(this: Allocated<Self>) -> Option<Retained<Self>> {
                let this = this.set_ivars(Mutex::default());
                // SAFETY: `init` of an object takes nothing and answers the object.
                unsafe { msg_send![super(this), init] }
            }

            $($body)*
        );

        impl $name {
            /// What was said so far.
            pub(super) fn said(&self) -> std::sync::MutexGuard<'_, $ivars> {
                lock(super::living(self).ivars())
            }
        }
    };
}

descriptor!(ResidencySetDescriptor "MTLResidencySetDescriptor" { String }
    #[unsafe(method(setLabel:))]
    fn label(&self, label: Option<&Text>) {
        *self.said() = says(label);
    }
);

/// How a text is compiled.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CompileOptionsSaid {
    pub language: Option<MTLLanguageVersion>,
    pub exact: bool,
}

descriptor!(CompileOptions "MTLCompileOptions" { CompileOptionsSaid }
    #[unsafe(method(setLanguageVersion:))]
    fn language(&self, version: MTLLanguageVersion) {
        self.said().language = Some(version);
    }

    #[unsafe(method(setMathMode:))]
    fn math(&self, mode: MTLMathMode) {
        self.said().exact = mode == MTLMathMode::Safe;
    }
);

/// What a pipeline is made from.
#[derive(Default)]
pub(crate) struct PipelineSaid {
    pub kernel: Option<Retained<Kernel>>,
    pub label: String,
    pub most_threads: usize,
    pub indirect: bool,
    pub whole: bool,
}

descriptor!(PipelineDescriptor "MTLComputePipelineDescriptor" { PipelineSaid }
    #[unsafe(method(setComputeFunction:))]
    fn function(&self, kernel: Option<&Kernel>) {
        self.said().kernel = kernel.map(|kernel| super::living(kernel).retain());
    }

    #[unsafe(method(setLabel:))]
    fn label(&self, label: Option<&Text>) {
        self.said().label = says(label);
    }

    #[unsafe(method(setMaxTotalThreadsPerThreadgroup:))]
    fn most_threads(&self, threads: usize) {
        self.said().most_threads = threads;
    }

    #[unsafe(method(setSupportIndirectCommandBuffers:))]
    fn indirect(&self, wanted: bool) {
        self.said().indirect = wanted;
    }

    #[unsafe(method(setThreadGroupSizeIsMultipleOfThreadExecutionWidth:))]
    fn whole(&self, promised: bool) {
        self.said().whole = promised;
    }
);

/// What an indirect command buffer may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndirectSaid {
    pub commands: MTLIndirectCommandType,
    pub inherits: bool,
    pub buffers: usize,
    pub threadgroup_memory: usize,
}

impl Default for IndirectSaid {
    fn default() -> Self {
        // What Metal says where nothing is: everything inherited.
        let commands = MTLIndirectCommandType(0);
        IndirectSaid { commands, inherits: true, buffers: 0, threadgroup_memory: 0 }
    }
}

/// Two things are inherited unless both are said not to be.
#[derive(Debug, Default)]
pub(crate) struct IndirectHeard {
    said: IndirectSaid,
    own_pipeline: bool,
    own_buffers: bool,
}

descriptor!(IndirectDescriptor "MTLIndirectCommandBufferDescriptor" { IndirectHeard }
    #[unsafe(method(setCommandTypes:))]
    fn commands(&self, types: MTLIndirectCommandType) {
        self.said().said.commands = types;
    }

    #[unsafe(method(setInheritPipelineState:))]
    fn inherit_pipeline(&self, inherit: bool) {
        self.said().own_pipeline = !inherit;
    }

    #[unsafe(method(setInheritBuffers:))]
    fn inherit_buffers(&self, inherit: bool) {
        self.said().own_buffers = !inherit;
    }

    #[unsafe(method(setMaxKernelBufferBindCount:))]
    fn buffers(&self, count: usize) {
        self.said().said.buffers = count;
    }

    #[unsafe(method(setMaxKernelThreadgroupMemoryBindCount:))]
    fn threadgroup_memory(&self, count: usize) {
        self.said().said.threadgroup_memory = count;
    }
);

impl IndirectDescriptor {
    pub fn whole(&self) -> IndirectSaid {
        let heard = self.said();
        IndirectSaid { inherits: !(heard.own_pipeline && heard.own_buffers), ..heard.said }
    }
}

/// What a sample buffer holds.
#[derive(Default)]
pub(crate) struct CountersSaid {
    pub set: Option<Retained<CounterSet>>,
    pub shared: bool,
    pub count: usize,
}

descriptor!(CountersDescriptor "MTLCounterSampleBufferDescriptor" { CountersSaid }
    #[unsafe(method(setCounterSet:))]
    fn set(&self, set: Option<&CounterSet>) {
        self.said().set = set.map(Message::retain);
    }

    #[unsafe(method(setStorageMode:))]
    fn storage(&self, mode: MTLStorageMode) {
        self.said().shared = mode == MTLStorageMode::Shared;
    }

    #[unsafe(method(setSampleCount:))]
    fn count(&self, count: usize) {
        self.said().count = count;
    }
);

/// Where a pass's times go.
#[derive(Debug, Default)]
pub(crate) struct AttachmentSaid {
    pub values: Option<Arc<Mutex<Vec<u64>>>>,
    pub begin: usize,
    pub end: usize,
}

descriptor!(Attachment "MTLComputePassSampleBufferAttachmentDescriptor" { AttachmentSaid }
    #[unsafe(method(setSampleBuffer:))]
    fn buffer(&self, buffer: Option<&Counters>) {
        self.said().values = buffer.map(|buffer| super::living(buffer).ivars().clone());
    }

    #[unsafe(method(setStartOfEncoderSampleIndex:))]
    fn begin(&self, index: usize) {
        self.said().begin = index;
    }

    #[unsafe(method(setEndOfEncoderSampleIndex:))]
    fn end(&self, index: usize) {
        self.said().end = index;
    }
);

class!(Attachments "MTLComputePassSampleBufferAttachmentDescriptorArray" { Retained<Attachment> }
    #[unsafe(method_id(objectAtIndexedSubscript:))]
    fn at(&self, index: usize) -> Retained<Attachment> {
        assert_eq!(index, 0, "only the first attachment is simulated");
        self.ivars().clone()
    }
);

/// What an encoder is made from.
#[derive(Default)]
pub(crate) struct PassSaid {
    pub concurrent: bool,
    pub attachment: Option<Retained<Attachment>>,
}

descriptor!(PassDescriptor "MTLComputePassDescriptor" { PassSaid }
    #[unsafe(method_id(computePassDescriptor))]
    fn new_pass() -> Retained<Self> {
        Self::make(Mutex::default())
    }

    #[unsafe(method(setDispatchType:))]
    fn dispatch_type(&self, dispatch_type: MTLDispatchType) {
        self.said().concurrent = dispatch_type == MTLDispatchType::Concurrent;
    }

    #[unsafe(method_id(sampleBufferAttachments))]
    fn attachments(&self) -> Retained<Attachments> {
        let attachment = || Attachment::make(Mutex::default());
        Attachments::make(self.said().attachment.get_or_insert_with(attachment).clone())
    }
);

/// Makes the classes.
pub(super) fn register() {
    ResidencySetDescriptor::class();
    CompileOptions::class();
    PipelineDescriptor::class();
    IndirectDescriptor::class();
    CountersDescriptor::class();
    PassDescriptor::class();
}
