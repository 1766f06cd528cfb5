//! Pipelines: a kernel's texts, specialized as dispatches ask for, each made once.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::NSObjectProtocol;
use objc2::sel;
use objc2_foundation::NSString;
use objc2_metal::{
    MTLCompileOptions, MTLComputePipelineDescriptor, MTLComputePipelineState, MTLDevice, MTLLanguageVersion,
    MTLLibrary, MTLMathMode, MTLPipelineOption,
};

use super::context::Context;
use super::objects::Object;
use crate::hal::Pipeline;
use crate::hal::gpu::{GpuPlan, GpuTwin};
use crate::hal::info::MetalReplay;
use crate::hal::kernel::Kernel;
use crate::hal::wgsl::msl::{Msl, SIZES_BUFFER};
use crate::hal::wgsl::translator::{Key, Translator};
use crate::{Error, Result};

/// A pipeline that may be on its way: who asks first makes it, the others wait.
type Slot = Arc<OnceLock<Result<Arc<Made>>>>;

/// A pipeline for one specialization.
pub(super) struct Made {
    pub state: Object<dyn MTLComputePipelineState>,
    /// What a dispatch has to bind; without the text.
    pub msl: Msl,
}

/// A kernel on a Metal device.
pub(super) struct MetalPipeline {
    pub kernel: &'static Kernel,
    pub twin: &'static GpuTwin,
    translator: Arc<Translator>,
    made: RwLock<HashMap<Key, Slot>>,
    context: Arc<Context>,
}

impl std::fmt::Debug for MetalPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metal pipeline of {}", self.kernel.name)
    }
}

impl Pipeline for MetalPipeline {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl MetalPipeline {
    /// A kernel; its pipelines follow when they are asked for.
    pub fn new(
        context: &Arc<Context>,
        translator: &Arc<Translator>,
        kernel: &'static Kernel,
    ) -> Result<MetalPipeline> {
        let fail = |message: String| Error::Shader { kernel: kernel.name.into(), message };
        let twin = kernel.gpu.ok_or_else(|| fail("it has no GPU code".into()))?;
        if kernel.bindings.len() > SIZES_BUFFER as usize {
            return Err(fail(format!("{} bindings; Metal takes {SIZES_BUFFER}", kernel.bindings.len())));
        }
        Ok(MetalPipeline {
            kernel,
            twin,
            translator: translator.clone(),
            made: RwLock::default(),
            context: context.clone(),
        })
    }

    /// The pipeline that a plan asks for.
    pub fn get(&self, plan: &GpuPlan) -> Result<Arc<Made>> {
        let key = Key::of(plan);
        let known = self.made.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let slot = known.unwrap_or_else(|| {
            let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
            made.entry(key).or_default().clone()
        });
        slot.get_or_init(|| autoreleasepool(|_| self.make(plan))).clone()
    }

    fn make(&self, plan: &GpuPlan) -> Result<Arc<Made>> {
        let limits = &self.context.physical.limits;
        let shader = self.translator.shader(self.kernel, self.twin, plan.variant)?;
        let fail = |message: String| Error::Shader { kernel: shader.label().into(), message };
        let special = shader.specialize(&plan.constants)?;
        special.check(shader.label(), limits)?;
        let msl = special.msl(&shader)?;
        let threads: u32 = msl.workgroup.iter().product();
        // Metal wants multiples of 16 bytes.
        let shared: u32 = msl.threadgroup.iter().sum();
        if shared > limits.shared_memory {
            let limit = limits.shared_memory;
            return Err(fail(format!(
                "{shared} bytes of workgroup memory; {} has {limit}",
                self.context.name()
            )));
        }
        let state = self.compile(&msl, shader.label(), threads as usize)?;
        let (most, width) = (state.maxTotalThreadsPerThreadgroup(), state.threadExecutionWidth());
        if (threads as usize) > most || width != limits.subgroup_size as usize {
            return Err(fail(format!(
                "compiled for at most {most} threads in groups of {width}; expected {threads} in groups of {}",
                limits.subgroup_size
            )));
        }
        Ok(Arc::new(Made { state, msl: Msl { source: String::new(), ..msl } }))
    }

    fn compile(&self, msl: &Msl, label: &str, threads: usize) -> Result<Object<dyn MTLComputePipelineState>> {
        let context = &self.context;
        let fail = |message: String| Error::Shader { kernel: label.to_owned(), message };
        let refused = |error| match context.error("newLibraryWithSource", &error) {
            Error::Driver { code, .. } => fail(code),
            other => other,
        };
        let source = NSString::from_str(&msl.source);
        let library = context
            .physical
            .raw
            .newLibraryWithSource_options_error(&source, Some(&compile_options()))
            .map_err(refused)?;
        let function = library.newFunctionWithName(&NSString::from_str(&msl.entry));
        let function = function.ok_or_else(|| fail(format!("its text has no function {:?}", msl.entry)))?;
        let describe = MTLComputePipelineDescriptor::new();
        describe.setComputeFunction(Some(&function));
        describe.setLabel(Some(&NSString::from_str(label)));
        describe.setMaxTotalThreadsPerThreadgroup(threads);
        describe.setSupportIndirectCommandBuffers(context.options.replay != MetalReplay::Reencode);
        let width = context.physical.limits.subgroup_size as usize;
        // SAFETY: a promise about the threadgroups, which are always of this size.
        unsafe { describe.setThreadGroupSizeIsMultipleOfThreadExecutionWidth(threads.is_multiple_of(width)) };
        context
            .physical
            .raw
            .newComputePipelineStateWithDescriptor_options_reflection_error(
                &describe,
                MTLPipelineOption::None,
                None,
            )
            .map_err(|error| context.error("newComputePipelineStateWithDescriptor", &error))
    }
}

/// The language of macOS 14; arithmetic as it is written.
fn compile_options() -> Retained<MTLCompileOptions> {
    let options = MTLCompileOptions::new();
    options.setLanguageVersion(MTLLanguageVersion::Version3_1);
    if options.respondsToSelector(sel!(setMathMode:)) {
        options.setMathMode(MTLMathMode::Safe);
    } else {
        #[expect(deprecated, reason = "macOS 14 knows no other way")]
        options.setFastMathEnabled(false);
    }
    options
}
