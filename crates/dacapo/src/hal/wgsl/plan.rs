//! Plans of dispatches, held against what a device offers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::hal::ResolvedArg;
use crate::hal::gpu::{GpuArg, GpuContext, GpuLimits, GpuPlan, GpuTwin};
use crate::hal::kernel::Kernel;
use crate::{Error, Result};

impl GpuTwin {
    /// The plan of a dispatch of `kernel`, whose twin this is, on a device with these limits.
    ///
    /// # Errors
    /// [`Error::Shader`] if there is no such variant, the device lacks what it needs, or the plan panics because it was
    /// given parameters of another size; [`Error::Argument`] for more workgroups than the device takes.
    pub(crate) fn plan_for(&self, kernel: &Kernel, context: &GpuContext<'_>) -> Result<GpuPlan> {
        let plan = catch_unwind(AssertUnwindSafe(|| (self.plan)(context))).map_err(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let message = format!("its plan panicked: {}", text.unwrap_or_default());
            Error::Shader { kernel: kernel.name.into(), message }
        })?;
        let Some(variant) = self.variants.get(plan.variant) else {
            let expected = format!("below {}", self.variants.len());
            return Err(Error::argument(kernel.name, "variant", expected, plan.variant));
        };
        let limits = context.limits;
        if !variant.needs.met_by(limits) {
            let message = format!("the device lacks what it needs: {:?}", variant.needs);
            return Err(Error::Shader { kernel: format!("{}/{}", kernel.name, variant.name), message });
        }
        if plan.workgroups.iter().zip(&limits.workgroups).any(|(count, most)| count > most) {
            let expected = format!("at most {:?} workgroups", limits.workgroups);
            return Err(Error::argument(kernel.name, "grid", expected, format!("{:?}", plan.workgroups)));
        }
        Ok(plan)
    }
}

impl GpuArg {
    /// An argument as a device with these limits binds it.
    pub fn new(arg: &ResolvedArg, limits: &GpuLimits) -> GpuArg {
        let misalignment = (arg.offset as u64 % limits.binding_align) as u32;
        GpuArg { len: arg.len, dtype: arg.dtype, misalignment }
    }

    /// Bytes that are bound. Kernels see words: a view of bytes that ends within one is bound to the word's end.
    pub fn bound_bytes(&self) -> u64 {
        (u64::from(self.misalignment) + (self.len * self.dtype.size()) as u64).next_multiple_of(4).max(4)
    }

    /// Whether a device with these limits can bind it.
    ///
    /// # Errors
    /// [`Error::Argument`] with kernel, binding and both numbers of bytes.
    pub fn check(&self, kernel: &Kernel, binding: usize, limits: &GpuLimits) -> Result<()> {
        let bytes = self.bound_bytes();
        if bytes > limits.binding_bytes {
            let name = kernel.bindings.get(binding).map_or("binding", |binding| binding.name);
            let expected =
                format!("at most the {} bytes that the device binds at once", limits.binding_bytes);
            return Err(Error::argument(kernel.name, name, expected, format!("{bytes} bytes")));
        }
        Ok(())
    }
}
