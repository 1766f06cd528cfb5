//! From WGSL to what a GPU backend takes: parsing, reflection, specialization. The language work is naga's.

use naga::valid::{Capabilities, GlobalUse, ModuleInfo, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};

use super::gpu::{GpuLimits, Wgsl};
use super::kernel::Kernel;
use super::signature::Access;
use crate::{Error, Result};

#[cfg(feature = "metal")]
pub mod msl;
mod plan;
#[cfg(any(feature = "vulkan", all(feature = "metal", any(target_vendor = "apple", metal_sim))))]
pub mod prepare;
#[cfg(feature = "vulkan")]
pub mod spirv;
pub mod translator;

/// Name of the entry point of every text.
pub const ENTRY: &str = "main";

/// Inline bytes that every device takes, those that the backend adds included.
pub const INLINE_BYTES: usize = 128;

/// A text that was parsed, validated and held against its kernel's signature.
#[derive(Debug)]
pub struct Shader {
    label: String,
    module: Module,
    info: ModuleInfo,
    inline_bytes: usize,
    unroll: bool,
}

/// A shader whose overrides have values.
#[derive(Debug)]
pub struct Specialized {
    module: Module,
    info: ModuleInfo,
    /// Whether compilers are asked to unroll loops, or not to: a hint that SPIR-V alone can carry.
    #[cfg_attr(not(feature = "vulkan"), expect(dead_code, reason = "nothing else takes it"))]
    unroll: Option<bool>,
}

/// What every device that is accepted can do, and what single texts ask for beyond it.
fn capabilities() -> Capabilities {
    Capabilities::IMMEDIATES
        | Capabilities::SUBGROUP
        | Capabilities::SUBGROUP_BARRIER
        | Capabilities::SHADER_FLOAT16
        // For `unpack2x16float`, which needs no 16-bit type.
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::COOPERATIVE_MATRIX
}

fn validator() -> Validator {
    let mut validator = Validator::new(ValidationFlags::all(), capabilities());
    validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE);
    validator.subgroup_operations(SubgroupOperationSet::all());
    validator
}

impl Shader {
    /// Parses a variant of a kernel and compares what it does with each binding to the kernel's signature.
    ///
    /// # Errors
    /// [`Error::Shader`] with the compiler's message, or the binding that is not used as the signature says.
    pub fn new(kernel: &'static Kernel, variant: &Wgsl) -> Result<Shader> {
        let label = format!("{}/{}", kernel.name, variant.name);
        let fail = |message: String| Error::Shader { kernel: label.clone(), message };
        let text = variant.text();
        let options = naga::front::wgsl::Options { parse_doc_comments: false, capabilities: capabilities() };
        let module = naga::front::wgsl::Frontend::new_with_options(options)
            .parse(&text)
            .map_err(|error| fail(error.emit_to_string(&text)))?;
        let info = validator().validate(&module).map_err(|error| fail(error.emit_to_string(&text)))?;
        let mut shader =
            Shader { label: label.clone(), module, info, inline_bytes: 0, unroll: variant.unroll };
        shader.check(kernel).map_err(fail)?;
        Ok(shader)
    }

    /// Kernel and variant.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Bytes of the inline parameters, offsets of the bindings included.
    pub fn inline_bytes(&self) -> usize {
        self.inline_bytes
    }

    /// Gives values to overrides; the others keep their defaults.
    ///
    /// # Errors
    /// [`Error::Shader`] if there is no such override, if one without a default gets no value, or if a value does not
    /// fit.
    pub fn specialize(&self, constants: &[(&'static str, f64)]) -> Result<Specialized> {
        let constants = constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let (module, info) =
            naga::back::pipeline_constants::process_overrides(&self.module, &self.info, None, &constants)
                .map_err(|error| Error::Shader { kernel: self.label.clone(), message: error.to_string() })?;
        Ok(Specialized {
            module: module.into_owned(),
            info: info.into_owned(),
            unroll: self.unroll.then_some(true),
        })
    }

    fn check(&mut self, kernel: &Kernel) -> std::result::Result<(), String> {
        let [entry] = &self.module.entry_points[..] else {
            return Err(format!("expected one entry point, found {}", self.module.entry_points.len()));
        };
        if entry.name != ENTRY {
            return Err(format!("expected the entry point {ENTRY:?}, found {:?}", entry.name));
        }
        let uses = self.info.get_entry_point(0);
        let mut bound = vec![false; kernel.bindings.len()];
        for (handle, global) in self.module.global_variables.iter() {
            let name = global.name.as_deref().unwrap_or("without a name");
            match global.space {
                AddressSpace::Storage { access } => {
                    let place = global.binding.filter(|place| place.group == 0);
                    let index = place.map_or(usize::MAX, |place| place.binding as usize);
                    let binding = kernel.bindings.get(index);
                    let binding = binding.ok_or_else(|| format!("{name} is no binding of the signature"))?;
                    if std::mem::replace(&mut bound[index], true) {
                        return Err(format!("binding {index} is declared twice"));
                    }
                    if !matches!(self.module.types[global.ty].inner, TypeInner::Struct { .. }) {
                        return Err(format!("{name} is not wrapped in a struct"));
                    }
                    check_access(binding.name, binding.access, access, uses[handle])?;
                }
                AddressSpace::Immediate => {
                    let size = self.module.types[global.ty].inner.size(self.module.to_ctx());
                    self.inline_bytes = size as usize;
                }
                AddressSpace::WorkGroup | AddressSpace::Private => {}
                _ => return Err(format!("{name} lies in an address space that kernels do not use")),
            }
        }
        if self.inline_bytes > INLINE_BYTES {
            return Err(format!("{} inline bytes; at most {INLINE_BYTES} work", self.inline_bytes));
        }
        match bound.iter().position(|bound| !bound) {
            Some(index) => Err(format!("binding {:?} is not declared", kernel.bindings[index].name)),
            None => Ok(()),
        }
    }
}

impl Specialized {
    /// The same, but what asked for unrolled loops asks for the reverse.
    #[cfg(feature = "vulkan")]
    pub fn rolled(self) -> Self {
        Specialized { unroll: self.unroll.map(|_| false), ..self }
    }

    /// Invocations of a workgroup in x, y and z.
    pub fn workgroup_size(&self) -> [u32; 3] {
        self.module.entry_points.first().map_or([1; 3], |entry| entry.workgroup_size)
    }

    /// Bytes of workgroup memory that the entry point uses.
    pub fn workgroup_bytes(&self) -> u32 {
        let uses = self.info.get_entry_point(0);
        let shared =
            self.module.global_variables.iter().filter(|(handle, global)| {
                global.space == AddressSpace::WorkGroup && !uses[*handle].is_empty()
            });
        shared.map(|(_, global)| self.module.types[global.ty].inner.size(self.module.to_ctx())).sum()
    }

    /// Whether a device can run it.
    ///
    /// # Errors
    /// [`Error::Shader`] with what it takes more of than there is.
    pub fn check(&self, label: &str, limits: &GpuLimits) -> Result<()> {
        let refuse = |message| Err(Error::Shader { kernel: label.to_owned(), message });
        let invocations: u32 = self.workgroup_size().iter().product();
        if invocations > limits.workgroup_size {
            return refuse(format!(
                "workgroups of {invocations}; the device takes {}",
                limits.workgroup_size
            ));
        }
        let bytes = self.workgroup_bytes();
        if bytes > limits.shared_memory {
            return refuse(format!(
                "{bytes} bytes of workgroup memory; the device has {}",
                limits.shared_memory
            ));
        }
        Ok(())
    }
}

/// Whether the text does with a binding what the signature says.
fn check_access(
    name: &str,
    signature: Access,
    declared: StorageAccess,
    used: GlobalUse,
) -> std::result::Result<(), String> {
    let (reads, writes) = (used.contains(GlobalUse::READ), used.contains(GlobalUse::WRITE));
    let atomic = used.contains(GlobalUse::ATOMIC);
    let wrong = match signature {
        Access::Read => writes || atomic || declared.contains(StorageAccess::STORE),
        Access::Write => reads || atomic || !writes,
        Access::ReadWrite => !(writes || atomic),
    };
    if wrong {
        let verb = |does: bool, word| if does { word } else { "" };
        let found = format!("{} {}", verb(reads || atomic, "reads"), verb(writes || atomic, "writes"));
        return Err(format!("the signature says {signature:?} of {name:?}; the text {}", found.trim()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
