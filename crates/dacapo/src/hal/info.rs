//! Descriptions of devices.

/// The family of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// The processor.
    Cpu,
}

impl BackendKind {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            BackendKind::Cpu => "cpu",
        }
    }
}

impl std::fmt::Display for BackendKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
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
    /// Worker threads.
    pub threads: usize,
    /// Memory in bytes, where known.
    pub memory_bytes: Option<u64>,
    /// Instruction sets or extensions that kernels may use.
    pub features: Vec<&'static str>,
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
