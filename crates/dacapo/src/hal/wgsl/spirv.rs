//! SPIR-V from specialized shaders, with repairs of what the writer gets wrong.

use std::collections::{HashMap, HashSet};

use naga::back::spv::{Options, ZeroInitializeWorkgroupMemoryMode, write_vec};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use super::{Shader, Specialized};
use crate::hal::gpu::Wgsl;
use crate::hal::kernel::Kernel;
use crate::{Error, Result};

/// A variant of a kernel as SPIR-V: what a device is given. For tools and tests.
///
/// # Errors
/// [`Error::Shader`] if the text does not translate, does not do what the signature says, or lacks one of the overrides.
pub fn translate(
    kernel: &'static Kernel,
    variant: &Wgsl,
    constants: &[(&'static str, f64)],
) -> Result<Vec<u32>> {
    let shader = Shader::new(kernel, variant)?;
    shader.specialize(constants)?.spirv(shader.label())
}

impl Specialized {
    /// The words of a module for Vulkan 1.3. Workgroup memory is not zeroed, indices are not checked.
    ///
    /// # Errors
    /// [`Error::Shader`] if the writer cannot express the shader.
    pub fn spirv(&self, label: &str) -> Result<Vec<u32>> {
        let fail = |message: String| Error::Shader { kernel: label.to_owned(), message };
        let words = write_vec(&self.module, &self.info, &options(), None)
            .map_err(|error| fail(format!("SPIR-V: {error}")))?;
        let mut instructions = Instructions::new(words).ok_or_else(|| fail("SPIR-V: not a module".into()))?;
        instructions.strip_layouts();
        instructions.order_memory_at_subgroup_barriers();
        if let Some(unroll) = self.unroll {
            instructions.ask_of_loops(unroll);
        }
        Ok(instructions.words)
    }
}

fn options() -> Options<'static> {
    const UNCHECKED: BoundsCheckPolicy = BoundsCheckPolicy::Unchecked;
    Options {
        lang_version: (1, 6),
        flags: naga::back::spv::WriterFlags::empty(),
        bounds_check_policies: BoundsCheckPolicies {
            index: UNCHECKED,
            buffer: UNCHECKED,
            image_load: UNCHECKED,
            binding_array: UNCHECKED,
        },
        zero_initialize_workgroup_memory: ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        use_storage_input_output_16: false,
        fake_missing_bindings: true,
        ..Options::default()
    }
}

/// Words before the first instruction.
const HEADER: usize = 5;

/// Instructions that the repairs look at, by number in the SPIR-V specification.
mod op {
    pub const TYPE_ARRAY: u32 = 28;
    pub const TYPE_RUNTIME_ARRAY: u32 = 29;
    pub const TYPE_STRUCT: u32 = 30;
    pub const TYPE_POINTER: u32 = 32;
    pub const CONSTANT: u32 = 43;
    pub const DECORATE: u32 = 71;
    pub const MEMBER_DECORATE: u32 = 72;
    pub const CONTROL_BARRIER: u32 = 224;
    pub const LOOP_MERGE: u32 = 246;
}

/// A module's words, cut into instructions.
struct Instructions {
    words: Vec<u32>,
}

impl Instructions {
    fn new(words: Vec<u32>) -> Option<Self> {
        let mut at = HEADER;
        while at < words.len() {
            let len = (words[at] >> 16) as usize;
            if len == 0 || at + len > words.len() {
                return None;
            }
            at += len;
        }
        (at == words.len()).then_some(Instructions { words })
    }

    /// Opcode and words of each instruction.
    fn iter(&self) -> impl Iterator<Item = (u32, &[u32])> {
        let mut rest = &self.words[HEADER..];
        std::iter::from_fn(move || {
            let first = *rest.first()?;
            let (instruction, tail) = rest.split_at((first >> 16) as usize);
            rest = tail;
            Some((first & 0xffff, instruction))
        })
    }

    /// Keeps the instructions that `keep` says.
    fn retain(&mut self, keep: impl Fn(u32, &[u32]) -> bool) {
        let kept = self.iter().filter(|(op, words)| keep(*op, words)).flat_map(|(_, words)| words);
        self.words = self.words[..HEADER].iter().chain(kept).copied().collect();
    }

    /// Takes strides and offsets from types that live in workgroup, private and function memory alone. The writer
    /// puts them on every array; Vulkan forbids them there (VUID-StandaloneSpirv-None-10684), and some drivers crash.
    fn strip_layouts(&mut self) {
        const WITHOUT_LAYOUT: [u32; 3] = [4, 6, 7]; // Workgroup, Private, Function
        const WITH_LAYOUT: [u32; 4] = [2, 9, 12, 5349]; // Uniform, PushConstant, StorageBuffer, PhysicalStorageBuffer
        let mut parts: HashMap<u32, Vec<u32>> = HashMap::new();
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for (op, words) in self.iter() {
            match op {
                op::TYPE_ARRAY | op::TYPE_RUNTIME_ARRAY => drop(parts.insert(words[1], vec![words[2]])),
                op::TYPE_STRUCT => drop(parts.insert(words[1], words[2..].to_vec())),
                op::TYPE_POINTER if WITHOUT_LAYOUT.contains(&words[2]) => without.push(words[3]),
                op::TYPE_POINTER if WITH_LAYOUT.contains(&words[2]) => with.push(words[3]),
                _ => {}
            }
        }
        let reached = |roots: Vec<u32>| {
            let (mut found, mut stack) = (HashSet::new(), roots);
            while let Some(next) = stack.pop() {
                if let Some(parts) = parts.get(&next)
                    && found.insert(next)
                {
                    stack.extend(parts);
                }
            }
            found
        };
        let with = reached(with);
        let bare: HashSet<u32> = reached(without).difference(&with).copied().collect();
        const ARRAY_STRIDE: u32 = 6;
        const MEMBER_LAYOUT: [u32; 4] = [4, 5, 7, 35]; // RowMajor, ColMajor, MatrixStride, Offset
        self.retain(|op, words| match op {
            op::DECORATE => !(bare.contains(&words[1]) && words[2] == ARRAY_STRIDE),
            op::MEMBER_DECORATE => !(bare.contains(&words[1]) && MEMBER_LAYOUT.contains(&words[3])),
            _ => true,
        });
    }

    /// Sets the hint to unroll, or not to, on every loop; the writer knows none.
    fn ask_of_loops(&mut self, unroll: bool) {
        const UNROLL: u32 = 1;
        const DONT_UNROLL: u32 = 2;
        let hint = if unroll { UNROLL } else { DONT_UNROLL };
        let mut at = HEADER;
        while at < self.words.len() {
            let first = self.words[at];
            if first & 0xffff == op::LOOP_MERGE {
                self.words[at + 3] = hint;
            }
            at += (first >> 16) as usize;
        }
    }

    /// Makes subgroup barriers order workgroup and storage memory. The writer has them order subgroup memory, which
    /// Vulkan does not have (VUID-StandaloneSpirv-MemorySemantics-10870).
    fn order_memory_at_subgroup_barriers(&mut self) {
        const WRITTEN: u32 = 0x88; // AcquireRelease | SubgroupMemory
        const MEANT: u32 = 0x1c8; // AcquireRelease | UniformMemory | SubgroupMemory | WorkgroupMemory
        let constant = |(op, words): (u32, &[u32])| {
            (op == op::CONSTANT && words.len() == 4 && words[3] == WRITTEN).then(|| (words[1], words[2]))
        };
        let Some((ty, written)) = self.iter().find_map(constant) else { return };
        let meant = self.words[3];
        let mut words = self.words[..HEADER].to_vec();
        words[3] += 1;
        for (op, instruction) in self.iter() {
            let start = words.len();
            words.extend_from_slice(instruction);
            if op == op::CONSTANT && instruction[2] == written {
                words.extend_from_slice(&[4 << 16 | op::CONSTANT, ty, meant, MEANT]);
            } else if op == op::CONTROL_BARRIER && instruction[3] == written {
                words[start + 3] = meant;
            }
        }
        self.words = words;
    }
}
