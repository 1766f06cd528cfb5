//! Texts translated once for a device, and whether what plans make of them fits it.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use smallvec::SmallVec;

use super::Shader;
use crate::Result;
use crate::hal::ResolvedArg;
use crate::hal::gpu::{GpuArg, GpuContext, GpuLimits, GpuPlan, GpuTwin};
use crate::hal::kernel::Kernel;

/// What the pipelines of a kernel differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    variant: usize,
    /// Overrides, their values as bits.
    constants: SmallVec<[(&'static str, u64); 8]>,
}

impl Key {
    /// What a plan asks for.
    pub fn of(plan: &GpuPlan) -> Key {
        let constants = plan.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect();
        Key { variant: plan.variant, constants }
    }
}

/// Keys of one kernel mostly name the same constants: only their values are mixed.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.variant);
        self.constants.iter().for_each(|(_, value)| state.write_u64(*value));
    }
}

/// Texts by their kernel's address and their variant. Who asks first translates, the others wait.
type Shaders = HashMap<(usize, usize), Arc<OnceLock<Result<Arc<Shader>>>>>;

/// The texts of kernels for a device with certain limits. It needs no device: tests ask it about ones that are not there.
#[derive(Debug)]
pub struct Translator {
    limits: GpuLimits,
    shaders: Mutex<Shaders>,
    fitting: Mutex<HashMap<(usize, Key), Result<()>>>,
}

impl Translator {
    /// For a device that offers this.
    pub fn new(limits: GpuLimits) -> Self {
        Translator { limits, shaders: Mutex::default(), fitting: Mutex::default() }
    }

    /// A variant of a kernel, parsed and held against the kernel's signature.
    pub(crate) fn shader(
        &self,
        kernel: &'static Kernel,
        twin: &'static GpuTwin,
        variant: usize,
    ) -> Result<Arc<Shader>> {
        let slot = {
            let mut shaders = self.shaders.lock().unwrap_or_else(PoisonError::into_inner);
            shaders.entry((address(kernel), variant)).or_default().clone()
        };
        slot.get_or_init(|| Ok(Arc::new(Shader::new(kernel, &twin.variants[variant])?))).clone()
    }

    /// Whether the device can run a dispatch: whether it binds so much, and has the workgroups, the invocations and the
    /// workgroup memory that the plan asks for.
    pub(crate) fn check(
        &self,
        kernel: &'static Kernel,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        let missing =
            || crate::Error::Shader { kernel: kernel.name.into(), message: "it has no GPU code".into() };
        let (twin, limits) = (kernel.gpu.ok_or_else(missing)?, &self.limits);
        let args: SmallVec<[GpuArg; 8]> = args.iter().map(|arg| GpuArg::new(arg, limits)).collect();
        args.iter().enumerate().try_for_each(|(binding, arg)| arg.check(kernel, binding, limits))?;
        let plan = twin.plan_for(kernel, &GpuContext { args: &args, params, grid, limits })?;
        if plan.workgroups.contains(&0) {
            return Ok(());
        }
        let key = (address(kernel), Key::of(&plan));
        let lock = || self.fitting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(&key) {
            return known.clone();
        }
        let shader = self.shader(kernel, twin, plan.variant)?;
        let fits =
            shader.specialize(&plan.constants).and_then(|special| special.check(shader.label(), limits));
        lock().insert(key, fits.clone());
        fits
    }
}

fn address(kernel: &'static Kernel) -> usize {
    std::ptr::from_ref(kernel) as usize
}
