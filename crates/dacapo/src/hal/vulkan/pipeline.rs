//! Pipelines: a kernel's texts, specialized as dispatches ask for, each made once.

use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use ash::vk;

use super::cache::PipelineCache;
use super::context::{Context, lock};
use super::descriptors::{Descriptors, Layout};
use crate::hal::Pipeline;
use crate::hal::gpu::{GpuPlan, GpuTwin};
use crate::hal::info::DeviceKind;
use crate::hal::kernel::Kernel;
use crate::hal::wgsl::translator::{Key, Translator};
use crate::id_map::IdMap;
use crate::{Error, Result};

/// A pipeline that may be on its way: who asks first makes it, the others wait.
type Slot = Arc<OnceLock<Result<Made>>>;

/// A pipeline for one specialization.
#[derive(Debug, Clone, Copy)]
pub(super) struct Made {
    pub pipeline: vk::Pipeline,
    /// Inline bytes, offsets of the bindings included.
    pub inline_bytes: usize,
}

/// A kernel on a Vulkan device.
pub(super) struct VulkanPipeline {
    pub kernel: &'static Kernel,
    pub twin: &'static GpuTwin,
    pub layout: Layout,
    translator: Arc<Translator>,
    made: RwLock<IdMap<Slot, Key>>,
    cache: Arc<PipelineCache>,
    /// Owns the layout.
    _descriptors: Arc<Descriptors>,
    context: Arc<Context>,
    /// Pipelines to destroy.
    owned: Mutex<Vec<vk::Pipeline>>,
}

impl std::fmt::Debug for VulkanPipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vulkan pipeline of {}", self.kernel.name)
    }
}

impl Pipeline for VulkanPipeline {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl VulkanPipeline {
    /// A kernel's layout; its pipelines follow when they are asked for.
    pub fn new(
        context: &Arc<Context>,
        cache: &Arc<PipelineCache>,
        descriptors: &Arc<Descriptors>,
        translator: &Arc<Translator>,
        kernel: &'static Kernel,
    ) -> Result<VulkanPipeline> {
        let missing = || Error::Shader { kernel: kernel.name.into(), message: "it has no GPU code".into() };
        let twin = kernel.gpu.ok_or_else(missing)?;
        Ok(VulkanPipeline {
            kernel,
            twin,
            layout: descriptors.layout(kernel.bindings.len())?,
            translator: translator.clone(),
            made: RwLock::default(),
            cache: cache.clone(),
            _descriptors: descriptors.clone(),
            context: context.clone(),
            owned: Mutex::default(),
        })
    }

    /// The pipeline that a plan asks for.
    pub fn get(&self, plan: &GpuPlan) -> Result<Made> {
        let key = Key::of(plan);
        let known = self.made.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let slot = known.unwrap_or_else(|| {
            let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
            made.entry(key).or_default().clone()
        });
        slot.get_or_init(|| self.make(plan)).clone()
    }

    fn make(&self, plan: &GpuPlan) -> Result<Made> {
        let shader = self.translator.shader(self.kernel, self.twin, plan.variant)?;
        let special = shader.specialize(&plan.constants)?;
        special.check(shader.label(), &self.context.physical.limits)?;
        // Compilers of software devices take minutes over unrolled loops, and have no registers to put arrays into. Some unroll
        // unless they are asked not to.
        let software = self.context.physical.info.kind == DeviceKind::Software;
        let special = if software { special.rolled() } else { special };
        let words = special.spirv(shader.label())?;
        let pipeline = self.create(&words, special.workgroup_size()[0])?;
        lock(&self.owned).push(pipeline);
        Ok(Made { pipeline, inline_bytes: shader.inline_bytes() })
    }

    fn create(&self, words: &[u32], width: u32) -> Result<vk::Pipeline> {
        let device = &self.context.device;
        let create = vk::ShaderModuleCreateInfo::default().code(words);
        // SAFETY: the words are a module that was validated.
        let module = unsafe { device.create_shader_module(&create, None) }
            .map_err(|code| self.context.error("vkCreateShaderModule", code))?;
        let physical = &self.context.physical;
        let subgroup = physical.limits.subgroup_size;
        let [least, most] = physical.subgroup_sizes;
        let mut size =
            vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default().required_subgroup_size(subgroup);
        let mut stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(c"main");
        if (least..=most).contains(&subgroup) && least > 0 {
            stage = stage.push_next(&mut size);
            if physical.features.full_subgroups && width.is_multiple_of(subgroup) {
                stage = stage.flags(vk::PipelineShaderStageCreateFlags::REQUIRE_FULL_SUBGROUPS);
            }
        }
        let create = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(self.layout.pipeline)];
        // SAFETY: module and layout live; the cache may be used by several threads.
        let made = unsafe { device.create_compute_pipelines(self.cache.raw(), &create, None) };
        // SAFETY: pipelines do not need their module any more.
        unsafe { device.destroy_shader_module(module, None) };
        let made = made.map_err(|(_, code)| self.context.error("vkCreateComputePipelines", code))?;
        Ok(made[0])
    }
}

impl Drop for VulkanPipeline {
    fn drop(&mut self) {
        let device = &self.context.device;
        // SAFETY: recordings keep the pipelines that they use, and are kept until they have ended.
        unsafe {
            for &pipeline in lock(&self.owned).iter() {
                device.destroy_pipeline(pipeline, None);
            }
        }
    }
}
