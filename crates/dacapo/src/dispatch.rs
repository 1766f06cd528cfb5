//! Dispatches: a kernel, its arguments, its grid. The one description that everything else passes around.

use smallvec::SmallVec;

use crate::buffer::Buffer;
use crate::hal::ResolvedArg;
#[cfg(any(feature = "vulkan", feature = "metal"))]
use crate::hal::gpu::{GpuArg, GpuCall, GpuContext, GpuLimits};
use crate::hal::kernel::Kernel;
use crate::hazard::MemRange;
use crate::{Error, Result};

/// An argument of a dispatch.
#[derive(Debug, Clone)]
pub enum KernelArg {
    /// A view, bound as it is.
    Buffer(Buffer),
    /// A view without its first bytes. Fails at encoding if the offset is no whole number of elements or reaches
    /// past the end.
    BufferWithOffset(Buffer, usize),
    /// Inline bytes: a parameter struct.
    Bytes(SmallVec<[u8; 64]>),
}

/// A kernel with its arguments and grid.
///
/// Buffers are bound in the order of the kernel's signature. What the kernel does with each comes from that
/// signature alone.
#[derive(Debug, Clone)]
pub struct Dispatch {
    kernel: &'static Kernel,
    args: SmallVec<[KernelArg; 8]>,
    grid: [u32; 3],
}

impl Dispatch {
    /// A dispatch of this kernel, no arguments yet, with a grid of one.
    #[inline]
    pub fn new(kernel: &'static Kernel) -> Self {
        Dispatch { kernel, args: SmallVec::new(), grid: [1, 1, 1] }
    }

    /// Binds the next buffer of the signature.
    #[must_use]
    #[inline]
    pub fn buffer(self, buffer: &Buffer) -> Self {
        self.arg(KernelArg::Buffer(buffer.clone()))
    }

    /// Adds the kernel's parameter struct as inline bytes.
    #[must_use]
    #[inline]
    pub fn bytes<P: bytemuck::NoUninit>(self, params: &P) -> Self {
        self.arg(KernelArg::Bytes(SmallVec::from_slice(bytemuck::bytes_of(params))))
    }

    /// Adds an argument.
    #[must_use]
    #[inline]
    pub fn arg(mut self, arg: KernelArg) -> Self {
        self.args.push(arg);
        self
    }

    /// Sets the grid: threads in x, y and z. The CPU backend divides work by the kernel's plan instead, which may
    /// look at the grid.
    #[must_use]
    #[inline]
    pub fn grid(mut self, grid: [u32; 3]) -> Self {
        self.grid = grid;
        self
    }

    /// The kernel.
    pub fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// The grid: threads in x, y and z.
    pub fn threads(&self) -> [u32; 3] {
        self.grid
    }

    /// The arguments in order.
    pub fn args(&self) -> &[KernelArg] {
        &self.args
    }

    /// The bytes that the dispatch touches, as its kernel's signature has it.
    ///
    /// # Errors
    /// If the arguments do not fit the signature, overlap although one is written, or would write read-only
    /// memory.
    pub fn ranges(&self) -> Result<SmallVec<[MemRange; 8]>> {
        Ok(self.bind()?.ranges)
    }

    /// The buffers as the kernel gets them, in the order of its signature.
    ///
    /// # Errors
    /// As [`ranges`](Self::ranges).
    pub fn buffers(&self) -> Result<SmallVec<[Buffer; 8]>> {
        Ok(self.bind()?.views)
    }

    /// The inline bytes as a parameter struct, if there are inline bytes of that size.
    pub fn params<P: bytemuck::AnyBitPattern>(&self) -> Option<P> {
        let bytes = self.args.iter().find_map(|arg| match arg {
            KernelArg::Bytes(bytes) => Some(bytes),
            _ => None,
        })?;
        bytemuck::try_pod_read_unaligned(bytes).ok()
    }

    /// What a GPU backend would do with this dispatch on a device with these limits, whose allocations begin where anything
    /// may be bound. For tools and tests; without a device.
    ///
    /// # Errors
    /// As [`ranges`](Self::ranges); if the kernel has no GPU code or its plan fails.
    #[cfg(any(feature = "vulkan", feature = "metal"))]
    pub fn gpu_call(&self, limits: &GpuLimits) -> Result<GpuCall> {
        let bound = self.bind()?;
        let kernel = self.kernel;
        let missing = || Error::Shader { kernel: kernel.name.into(), message: "it has no GPU code".into() };
        let twin = kernel.gpu.ok_or_else(missing)?;
        let args: SmallVec<[GpuArg; 8]> = bound.resolved.iter().map(|arg| GpuArg::new(arg, limits)).collect();
        let context = GpuContext { args: &args, params: &bound.params, grid: self.grid, limits };
        let plan = twin.plan_for(kernel, &context)?;
        let misalignments: Vec<u32> = args.iter().map(|arg| arg.misalignment).collect();
        let rests = misalignments.iter().flat_map(|rest| rest.to_le_bytes());
        let inline = bound.params.iter().copied().chain(rests).collect();
        Ok(GpuCall { plan, inline, misalignments })
    }

    /// The same dispatch with other buffers in the place of its own.
    pub(crate) fn with_buffers(&self, mut replace: impl FnMut(&Buffer) -> Buffer) -> Dispatch {
        let mut dispatch = self.clone();
        for arg in &mut dispatch.args {
            match arg {
                KernelArg::Buffer(buffer) | KernelArg::BufferWithOffset(buffer, _) => {
                    *buffer = replace(buffer);
                }
                KernelArg::Bytes(_) => {}
            }
        }
        dispatch
    }

    /// Checks the arguments against the signature and resolves them.
    pub(crate) fn bind(&self) -> Result<Bound> {
        let mut bound = Bound::default();
        self.bind_into(&mut bound)?;
        Ok(bound)
    }

    /// The same into an empty [`Bound`], which is larger than is good to move for every dispatch.
    pub(crate) fn bind_into(&self, bound: &mut Bound) -> Result<()> {
        let kernel = self.kernel;
        for arg in &self.args {
            let buffer = match arg {
                KernelArg::Bytes(bytes) => {
                    if !bound.params.is_empty() {
                        return Err(Error::argument(kernel.name, "bytes", "one parameter struct", "two"));
                    }
                    bound.params.clone_from(bytes);
                    continue;
                }
                KernelArg::Buffer(buffer) => buffer.clone(),
                KernelArg::BufferWithOffset(buffer, offset) => without_start(kernel, buffer, *offset)?,
            };
            let Some(binding) = kernel.bindings.get(bound.views.len()) else {
                let expected = format!("{} buffers", kernel.bindings.len());
                return Err(Error::argument(kernel.name, "arguments", expected, "more"));
            };
            if binding.access.writes() && buffer.is_read_only() {
                return Err(Error::ReadOnly {
                    what: format!("argument {} of {}", binding.name, kernel.name),
                });
            }
            bound.ranges.push(buffer.range(binding.access));
            bound.resolved.push(buffer.resolve(binding.access));
            bound.views.push(buffer);
        }
        if bound.views.len() < kernel.bindings.len() {
            let expected = format!("{} buffers", kernel.bindings.len());
            return Err(Error::argument(kernel.name, "arguments", expected, bound.views.len()));
        }
        bound.check_aliases(kernel)
    }
}

/// Skips `offset` bytes of a view.
fn without_start(kernel: &'static Kernel, buffer: &Buffer, offset: usize) -> Result<Buffer> {
    let size = buffer.dtype().size();
    if !offset.is_multiple_of(size) || offset > buffer.byte_len() {
        let expected = format!("a multiple of {size} up to {}", buffer.byte_len());
        return Err(Error::argument(kernel.name, "byte offset", expected, offset));
    }
    let start = offset / size;
    buffer.slice_view(start, &[buffer.len() - start])
}

/// A dispatch's arguments, checked.
#[derive(Default)]
pub(crate) struct Bound {
    pub views: SmallVec<[Buffer; 8]>,
    pub ranges: SmallVec<[MemRange; 8]>,
    pub resolved: SmallVec<[ResolvedArg; 8]>,
    pub params: SmallVec<[u8; 64]>,
}

impl Bound {
    /// Lets go of everything.
    pub(crate) fn clear(&mut self) {
        self.views.clear();
        self.ranges.clear();
        self.resolved.clear();
        self.params.clear();
    }

    fn check_aliases(&self, kernel: &'static Kernel) -> Result<()> {
        for (j, later) in self.ranges.iter().enumerate().filter(|(_, r)| r.access.writes()) {
            let clash = |(i, other): &(usize, &MemRange)| *i != j && other.overlaps(later);
            if let Some((i, _)) = self.ranges.iter().enumerate().find(clash) {
                let (first, second) = (kernel.bindings[i.min(j)].name, kernel.bindings[i.max(j)].name);
                return Err(Error::Aliased { kernel: kernel.name, first, second });
            }
        }
        Ok(())
    }
}

#[cfg(any(feature = "vulkan", feature = "metal"))]
impl crate::gpu::Translator {
    /// Whether the device can run a dispatch: whether its plan asks for no more bytes of a binding, workgroups,
    /// invocations and workgroup memory than there are. Its buffers may lie on any device, or be transient.
    ///
    /// # Errors
    /// What the dispatch asks too much of; [`Error::Shader`] if the kernel has no GPU code or does not translate; arguments
    /// that do not fit the kernel's signature.
    pub fn fits(&self, dispatch: &Dispatch) -> Result<()> {
        let bound = dispatch.bind()?;
        self.check(dispatch.kernel(), &bound.resolved, &bound.params, dispatch.threads())
    }
}
