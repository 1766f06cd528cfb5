//! What a kernel brings for GPUs: WGSL, and a plan of how a dispatch is specialized and divided.
//!
//! The same text serves every GPU backend. It follows a few rules, which the translation checks:
//!
//! - the entry point is `main`; binding `i` of the signature is `@group(0) @binding(i)`, a struct around one runtime
//!   array (`struct Data { v: array<f32> }`), `var<storage, read>` if the signature only reads it;
//! - the inline bytes are a struct of 32-bit words in `var<immediate>`, and behind them comes one u32 for each binding:
//!   the bytes between the place where it is bound, aligned as the device needs it, and its first element;
//! - what differs from dispatch to dispatch in ways that a compiler should know is an `override`.

use smallvec::SmallVec;

use crate::DType;

/// The GPU code of a kernel.
#[derive(Debug, Clone, Copy)]
pub struct GpuTwin {
    /// The texts that a plan can choose from.
    pub variants: &'static [Wgsl],
    /// Chooses a text, its constants and the number of workgroups for a dispatch.
    pub plan: fn(&GpuContext<'_>) -> GpuPlan,
}

impl GpuTwin {
    /// Whether the device can run every variant that has to be there: the first.
    pub fn runs_on(&self, limits: &GpuLimits) -> bool {
        self.variants.first().is_some_and(|variant| variant.needs.met_by(limits))
    }
}

/// One WGSL text.
#[derive(Debug, Clone, Copy)]
pub struct Wgsl {
    /// Name, unique among the kernel's variants, for labels and messages.
    pub name: &'static str,
    /// Parts that are put together: shared functions, then the kernel.
    pub parts: &'static [&'static str],
    /// What the device must offer.
    pub needs: GpuNeeds,
    /// Whether compilers are asked to unroll its loops; see [`Wgsl::unrolled`].
    pub unroll: bool,
}

impl Wgsl {
    /// A text that any device runs.
    pub const fn new(name: &'static str, parts: &'static [&'static str]) -> Self {
        Wgsl { name, parts, needs: GpuNeeds::NOTHING, unroll: false }
    }

    /// The same text with needs.
    pub const fn needs(self, needs: GpuNeeds) -> Self {
        Wgsl { needs, ..self }
    }

    /// The same text, its loops unrolled where compilers do as they are asked. For loops of few turns whose number is known
    /// beforehand: arrays that they index can then be registers, where they would be memory otherwise.
    pub const fn unrolled(self) -> Self {
        Wgsl { unroll: true, ..self }
    }

    /// The whole text.
    pub fn text(&self) -> String {
        self.parts.concat()
    }
}

/// What a text asks of a device beyond Vulkan 1.3 with subgroup operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GpuNeeds {
    /// 16-bit floats in arithmetic and storage.
    pub f16: bool,
    /// Side of the cooperative matrices that it multiplies, f16 in, f32 out; 0 if it has none.
    pub matrix_side: u32,
}

impl GpuNeeds {
    /// Nothing.
    pub const NOTHING: GpuNeeds = GpuNeeds { f16: false, matrix_side: 0 };

    /// Whether a device offers it.
    pub fn met_by(&self, limits: &GpuLimits) -> bool {
        (!self.f16 || limits.f16) && (self.matrix_side == 0 || self.matrix_side == limits.matrix_side)
    }
}

/// What a GPU offers to kernels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuLimits {
    /// Invocations in a subgroup, where a kernel does not ask for another number.
    pub subgroup_size: u32,
    /// Bytes of workgroup memory.
    pub shared_memory: u32,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
    /// Workgroups of a dispatch in x, y and z.
    pub workgroups: [u32; 3],
    /// Bytes of a binding.
    pub binding_bytes: u64,
    /// Alignment of a binding's offset in bytes.
    pub binding_align: u64,
    /// Processors that run workgroups side by side, or a guess.
    pub processors: u32,
    /// 16-bit floats in arithmetic and storage.
    pub f16: bool,
    /// Side of cooperative matrices, f16 in, f32 out: 8, 16, or 0 where there are none.
    pub matrix_side: u32,
    /// Whether the dot product of four packed int8 values is one instruction.
    pub fast_int8_dot: bool,
}

/// Limits that a GPU is held to below its own, so that tests on one device stand for smaller ones. The default holds back
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuCaps {
    /// Bytes of a binding.
    pub binding_bytes: u64,
    /// Bytes of workgroup memory.
    pub shared_memory: u32,
    /// Invocations in a workgroup.
    pub workgroup_size: u32,
}

impl Default for GpuCaps {
    fn default() -> Self {
        GpuCaps { binding_bytes: u64::MAX, shared_memory: u32::MAX, workgroup_size: u32::MAX }
    }
}

impl GpuCaps {
    /// The least that Vulkan promises.
    pub const LEAST: GpuCaps =
        GpuCaps { binding_bytes: 1 << 27, shared_memory: 16 << 10, workgroup_size: 128 };
}

impl GpuLimits {
    /// The limits of a device that is held to these caps.
    #[must_use]
    pub fn capped(mut self, caps: &GpuCaps) -> Self {
        self.binding_bytes = self.binding_bytes.min(caps.binding_bytes);
        self.shared_memory = self.shared_memory.min(caps.shared_memory);
        self.workgroup_size = self.workgroup_size.min(caps.workgroup_size);
        self
    }
}

/// What a kernel's plan may depend on.
#[derive(Debug)]
pub struct GpuContext<'a> {
    pub(crate) args: &'a [GpuArg],
    pub(crate) params: &'a [u8],
    pub(crate) grid: [u32; 3],
    pub(crate) limits: &'a GpuLimits,
}

/// A binding as a plan sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GpuArg {
    pub len: usize,
    pub dtype: DType,
    /// Bytes between the place where it is bound and its first element.
    pub misalignment: u32,
}

impl GpuContext<'_> {
    /// Elements in a binding.
    pub fn len(&self, binding: usize) -> usize {
        self.args[binding].len
    }

    /// Element type of a binding.
    pub fn dtype(&self, binding: usize) -> DType {
        self.args[binding].dtype
    }

    /// Bytes between the place where a binding is bound, which is aligned as the device needs it, and its first
    /// element. The kernel gets the number too: behind the inline bytes follows one u32 for each binding.
    pub fn misalignment(&self, binding: usize) -> u32 {
        self.args[binding].misalignment
    }

    /// The dispatch's inline bytes as a parameter struct. Panics if their size differs from the struct's.
    pub fn params<P: bytemuck::AnyBitPattern>(&self) -> P {
        bytemuck::pod_read_unaligned(self.params)
    }

    /// The dispatch's grid.
    pub fn grid(&self) -> [u32; 3] {
        self.grid
    }

    /// What the device offers.
    pub fn limits(&self) -> &GpuLimits {
        self.limits
    }
}

/// How a dispatch is carried out on a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuPlan {
    /// Index among the kernel's variants.
    pub variant: usize,
    /// Workgroups in x, y and z. None at all if one is 0.
    pub workgroups: [u32; 3],
    /// Values of overrides, by name, in a fixed order.
    pub constants: SmallVec<[(&'static str, f64); 8]>,
}

impl GpuPlan {
    /// A plan for the first variant with this many workgroups.
    pub fn new(workgroups: [u32; 3]) -> Self {
        GpuPlan { variant: 0, workgroups, constants: SmallVec::new() }
    }

    /// A plan for `count` workgroups, which the kernel counts as
    /// `workgroup_id.x + workgroup_id.y * num_workgroups.x`: x alone may not hold them. There may be more than `count`.
    pub fn linear(count: usize) -> Self {
        const WIDE: usize = 32768;
        let x = count.clamp(1, WIDE);
        GpuPlan::new([x as u32, count.div_ceil(x) as u32, 1])
    }

    /// Another variant.
    #[must_use]
    pub fn variant(mut self, variant: usize) -> Self {
        self.variant = variant;
        self
    }

    /// Sets an override.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: impl Into<f64>) -> Self {
        self.constants.push((name, value.into()));
        self
    }
}

/// A dispatch as a backend would carry it out on a device with given limits: [`Dispatch::gpu_call`](crate::Dispatch::gpu_call).
#[cfg(any(feature = "vulkan", feature = "metal"))]
#[derive(Debug, Clone, PartialEq)]
pub struct GpuCall {
    /// Text, constants, workgroups.
    pub plan: GpuPlan,
    /// Inline bytes: the parameters, then the misalignment of each binding.
    pub inline: Vec<u8>,
    /// Bytes between the place where each buffer is bound and its first element.
    pub misalignments: Vec<u32>,
}
