//! Metal's shading language from specialized shaders, and where its arguments are bound.
//!
//! Binding `i` of a kernel's signature is `[[buffer(i)]]`; inline bytes and lengths have places of their own. Variables of
//! workgroup memory are arguments without a number: the i-th of them is `[[threadgroup(i)]]`.

use naga::back::msl::{BindTarget, EntryPointResources, Options, PipelineOptions, write_string};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::{AddressSpace, ResourceBinding};

use super::{ENTRY, Shader, Specialized};
use crate::hal::gpu::{GpuLimits, Wgsl};
use crate::hal::kernel::Kernel;
use crate::{Error, Result};

/// Index of the buffer argument that holds the inline bytes.
pub const INLINE_BUFFER: u32 = 30;
/// Index of the buffer argument that holds lengths of bindings: [`Msl::sizes`].
pub const SIZES_BUFFER: u32 = 29;
/// Version of the language: that of macOS 14.
pub const LANGUAGE: (u8, u8) = (3, 1);

/// A kernel's text in Metal's shading language, and what a dispatch has to bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Msl {
    /// The text.
    pub source: String,
    /// Name of the entry point in the text.
    pub entry: String,
    /// Threads of a threadgroup in x, y and z.
    pub workgroup: [u32; 3],
    /// Bytes at [`INLINE_BUFFER`]; nothing is bound there if 0.
    pub inline_bytes: usize,
    /// Bindings whose lengths in bytes, one u32 each, are at [`SIZES_BUFFER`], in order. Nothing is bound there if empty.
    pub sizes: Vec<u32>,
    /// Bytes of the threadgroup memory arguments, in order, as Metal wants them: multiples of 16.
    pub threadgroup: Vec<u32>,
}

/// A variant of a kernel in Metal's shading language: what a device is given. For the backend, tools and tests.
///
/// # Errors
/// [`Error::Shader`] if the text does not translate, does not do what the signature says, or lacks one of the overrides.
pub fn translate(kernel: &'static Kernel, variant: &Wgsl, constants: &[(&'static str, f64)]) -> Result<Msl> {
    let shader = Shader::new(kernel, variant)?;
    shader.specialize(constants)?.msl(&shader)
}

/// What Apple silicon offers to kernels, from its first generation on; `processors` is a guess that the device's name or
/// registry may better.
pub fn limits(processors: u32) -> GpuLimits {
    GpuLimits {
        subgroup_size: 32,
        shared_memory: 32 << 10,
        workgroup_size: 1024,
        // Metal names no limit; threads are counted in 32 bits.
        workgroups: [1 << 20, 65_535, 65_535],
        binding_bytes: u64::from(u32::MAX),
        // Offsets may be multiples of 4; vectors of four values are read whole.
        binding_align: 16,
        processors,
        f16: true,
        // `simdgroup_matrix`.
        matrix_side: 8,
        fast_int8_dot: false,
    }
}

/// Strikes declarations that the writer repeats. An operand of several packed dot products in a row gets a name for each
/// product, and always the same one.
fn declare_once(source: &str) -> String {
    let mut scopes: Vec<Vec<&str>> = vec![Vec::new()];
    let mut once = String::with_capacity(source.len());
    for line in source.lines() {
        let text = line.trim();
        if text.starts_with('}') && scopes.len() > 1 {
            scopes.pop();
        }
        if text.starts_with("packed_") && text.contains(" reinterpreted_") {
            if scopes.iter().flatten().any(|known| *known == text) {
                continue;
            }
            scopes.last_mut().into_iter().for_each(|scope| scope.push(text));
        }
        if text.ends_with('{') {
            scopes.push(Vec::new());
        }
        once.push_str(line);
        once.push('\n');
    }
    once
}

impl Specialized {
    /// The text for macOS 14. Threadgroup memory is not zeroed, indices are not checked.
    ///
    /// # Errors
    /// [`Error::Shader`] if the writer cannot express the shader.
    pub fn msl(&self, shader: &Shader) -> Result<Msl> {
        let fail = |message: String| Error::Shader { kernel: shader.label().to_owned(), message };
        let (source, info) =
            write_string(&self.module, &self.info, &self.msl_options(), &PipelineOptions::default())
                .map_err(|error| fail(format!("MSL: {error}")))?;
        let entry = info.entry_point_names.into_iter().next();
        let entry = entry.ok_or_else(|| fail("MSL: no entry point".into()))?;
        let entry = entry.map_err(|error| fail(format!("MSL: {error}")))?;
        Ok(Msl {
            source: declare_once(&source),
            entry,
            workgroup: self.workgroup_size(),
            inline_bytes: shader.inline_bytes(),
            sizes: self.sized_bindings(),
            threadgroup: self.threadgroup_bytes(),
        })
    }

    fn msl_options(&self) -> Options {
        const UNCHECKED: BoundsCheckPolicy = BoundsCheckPolicy::Unchecked;
        let mut resources = EntryPointResources {
            immediates_buffer: Some(INLINE_BUFFER as u8),
            sizes_buffer: Some(SIZES_BUFFER as u8),
            ..EntryPointResources::default()
        };
        for place in self.module.global_variables.iter().filter_map(|(_, global)| global.binding) {
            let target =
                BindTarget { buffer: Some(place.binding as u8), mutable: true, ..BindTarget::default() };
            resources.resources.insert(ResourceBinding { group: 0, ..place }, target);
        }
        Options {
            lang_version: LANGUAGE,
            per_entry_point_map: [(ENTRY.to_owned(), resources)].into(),
            fake_missing_bindings: false,
            bounds_check_policies: BoundsCheckPolicies {
                index: UNCHECKED,
                buffer: UNCHECKED,
                image_load: UNCHECKED,
                binding_array: UNCHECKED,
            },
            zero_initialize_workgroup_memory: false,
            force_loop_bounding: false,
            emit_int_div_checks: false,
            ..Options::default()
        }
    }

    /// Bindings that the writer puts into the struct of lengths: every storage variable with a runtime array, if the entry
    /// point uses any.
    fn sized_bindings(&self) -> Vec<u32> {
        let uses = self.info.get_entry_point(0);
        let sized = |global: &naga::GlobalVariable| {
            self.module.types[global.ty].inner.needs_host_buffer_byte_size(&self.module.types)
        };
        let sized: Vec<_> = self.module.global_variables.iter().filter(|(_, global)| sized(global)).collect();
        if sized.iter().all(|(handle, _)| uses[*handle].is_empty()) {
            return Vec::new();
        }
        sized.into_iter().filter_map(|(_, global)| Some(global.binding?.binding)).collect()
    }

    /// Sizes of the workgroup variables that the entry point uses, in the order of its arguments.
    fn threadgroup_bytes(&self) -> Vec<u32> {
        let uses = self.info.get_entry_point(0);
        let used =
            self.module.global_variables.iter().filter(|(handle, global)| {
                global.space == AddressSpace::WorkGroup && !uses[*handle].is_empty()
            });
        let size = |ty| self.module.types[ty].inner.size(self.module.to_ctx());
        used.map(|(_, global)| size(global.ty).next_multiple_of(16)).collect()
    }
}
