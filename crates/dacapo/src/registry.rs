//! Kernels made ready for a device, each on first use.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::hal::kernel::Kernel;
use crate::hal::{Backend, Pipeline};
use crate::id_map::IdMap;
use crate::{Error, Result};

/// The kernels that a device has compiled. Shared by all threads that encode for the device.
#[derive(Debug, Default)]
pub struct KernelRegistry {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the kernel's address: what encoding asks for.
    pipelines: IdMap<Arc<dyn Pipeline>, usize>,
    /// To notice a second kernel of the same name.
    names: HashMap<&'static str, Entry>,
}

#[derive(Debug)]
struct Entry {
    kernel: &'static Kernel,
    pipeline: Arc<dyn Pipeline>,
}

impl KernelRegistry {
    /// Kernels compiled so far.
    pub fn len(&self) -> usize {
        self.known.read().unwrap_or_else(PoisonError::into_inner).names.len()
    }

    /// Whether no kernel has been compiled yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the kernel of this name has been compiled.
    pub fn contains(&self, name: &str) -> bool {
        self.known.read().unwrap_or_else(PoisonError::into_inner).names.contains_key(name)
    }

    /// The compiled kernel; compiles it if this is its first use.
    pub(crate) fn pipeline(
        &self,
        backend: &dyn Backend,
        kernel: &'static Kernel,
    ) -> Result<Arc<dyn Pipeline>> {
        let address = std::ptr::from_ref(kernel) as usize;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = known.pipelines.get(&address) {
            return Ok(pipeline.clone());
        }
        if let Some(entry) = known.names.get(kernel.name) {
            return same(entry, kernel);
        }
        drop(known);
        check(kernel)?;
        let pipeline = backend.pipeline(kernel)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have compiled it meanwhile: then its pipeline is the one.
        let pipeline = same(known.names.entry(kernel.name).or_insert(Entry { kernel, pipeline }), kernel)?;
        known.pipelines.insert(address, pipeline.clone());
        Ok(pipeline)
    }
}

fn same(entry: &Entry, kernel: &'static Kernel) -> Result<Arc<dyn Pipeline>> {
    if std::ptr::eq(entry.kernel, kernel) {
        Ok(entry.pipeline.clone())
    } else {
        Err(Error::argument(
            kernel.name,
            "name",
            "a name no other kernel has",
            "a second kernel of this name",
        ))
    }
}

fn check(kernel: &'static Kernel) -> Result<()> {
    let limit = crate::cpu::MAX_BINDINGS;
    if kernel.bindings.len() > limit {
        let expected = format!("at most {limit}");
        return Err(Error::argument(kernel.name, "bindings", expected, kernel.bindings.len()));
    }
    for (index, binding) in kernel.bindings.iter().enumerate() {
        if kernel.bindings[..index].iter().any(|b| b.name == binding.name) {
            return Err(Error::argument(
                kernel.name,
                "bindings",
                "distinct names",
                format!("two {:?}", binding.name),
            ));
        }
    }
    Ok(())
}
