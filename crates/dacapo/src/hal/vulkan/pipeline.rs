//! Pipelines: a kernel's texts, specialized as dispatches ask for, each made once.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use ash::vk;

use super::cache::PipelineCache;
use super::context::{Context, lock};
use crate::hal::Pipeline;
use crate::hal::gpu::{GpuPlan, GpuTwin, PipelineKey};
use crate::hal::kernel::Kernel;
use crate::hal::wgsl::{INLINE_BYTES, Shader};
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
    pub layout: vk::PipelineLayout,
    pub set_layout: vk::DescriptorSetLayout,
    shaders: Vec<OnceLock<Result<Shader>>>,
    made: RwLock<HashMap<PipelineKey, Slot>>,
    cache: Arc<PipelineCache>,
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
    /// Layouts for a kernel; its pipelines follow when they are asked for.
    pub fn new(
        context: &Arc<Context>,
        cache: &Arc<PipelineCache>,
        kernel: &'static Kernel,
    ) -> Result<VulkanPipeline> {
        let missing = || Error::Shader { kernel: kernel.name.into(), message: "it has no GPU code".into() };
        let twin = kernel.gpu.ok_or_else(missing)?;
        let device = &context.device;
        let binding = |index: usize| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(index as u32)
                .descriptor_count(1)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let bindings: Vec<_> = (0..kernel.bindings.len()).map(binding).collect();
        let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        // SAFETY: the structures live.
        let set_layout = unsafe { device.create_descriptor_set_layout(&create, None) }
            .map_err(|code| context.error("vkCreateDescriptorSetLayout", code))?;
        let mut pipeline = VulkanPipeline {
            kernel,
            twin,
            layout: vk::PipelineLayout::null(),
            set_layout,
            shaders: twin.variants.iter().map(|_| OnceLock::new()).collect(),
            made: RwLock::default(),
            cache: cache.clone(),
            context: context.clone(),
            owned: Mutex::default(),
        };
        let layouts = [set_layout];
        let inline = [vk::PushConstantRange::default()
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .size(INLINE_BYTES as u32)];
        let create =
            vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts).push_constant_ranges(&inline);
        // SAFETY: as above.
        pipeline.layout = unsafe { device.create_pipeline_layout(&create, None) }
            .map_err(|code| context.error("vkCreatePipelineLayout", code))?;
        Ok(pipeline)
    }

    /// The pipeline that a plan asks for.
    pub fn get(&self, plan: &GpuPlan) -> Result<Made> {
        let key = PipelineKey::of(plan);
        let known = self.made.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let slot = known.unwrap_or_else(|| {
            let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
            made.entry(key).or_default().clone()
        });
        slot.get_or_init(|| self.make(plan)).clone()
    }

    fn make(&self, plan: &GpuPlan) -> Result<Made> {
        let name = self.kernel.name;
        let none = || Error::argument(name, "variant", format!("below {}", self.shaders.len()), plan.variant);
        let (slot, variant) =
            self.shaders.get(plan.variant).zip(self.twin.variants.get(plan.variant)).ok_or_else(none)?;
        if !variant.needs.met_by(&self.context.physical.limits) {
            let message = format!("{} lacks what it needs: {:?}", self.context.name(), variant.needs);
            return Err(Error::Shader { kernel: format!("{name}/{}", variant.name), message });
        }
        let shader = slot.get_or_init(|| Shader::new(self.kernel, variant)).as_ref().map_err(Clone::clone)?;
        let special = shader.specialize(&plan.constants)?;
        let invocations: u32 = special.workgroup_size().iter().product();
        let limit = self.context.physical.limits.workgroup_size;
        if invocations > limit {
            let message = format!("workgroups of {invocations}; {} takes {limit}", self.context.name());
            return Err(Error::Shader { kernel: shader.label().into(), message });
        }
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
        let create = [vk::ComputePipelineCreateInfo::default().stage(stage).layout(self.layout)];
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
            device.destroy_pipeline_layout(self.layout, None);
            device.destroy_descriptor_set_layout(self.set_layout, None);
        }
    }
}
