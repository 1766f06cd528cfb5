//! The device.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use objc2::rc::Retained;
use objc2::runtime::Sel;
use objc2::sel;
use objc2_metal::{
    MTLCounterSamplingPoint, MTLGPUFamily, MTLLanguageVersion, MTLPipelineOption, MTLResourceOptions, MTLSize,
};

use super::commands::Queue;
use super::descriptors::{
    CompileOptions, CountersDescriptor, IndirectDescriptor, PipelineDescriptor, ResidencySetDescriptor,
};
use super::foundation::{Array, Failure, Text, fail};
use super::indirect::Indirect;
use super::kernels::{CompiledText, PipelineState};
use super::resources::{Buffer, CounterSet, Counters, Fence, ResidencySet, SharedEvent};
use crate::complain;
use crate::gpu::{Event, Storage, clock};
use crate::msl::Library;

/// Bytes of a buffer at most.
const BUFFER: usize = 4 << 30;
/// Memory that the system recommends to use.
static WORKING_SET: AtomicU64 = AtomicU64::new(4 << 30);
/// Bytes of a counter sample buffer at most.
const SAMPLES: usize = 32 << 10;
/// Commands of an indirect command buffer at most.
const COMMANDS: usize = 16 << 10;

/// Whether devices have no timestamps where encoders begin and end.
static WITHOUT_STAGE_TIMES: AtomicBool = AtomicBool::new(false);

/// Whether devices note the time where encoders begin and end, as all known Macs do. Asked when a device is opened.
pub fn set_stage_times(there: bool) {
    WITHOUT_STAGE_TIMES.store(!there, Ordering::Relaxed);
}

/// Whether the system is older than residency sets, as macOS 14 is.
static WITHOUT_RESIDENCY_SETS: AtomicBool = AtomicBool::new(false);

/// Whether the system has residency sets: macOS 15. Asked when a device is opened.
pub fn set_residency_sets(there: bool) {
    WITHOUT_RESIDENCY_SETS.store(!there, Ordering::Relaxed);
}

/// Bytes that the system recommends to use; gives what it was before.
pub fn set_working_set(bytes: u64) -> u64 {
    WORKING_SET.swap(bytes, Ordering::Relaxed)
}

/// All buffers of the backend are shared by host and device, and untracked.
fn check(options: MTLResourceOptions) {
    let expected = MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeUntracked;
    assert_eq!(options, expected, "other memory is not simulated");
}

class!(Device "SimulatedDevice" { u8 }
    #[unsafe(method_id(name))]
    fn name(&self) -> Retained<Text> {
        Text::new("Simulated Metal")
    }

    #[unsafe(method(supportsFamily:))]
    fn family(&self, family: MTLGPUFamily) -> bool {
        [MTLGPUFamily::Apple7, MTLGPUFamily::Metal3].contains(&family)
    }

    #[unsafe(method(hasUnifiedMemory))]
    fn unified(&self) -> bool {
        true
    }

    #[unsafe(method(maxBufferLength))]
    fn most_bytes(&self) -> usize {
        BUFFER
    }

    #[unsafe(method(recommendedMaxWorkingSetSize))]
    fn working_set(&self) -> u64 {
        WORKING_SET.load(Ordering::Relaxed)
    }

    /// Asked about what came with macOS 15; all else was there before.
    #[unsafe(method(respondsToSelector:))]
    fn responds(&self, asked: Sel) -> bool {
        assert_eq!(asked, sel!(newResidencySetWithDescriptor:error:), "nobody has asked for others");
        !WITHOUT_RESIDENCY_SETS.load(Ordering::Relaxed)
    }

    #[unsafe(method(currentAllocatedSize))]
    fn allocated(&self) -> usize {
        Storage::allocated()
    }

    #[unsafe(method(maxThreadgroupMemoryLength))]
    fn threadgroup_memory(&self) -> usize {
        32 << 10
    }

    #[unsafe(method(maxThreadsPerThreadgroup))]
    fn threads(&self) -> MTLSize {
        MTLSize { width: 1024, height: 1024, depth: 1024 }
    }

    #[unsafe(method(supportsCounterSampling:))]
    fn samples(&self, point: MTLCounterSamplingPoint) -> bool {
        point == MTLCounterSamplingPoint::AtStageBoundary && !WITHOUT_STAGE_TIMES.load(Ordering::Relaxed)
    }

    #[unsafe(method_id(counterSets))]
    fn counter_sets(&self) -> Option<Retained<Array>> {
        let set = Retained::into_super(Retained::into_super(CounterSet::make(0)));
        Some(Array::make(vec![set]))
    }

    #[unsafe(method(sampleTimestamps:gpuTimestamp:))]
    fn clocks(&self, host: NonNull<u64>, device: NonNull<u64>) {
        // SAFETY: places that live, as the caller says.
        unsafe {
            host.write(clock());
            device.write(clock());
        }
    }

    #[unsafe(method_id(newCommandQueueWithMaxCommandBufferCount:))]
    fn queue(&self, most: usize) -> Option<Retained<Queue>> {
        Some(Queue::new(most))
    }

    #[unsafe(method_id(newFence))]
    fn fence(&self) -> Option<Retained<Fence>> {
        Some(Fence::make(0))
    }

    #[unsafe(method_id(newSharedEvent))]
    fn event(&self) -> Option<Retained<SharedEvent>> {
        Some(SharedEvent::make(Arc::new(Event::default())))
    }

    #[unsafe(method_id(newResidencySetWithDescriptor:error:))]
    fn residency_set(
        &self,
        described: &ResidencySetDescriptor,
        _error: *mut *mut Failure,
    ) -> Option<Retained<ResidencySet>> {
        drop(described.said());
        if WITHOUT_RESIDENCY_SETS.load(Ordering::Relaxed) {
            complain("newResidencySet is sent to a system that has none");
        }
        Some(ResidencySet::make(Mutex::default()))
    }

    #[unsafe(method_id(newBufferWithLength:options:))]
    fn buffer(&self, length: usize, options: MTLResourceOptions) -> Option<Retained<Buffer>> {
        allocate(length, options)
    }

    #[unsafe(method_id(newBufferWithBytes:length:options:))]
    fn copied(
        &self,
        bytes: NonNull<c_void>,
        length: usize,
        options: MTLResourceOptions,
    ) -> Option<Retained<Buffer>> {
        allocate(length, options).inspect(|buffer| {
            // SAFETY: so many bytes on both sides, as the caller says and as was allocated.
            unsafe { buffer.storage().ptr.copy_from_nonoverlapping(bytes.cast().as_ptr(), length) };
        })
    }

    #[unsafe(method_id(newBufferWithBytesNoCopy:length:options:deallocator:))]
    fn wrapped(
        &self,
        bytes: NonNull<c_void>,
        length: usize,
        options: MTLResourceOptions,
        deallocator: *mut block2::DynBlock<dyn Fn(NonNull<c_void>, usize)>,
    ) -> Option<Retained<Buffer>> {
        assert!(deallocator.is_null(), "who gives memory away is not simulated");
        wrap(bytes, length, options)
    }

    #[unsafe(method_id(newLibraryWithSource:options:error:))]
    fn library(
        &self,
        source: &Text,
        options: Option<&CompileOptions>,
        error: *mut *mut Failure,
    ) -> Option<Retained<CompiledText>> {
        match compile(source, options) {
            Ok(library) => Some(CompiledText::make(Arc::new(library))),
            Err(reason) => fail(error, "MTLLibraryErrorDomain", 3, reason),
        }
    }

    #[unsafe(method_id(newComputePipelineStateWithDescriptor:options:reflection:error:))]
    fn pipeline(
        &self,
        described: &PipelineDescriptor,
        options: MTLPipelineOption,
        reflection: *mut *mut objc2::runtime::AnyObject,
        error: *mut *mut Failure,
    ) -> Option<Retained<PipelineState>> {
        assert!(reflection.is_null() && options == MTLPipelineOption::None, "nothing is told of pipelines");
        match PipelineState::new(described) {
            Ok(state) => Some(state),
            Err(reason) => fail(error, "CompilerErrorDomain", 2, reason),
        }
    }

    #[unsafe(method_id(newIndirectCommandBufferWithDescriptor:maxCommandCount:options:))]
    fn indirect(
        &self,
        described: &IndirectDescriptor,
        most: usize,
        options: MTLResourceOptions,
    ) -> Option<Retained<Indirect>> {
        check(options);
        if (1..=COMMANDS).contains(&most) {
            Indirect::new(described.whole(), most)
        } else {
            complain(format!("an indirect command buffer of {most} commands; from 1 to {COMMANDS} work"));
            None
        }
    }

    #[unsafe(method_id(newCounterSampleBufferWithDescriptor:error:))]
    fn counters(
        &self,
        described: &CountersDescriptor,
        error: *mut *mut Failure,
    ) -> Option<Retained<Counters>> {
        let said = described.said();
        let fits = (1..=SAMPLES / 8).contains(&said.count);
        if said.set.is_some() && said.shared && fits {
            Some(Counters::make(Arc::new(Mutex::new(vec![u64::MAX; said.count]))))
        } else {
            let reason = format!("{} samples, shared: {}, at most {}", said.count, said.shared, SAMPLES / 8);
            fail(error, "MTLCounterErrorDomain", 1, reason)
        }
    }
);

fn allocate(length: usize, options: MTLResourceOptions) -> Option<Retained<Buffer>> {
    check(options);
    if length == 0 || length > BUFFER {
        complain(format!("a buffer of {length} bytes; from 1 to {BUFFER} work"));
        return None;
    }
    Storage::new(length).map(Buffer::new)
}

fn wrap(bytes: NonNull<c_void>, length: usize, options: MTLResourceOptions) -> Option<Retained<Buffer>> {
    check(options);
    let whole = |n: usize| n.is_multiple_of(Storage::PAGE);
    if length == 0 || length > BUFFER || !whole(length) || !whole(bytes.as_ptr().addr()) {
        complain(format!("{length} bytes at {bytes:p} are wrapped; only whole pages can be"));
        return None;
    }
    Some(Buffer::new(Storage::wrap(bytes.cast().as_ptr(), length)))
}

fn compile(source: &Text, options: Option<&CompileOptions>) -> Result<Library, String> {
    let said = options.map(|options| *options.said()).unwrap_or_default();
    if said.language != Some(MTLLanguageVersion::Version3_1) || !said.exact {
        return Err(format!("compiled with {said:?}, which is not simulated"));
    }
    Library::compile(&source.says())
}
