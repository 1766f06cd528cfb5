//! A dispatch engine for transformer inference.
//!
//! Every operation is one or more [`Dispatch`]es: a [`Kernel`], the [`Buffer`]s it is bound to, a grid. A kernel's
//! signature says which of its bindings it reads and which it writes. From that alone the engine knows which
//! dispatches depend on each other, and places every barrier itself.
//!
//! ```
//! use dacapo::cpu::{CpuPlan, Split};
//! use dacapo::{Binding, CpuTwin, DType, Device, DeviceOptions, Dispatch, Kernel, OpKind};
//!
//! static DOUBLE: Kernel = Kernel {
//!     name: "double",
//!     kind: OpKind::Elementwise,
//!     bindings: &[Binding::read("x"), Binding::write("y")],
//!     cpu: CpuTwin {
//!         plan: |context| CpuPlan::new(context.len(1).div_ceil(1024), 1).split(1, Split::chunks(1024)),
//!         run: |tile| {
//!             let x = tile.read::<f32>(0);
//!             let mut y = tile.write::<f32>(1);
//!             let first = y.first_col();
//!             for (i, y) in y.slice().iter_mut().enumerate() {
//!                 *y = 2.0 * x[first + i];
//!             }
//!         },
//!     },
//!     gpu: None,
//! };
//!
//! let device = Device::open(DeviceOptions::default())?;
//! let x = device.upload(&[1.0_f32, 2.0, 3.0], &[3])?;
//! let y = device.alloc(DType::F32, &[3])?;
//! let z = device.alloc(DType::F32, &[3])?;
//! let mut encoder = device.encoder("example")?;
//! encoder.dispatch(Dispatch::new(&DOUBLE).buffer(&x).buffer(&y))?;
//! encoder.dispatch(Dispatch::new(&DOUBLE).buffer(&y).buffer(&z))?; // reads y: a barrier is placed
//! assert_eq!(encoder.counters().barriers, 1);
//! encoder.commit_and_wait()?;
//! assert_eq!(*z.read::<f32>()?, [4.0, 8.0, 12.0]);
//! # Ok::<(), dacapo::Error>(())
//! ```

mod buffer;
mod device;
mod dispatch;
mod dtype;
mod encoder;
mod error;
mod event;
mod executor;
mod gpu_capture;
mod graph;
mod hal;
mod hazard;
mod id_map;
mod ledger;
mod pool;
mod profile;
mod range_set;
mod registry;
mod residency;
mod session;
mod state;
mod submission;
mod transient;
mod usage;

pub use buffer::{Buffer, ReadGuard, WriteGuard};
pub use device::{Device, DeviceOptions};
pub use dispatch::{Dispatch, KernelArg};
pub use dtype::{DType, Element};
pub use encoder::CommandEncoder;
pub use error::{Error, Result};
pub use event::SharedEvent;
pub use executor::{FinishOptions, GraphExecutor, GraphSession, Report};
pub use gpu_capture::GpuCapture;
pub use graph::{
    Buckets, CacheStats, CapturedNode, ChunkOptions, ChunkReport, CompiledGraph, ComputeGraph, Cost,
    CostModel, Dependencies, Dependency, EdgeCounts, FuseMatch, FusePattern, FuseReport, FuseStep, Fused,
    Gain, GraphCache, GraphOptions, Link, MemoryPlan, MemoryReport, PassReports, Placement, Refusal, Refused,
    ScheduleOptions, ScheduleReport, Selector, Spread, Strategy, TimedReplay,
};
pub use hal::fault::{FaultPlan, FaultPoint};
pub use hal::file::MappedFile;
pub use hal::info::{BackendKind, DeviceInfo, DeviceKind, DeviceSelect, MetalOptions, MetalReplay};
pub use hal::kernel::{CpuTwin, Kernel, OpKind};
pub use hal::meter::{MemoryMeter, MemoryUse};
pub use hal::signature::{Access, Binding};
pub use hazard::{Hazard, MemRange, MemRanges};
pub use pool::{BufferPool, PoolStats};
pub use profile::{CompileTimes, Counters, GroupTime, ReplayTimes, Span};
pub use registry::KernelRegistry;
pub use residency::{ResidencySet, ResidencyStats};
pub use session::{EncoderSession, SessionState};
pub use submission::Submission;

/// What CPU kernels are written against.
pub mod cpu {
    pub use crate::hal::cpu::tile::{CpuPlan, MAX_BINDINGS, PlanContext, Split, Tile, TileMut};
}

/// What GPU kernels are written against.
pub mod gpu {
    #[cfg(any(feature = "vulkan", feature = "metal"))]
    pub use crate::hal::gpu::GpuCall;
    pub use crate::hal::gpu::{GpuCaps, GpuContext, GpuLimits, GpuNeeds, GpuPlan, GpuTwin, Wgsl};
    #[cfg(feature = "metal")]
    pub use crate::hal::wgsl::msl::{
        INLINE_BUFFER, Msl, SIZES_BUFFER, limits as metal_limits, translate as msl,
    };
    #[cfg(feature = "vulkan")]
    pub use crate::hal::wgsl::spirv::translate as spirv;
    #[cfg(any(feature = "vulkan", feature = "metal"))]
    pub use crate::hal::wgsl::translator::Translator;
}
