//! Kernels: a name, a signature and the code for each backend.

use super::cpu::tile::{CpuPlan, PlanContext, Tile};
use super::gpu::GpuTwin;
use super::signature::Binding;

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
    /// The GPU twin; `None` if GPUs cannot run the kernel.
    pub gpu: Option<&'static GpuTwin>,
}

/// The Rust code of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct CpuTwin {
    /// Divides a dispatch into tiles and says which part of each written binding a tile owns.
    pub plan: fn(&PlanContext<'_>) -> CpuPlan,
    /// Computes one tile. Runs once for each tile, on any worker, in any order, beside any other.
    pub run: fn(&Tile<'_>),
}
