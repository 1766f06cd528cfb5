//! dacapo
mod dtype;
mod error;
mod hal;
mod kernel;

pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use hal::file::MappedFile;
pub use kernel::{Access, Binding, CpuTwin, Kernel, OpKind};

/// What CPU kernels are written against.
pub mod cpu {
    pub use crate::hal::cpu::tile::{CpuPlan, MAX_BINDINGS, PlanContext, Split, Tile, TileMut};
}
