//! Calls to the simulated Metal, right ones and planted mistakes: each mistake is a complaint.
//!
//! Needs `--cfg metal_sim`: `crates/dacapo-metal-sim/cargo test -p dacapo-metal-sim --test calls`.

#![cfg(metal_sim)]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dacapo_metal_sim::{forget_complaints, gpu};
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSString;
use objc2_metal::*;

mod mistakes;
mod runtime;

type Object<T> = Retained<ProtocolObject<T>>;

/// Adds a number to each of 64.
const TEXT: &str = "#include <metal_stdlib>
#include <simd/simd.h>
using metal::uint;
typedef float type_1[1];
struct F32s {
    type_1 v;
};
struct type_2 {
    float inner[64];
};
struct Params {
    float a;
    uint n;
};
[[max_total_threads_per_threadgroup(64)]] kernel void add_(
  uint i [[thread_index_in_threadgroup]]
, constant Params& p [[buffer(30)]]
, device F32s const& x [[buffer(0)]]
, device F32s& y [[buffer(1)]]
, threadgroup type_2& part
) {
    part.inner[i] = x.v[i];
    metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);
    y.v[i] = part.inner[63u - i] * 0.0 + x.v[i] + p.a;
}
";

/// The process has one list of complaints: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A device with all that one dispatch needs.
struct Bench {
    device: Object<dyn MTLDevice>,
    queue: Object<dyn MTLCommandQueue>,
    state: Object<dyn MTLComputePipelineState>,
    x: Object<dyn MTLBuffer>,
    y: Object<dyn MTLBuffer>,
    /// The last to go.
    _turn: MutexGuard<'static, ()>,
}

fn options() -> MTLResourceOptions {
    MTLResourceOptions::StorageModeShared | MTLResourceOptions::HazardTrackingModeUntracked
}

impl Bench {
    fn new() -> Bench {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        autoreleasepool(|_| {
            let device = MTLCreateSystemDefaultDevice().expect("there is one");
            forget_complaints();
            let queue = device.newCommandQueueWithMaxCommandBufferCount(8).expect("made");
            let state = pipeline(&device, true);
            let buffer = || device.newBufferWithLength_options(256, options()).expect("made");
            let (x, y) = (buffer(), buffer());
            let bench = Bench { device, queue, state, x, y, _turn: turn };
            bench.values(&bench.x).fill(1.0);
            bench
        })
    }

    /// What a buffer holds. Nothing runs meanwhile.
    #[expect(clippy::mut_from_ref, reason = "the memory is the device's")]
    fn values(&self, buffer: &ProtocolObject<dyn MTLBuffer>) -> &mut [f32] {
        // SAFETY: buffers have 64 values.
        unsafe { std::slice::from_raw_parts_mut(buffer.contents().cast().as_ptr(), 64) }
    }

    fn commands(&self) -> Object<dyn MTLCommandBuffer> {
        self.queue.commandBufferWithUnretainedReferences().expect("made")
    }

    fn encoder(
        &self,
        commands: &ProtocolObject<dyn MTLCommandBuffer>,
    ) -> Object<dyn MTLComputeCommandEncoder> {
        commands.computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent).expect("made")
    }

    /// Binds everything: `y = x + a`.
    fn bind(&self, encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, a: f32) {
        encoder.setComputePipelineState(&self.state);
        // SAFETY: what the kernel asks for.
        unsafe {
            encoder.setThreadgroupMemoryLength_atIndex(256, 0);
            encoder.setBuffer_offset_atIndex(Some(&self.x), 0, 0);
            encoder.setBuffer_offset_atIndex(Some(&self.y), 0, 1);
        }
        bytes(encoder, &[a.to_bits(), 64]);
    }

    /// One dispatch of what `change` makes of sound bindings, to its end. Returns how it ended.
    fn run(
        &self,
        change: impl FnOnce(&ProtocolObject<dyn MTLComputeCommandEncoder>),
    ) -> MTLCommandBufferStatus {
        autoreleasepool(|_| {
            let commands = self.commands();
            let encoder = self.encoder(&commands);
            self.bind(&encoder, 2.0);
            change(&encoder);
            dispatch(&encoder, 1, 64);
            encoder.endEncoding();
            commands.commit();
            gpu::settle();
            commands.status()
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        gpu::resume();
        gpu::settle();
        forget_complaints();
    }
}

fn pipeline(device: &ProtocolObject<dyn MTLDevice>, indirect: bool) -> Object<dyn MTLComputePipelineState> {
    let options = MTLCompileOptions::new();
    options.setLanguageVersion(MTLLanguageVersion::Version3_1);
    options.setMathMode(MTLMathMode::Safe);
    let library = device.newLibraryWithSource_options_error(&NSString::from_str(TEXT), Some(&options));
    let function = library.expect("compiles").newFunctionWithName(&NSString::from_str("add_"));
    let describe = MTLComputePipelineDescriptor::new();
    describe.setComputeFunction(function.as_deref());
    describe.setLabel(Some(&NSString::from_str("add")));
    describe.setSupportIndirectCommandBuffers(indirect);
    let none = MTLPipelineOption::None;
    let state = device.newComputePipelineStateWithDescriptor_options_reflection_error(&describe, none, None);
    state.expect("made")
}

fn bytes(encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, words: &[u32]) {
    // SAFETY: copied by the call.
    unsafe {
        let first = NonNull::from(words).cast::<c_void>();
        encoder.setBytes_length_atIndex(first, 4 * words.len(), 30);
    }
}

fn dispatch(encoder: &ProtocolObject<dyn MTLComputeCommandEncoder>, groups: usize, threads: usize) {
    let size = |width| MTLSize { width, height: 1, depth: 1 };
    encoder.dispatchThreadgroups_threadsPerThreadgroup(size(groups), size(threads));
}

/// Fails unless there is a complaint that says this; forgets all.
fn complained(says: &str) {
    let complaints = forget_complaints();
    assert!(complaints.iter().any(|complaint| complaint.contains(says)), "{says:?} not in {complaints:?}");
}
