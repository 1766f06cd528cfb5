//! A dispatch, ready to be encoded any number of times.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use objc2::runtime::ProtocolObject;
use objc2_metal::{MTLBuffer, MTLComputeCommandEncoder};
use smallvec::SmallVec;

use super::context::Context;
use super::memory::MetalMemory;
use super::objects::{Shared, size};
use super::pipeline::{Made, MetalPipeline};
use crate::hal::gpu::{GpuArg, GpuContext, GpuPlan};
use crate::hal::kernel::Kernel;
use crate::hal::wgsl::msl::{INLINE_BUFFER, SIZES_BUFFER};
use crate::hal::{Memory, Pipeline, ResolvedArg};
use crate::{Error, Result};

/// A buffer argument.
pub(super) struct Binding {
    /// Kept until the work that uses it has ended: command buffers do not.
    _memory: Arc<dyn Memory>,
    pub buffer: Shared<dyn MTLBuffer>,
    pub offset: usize,
    /// Whether the kernel writes it.
    pub writes: bool,
}

/// A dispatch: pipeline, arguments, threadgroups.
pub(super) struct Node {
    pub made: Arc<Made>,
    pub bindings: SmallVec<[Binding; 8]>,
    /// Parameters, then the bytes between the place where each binding is bound and its first element.
    pub inline: SmallVec<[u8; 128]>,
    /// Lengths in bytes of the bindings whose kernels ask for them.
    pub sizes: SmallVec<[u32; 4]>,
    pub workgroups: [u32; 3],
}

impl Node {
    /// A dispatch as its kernel plans it; `None` if there is nothing to run.
    pub fn new(
        context: &Context,
        pipeline: &dyn Pipeline,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<Option<Node>> {
        let pipeline = metal(pipeline)?;
        let kernel = pipeline.kernel;
        let places = Places::new(context, kernel, args)?;
        let plan = places.plan(context, pipeline, params, grid)?;
        if plan.workgroups.contains(&0) {
            return Ok(None);
        }
        let made = pipeline.get(&plan)?;
        let rests = places.args.iter().flat_map(|arg| arg.misalignment.to_le_bytes());
        let inline: SmallVec<[u8; 128]> = params.iter().copied().chain(rests).collect();
        if inline.len() != made.msl.inline_bytes {
            let message = format!(
                "its text has {} inline bytes; parameters and offsets are {}",
                made.msl.inline_bytes,
                inline.len()
            );
            return Err(Error::Shader { kernel: kernel.name.into(), message });
        }
        let sizes = made.msl.sizes.iter().filter_map(|&i| places.ranges.get(i as usize).copied()).collect();
        Ok(Some(Node { made, bindings: places.bindings, inline, sizes, workgroups: plan.workgroups }))
    }

    /// Encodes the dispatch. `bound` is the pipeline that the encoder has.
    pub fn encode<'a>(
        &'a self,
        encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>,
        bound: &mut Option<&'a Arc<Made>>,
    ) {
        if !bound.is_some_and(|bound| Arc::ptr_eq(bound, &self.made)) {
            encoder.setComputePipelineState(&self.made.state);
            // An encoder keeps the lengths that it was told last: together with those of a pipeline before they may be too much.
            let stale = bound.map_or(0, |bound| bound.msl.threadgroup.len());
            let nothing = std::iter::repeat_n(&0, stale.saturating_sub(self.made.msl.threadgroup.len()));
            for (index, &bytes) in self.made.msl.threadgroup.iter().chain(nothing).enumerate() {
                // SAFETY: as the kernel's text asks for, and within the device's limit, as was checked.
                unsafe { encoder.setThreadgroupMemoryLength_atIndex(bytes as usize, index) };
            }
            *bound = Some(&self.made);
        }
        for (index, binding) in self.bindings.iter().enumerate() {
            // SAFETY: the buffer lives until the work has ended; the view lies in it, as was checked.
            unsafe { encoder.setBuffer_offset_atIndex(Some(&binding.buffer), binding.offset, index) };
        }
        set_bytes(encoder, &self.inline, INLINE_BUFFER);
        set_bytes(encoder, bytemuck::cast_slice(&self.sizes), SIZES_BUFFER);
        encoder
            .dispatchThreadgroups_threadsPerThreadgroup(size(self.workgroups), size(self.made.msl.workgroup));
    }
}

fn set_bytes(encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, bytes: &[u8], index: u32) {
    if !bytes.is_empty() {
        // SAFETY: the bytes are copied by the call; they are fewer than 4 KiB: `INLINE_BYTES` at most, or a word for each
        // of at most 29 bindings.
        unsafe {
            encoder.setBytes_length_atIndex(
                NonNull::from(bytes).cast::<c_void>(),
                bytes.len(),
                index as usize,
            );
        }
    }
}

/// The pipeline as one of this backend.
pub(super) fn metal(pipeline: &dyn Pipeline) -> Result<&MetalPipeline> {
    let found = pipeline.as_any().downcast_ref();
    found.ok_or_else(|| Error::WrongDevice { what: "a pipeline".into() })
}

/// Where a dispatch's buffers are bound: at the last place before the view where a binding may start.
pub(super) struct Places {
    bindings: SmallVec<[Binding; 8]>,
    args: SmallVec<[GpuArg; 8]>,
    /// Bytes of each binding.
    ranges: SmallVec<[u32; 8]>,
}

impl Places {
    pub fn new(context: &Context, kernel: &Kernel, args: &[ResolvedArg]) -> Result<Places> {
        let limits = &context.physical.limits;
        let mut places = Places { bindings: SmallVec::new(), args: SmallVec::new(), ranges: SmallVec::new() };
        for (arg, binding) in args.iter().zip(kernel.bindings) {
            let what =
                || Error::WrongDevice { what: format!("argument {} of {}", binding.name, kernel.name) };
            // The memory of this backend is the only one whose `Any` is this type.
            let memory = arg.memory.as_any().downcast_ref::<MetalMemory>().ok_or_else(what)?;
            let start = memory.base + arg.offset;
            let rest = start as u64 % limits.binding_align;
            let seen = GpuArg { len: arg.len, dtype: arg.dtype, misalignment: rest as u32 };
            seen.check(kernel, places.args.len(), limits)?;
            places.bindings.push(Binding {
                _memory: arg.memory.clone(),
                buffer: Shared(memory.buffer.0.clone()),
                offset: start - rest as usize,
                writes: arg.access.writes(),
            });
            places.ranges.push(u32::try_from(seen.bound_bytes()).unwrap_or(u32::MAX));
            places.args.push(seen);
        }
        Ok(places)
    }

    /// The kernel's plan for these arguments.
    pub fn plan(
        &self,
        context: &Context,
        pipeline: &MetalPipeline,
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<GpuPlan> {
        let limits = &context.physical.limits;
        pipeline.twin.plan_for(pipeline.kernel, &GpuContext { args: &self.args, params, grid, limits })
    }
}
