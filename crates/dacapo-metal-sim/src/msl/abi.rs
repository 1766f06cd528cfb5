//! What the host and the compiled kernels share: `stdlib/parts/host.h` in Rust.

/// Buffer arguments, and threadgroup memory arguments, of a kernel.
pub const BUFFERS: usize = 31;

/// Threads of a simdgroup.
pub const WIDTH: usize = 32;

/// Bytes of a fiber's stack, and their alignment. The fiber's own record lies at its start.
pub const STACK: usize = 1 << 16;

/// What kernels call.
#[repr(C)]
#[derive(Debug)]
pub struct Host {
    pub barrier: unsafe extern "C" fn(*mut Fiber, flags: u32, site: usize),
    pub simd: unsafe extern "C" fn(*mut Fiber, operation: u32, flags: u32, site: usize),
    pub fail: unsafe extern "C" fn(*mut Fiber, what: u32, a: u64, b: u64),
    pub access: unsafe extern "C" fn(*mut Fiber, at: *const u8, size: u64, kind: u32),
}

/// What all threads of a dispatch see.
#[repr(C)]
#[derive(Debug)]
pub struct Launch {
    pub host: *const Host,
    pub buffers: [*mut u8; BUFFERS],
    pub lengths: [u64; BUFFERS],
    pub threadgroup_memory: [*mut u8; BUFFERS],
    pub threadgroups: [u32; 3],
    pub threads: [u32; 3],
}

/// What the threads of a simdgroup exchange.
#[repr(C, align(16))]
#[derive(Debug, Clone)]
pub struct Simdgroup {
    pub lanes: u32,
    pub computed: [u32; 2],
    pub result: [Slot; 2],
    pub slots: [[Slot; WIDTH]; 2],
}

/// A value that is exchanged.
#[repr(C, align(16))]
#[derive(Debug, Clone, Copy)]
pub struct Slot(pub [u8; 32]);

/// A thread, as kernels see it.
#[repr(C)]
#[derive(Debug)]
pub struct Fiber {
    pub launch: *const Launch,
    pub simd: *mut Simdgroup,
    /// Edges of the control flow that it may still take.
    pub budget: u64,
    pub thread_index: u32,
    pub operations: u32,
    pub group: [u32; 3],
}

/// What `Host::fail` is told.
pub mod failure {
    pub const OUT_OF_BOUNDS: u32 = 0;
    pub const ENDLESS: u32 = 1;
    pub const INACTIVE_LANE: u32 = 2;
    pub const UNSET_MATRIX: u32 = 3;
    pub const MIXED_MATRIX: u32 = 4;
    pub const MATRIX_PLACES: u32 = 5;
    pub const MATRIX_LANES: u32 = 6;
}

/// What `Host::simd` is told: what the threads do together.
pub mod operation {
    pub const BARRIER: u32 = 0;
    pub const NAMES: [&str; 6] = [
        "simdgroup_barrier",
        "a simdgroup reduction",
        "a simdgroup shuffle",
        "simdgroup_load",
        "simdgroup_store",
        "simdgroup_multiply_accumulate",
    ];
}

/// Which memory a barrier orders.
pub mod flags {
    pub const DEVICE: u32 = 1;
    pub const THREADGROUP: u32 = 2;
}

/// What `Host::access` is told.
pub mod access {
    pub const READ: u32 = 0;
    pub const ATOMIC: u32 = 2;
}

/// An argument of a kernel, as the compiled text describes it.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// 0 a buffer, 1 threadgroup memory.
    pub kind: u32,
    /// Its index among its kind.
    pub index: u32,
    /// Bytes that have to be there: the type's own, with one element of an array without a length.
    pub size: u64,
    pub align: u64,
}
