//! Kernels: a name, a signature and the code for each backend.

use crate::cpu::{CpuPlan, PlanContext, Tile};

/// What a kernel does with a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes only; what it does not write keeps its value.
    Write,
    /// Reads and writes.
    ReadWrite,
}

impl Access {
    /// Whether the kernel may read the binding.
    pub const fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite)
    }

    /// Whether the kernel may write the binding.
    pub const fn writes(self) -> bool {
        matches!(self, Access::Write | Access::ReadWrite)
    }
}

/// One buffer argument in a kernel's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Name, for messages.
    pub name: &'static str,
    /// What the kernel does with it.
    pub access: Access,
}

impl Binding {
    /// A binding that is read.
    pub const fn read(name: &'static str) -> Self {
        Binding { name, access: Access::Read }
    }

    /// A binding that is written.
    pub const fn write(name: &'static str) -> Self {
        Binding { name, access: Access::Write }
    }

    /// A binding that is read and written in place.
    pub const fn read_write(name: &'static str) -> Self {
        Binding { name, access: Access::ReadWrite }
    }
}

/// The kind of work a kernel does: for profiles, pictures and fusion patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OpKind {
    /// RMSNorm, LayerNorm.
    Norm,
    /// Matrix products of any format.
    Matmul,
    /// Quantization of activations or weights.
    Quantize,
    /// Attention over a KV cache.
    Attention,
    /// Rotary position embedding.
    Rope,
    /// Write into a KV cache.
    KvWrite,
    /// Softmax.
    Softmax,
    /// Activation functions, gated or not.
    Activation,
    /// Other elementwise arithmetic.
    Elementwise,
    /// Gather of embedding rows.
    Embed,
    /// Argmax, top-k, sampling.
    Sample,
    /// Copies and conversions.
    Copy,
    /// Anything else.
    Other,
}

impl OpKind {
    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            OpKind::Norm => "norm",
            OpKind::Matmul => "matmul",
            OpKind::Quantize => "quantize",
            OpKind::Attention => "attention",
            OpKind::Rope => "rope",
            OpKind::KvWrite => "kv-write",
            OpKind::Softmax => "softmax",
            OpKind::Activation => "activation",
            OpKind::Elementwise => "elementwise",
            OpKind::Embed => "embed",
            OpKind::Sample => "sample",
            OpKind::Copy => "copy",
            OpKind::Other => "other",
        }
    }
}

/// A kernel: one row of a catalogue.
///
/// The signature says what each binding is for, once; callers cannot say otherwise. On the CPU the signature is
/// enforced: the twin gets `&[T]` for what it reads and its own tile of `&mut [T]` for what it writes.
#[derive(Debug)]
pub struct Kernel {
    /// Unique name.
    pub name: &'static str,
    /// Kind of work.
    pub kind: OpKind,
    /// Buffer arguments, in order.
    pub bindings: &'static [Binding],
    /// The CPU twin.
    pub cpu: CpuTwin,
}

/// The Rust code of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct CpuTwin {
    /// Divides a dispatch into tiles and says which part of each written binding a tile owns.
    pub plan: fn(&PlanContext<'_>) -> CpuPlan,
    /// Computes one tile. Runs once for each tile, on any worker, in any order, beside any other.
    pub run: fn(&Tile<'_>),
}
