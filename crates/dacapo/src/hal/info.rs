//! Descriptions of devices.

use super::gpu::GpuLimits;

/// The family of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// The processor.
    Cpu,
    /// A GPU through Vulkan.
    Vulkan,
    /// A GPU through Metal.
    Metal,
}

impl BackendKind {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            BackendKind::Cpu => "cpu",
            BackendKind::Vulkan => "vulkan",
            BackendKind::Metal => "metal",
        }
    }
}

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which device of a family is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceSelect {
    /// The best: discrete before integrated before others. Software devices are not taken.
    #[default]
    Auto,
    /// By its place among the devices of its family.
    Index(usize),
    /// The first with this in its name, whatever the case of letters.
    Name(String),
}

/// How work is handed to a Metal device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetalOptions {
    /// How compiled graphs are run again. Default: [`MetalReplay::Auto`].
    pub replay: MetalReplay,
    /// Whether Metal's command buffers hold references to what they use. The engine's own always live until the work has
    /// ended, so that this only costs time; for debugging. Default: no.
    pub retained: bool,
    /// Whether members of residency sets are kept wired, where the system can be told to. Default: yes.
    pub residency: bool,
}

impl Default for MetalOptions {
    fn default() -> Self {
        MetalOptions { replay: MetalReplay::Auto, retained: false, residency: true }
    }
}

/// How a Metal device runs a compiled graph again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetalReplay {
    /// By one command for an indirect command buffer where the whole graph fits into one, else as [`Reencode`](Self::Reencode).
    Auto,
    /// By encoding it anew, each time one submission ahead, on a thread of its own.
    Reencode,
}

/// What a device is made of, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares memory with the processor.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// Something else.
    Other,
    /// The processor through this library's own kernels.
    Processor,
    /// The processor behind a GPU's interface: for tests.
    Software,
}

impl DeviceKind {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            DeviceKind::Discrete => "discrete",
            DeviceKind::Integrated => "integrated",
            DeviceKind::Virtual => "virtual",
            DeviceKind::Other => "other",
            DeviceKind::Processor => "processor",
            DeviceKind::Software => "software",
        }
    }
}

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Family.
    pub backend: BackendKind,
    /// Position among the devices of its family.
    pub index: usize,
    /// Name, as the device gives it.
    pub name: String,
    /// What it is made of.
    pub kind: DeviceKind,
    /// Name and version of its driver, where there is one.
    pub driver: Option<String>,
    /// Worker threads.
    pub threads: usize,
    /// Memory in bytes, where known.
    pub memory_bytes: Option<u64>,
    /// Instruction sets or extensions that kernels may use.
    pub features: Vec<&'static str>,
    /// What a GPU offers to kernels; `None` for others.
    pub gpu: Option<GpuLimits>,
}

/// Threads that keep a middling GPU busy: some dozens for each of its cores.
pub(crate) const GPU_OCCUPANCY: u64 = 16 << 10;

/// Elements that are worth a worker of a CPU: fewer are done before another worker has looked.
const CPU_THREADS: u64 = 256;

impl DeviceInfo {
    /// An estimate of the threads, as a grid counts them, that keep the device busy.
    pub fn occupancy(&self) -> u64 {
        match self.backend == BackendKind::Cpu {
            true => CPU_THREADS * self.threads as u64,
            false => GPU_OCCUPANCY,
        }
    }
}
