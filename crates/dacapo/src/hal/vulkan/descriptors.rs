//! Layouts and descriptor sets, used again.
//!
//! All that tells kernels apart here is how many bindings they have, so that there is one layout for each number. A set
//! stays allocated when the recording that it was made for is gone, and is written anew for the next: allocating costs
//! some drivers ten times what writing does.

use std::sync::{Arc, Mutex};

use ash::vk;

use super::context::{Context, lock};
use crate::Result;
use crate::hal::cpu::tile::MAX_BINDINGS;
use crate::hal::wgsl::INLINE_BYTES;

/// Sets of one descriptor pool.
const SETS: u32 = 128;

/// How the kernels with one number of bindings see their arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub set: vk::DescriptorSetLayout,
    /// The set's layout and the inline bytes.
    pub pipeline: vk::PipelineLayout,
}

/// Layouts and free sets by the number of bindings.
pub(super) struct Descriptors {
    context: Arc<Context>,
    shelves: [Mutex<Shelf>; MAX_BINDINGS + 1],
}

/// What there is for one number of bindings.
#[derive(Default)]
struct Shelf {
    layout: Option<Layout>,
    pools: Vec<vk::DescriptorPool>,
    /// Sets that the newest pool has not given out yet.
    left: u32,
    /// Sets that were given back.
    free: Vec<vk::DescriptorSet>,
}

/// A descriptor set and the shelf that it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub raw: vk::DescriptorSet,
    bindings: u8,
}

impl std::fmt::Debug for Descriptors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("descriptor sets")
    }
}

impl Descriptors {
    pub fn new(context: &Arc<Context>) -> Arc<Descriptors> {
        let shelves = std::array::from_fn(|_| Mutex::default());
        Arc::new(Descriptors { context: context.clone(), shelves })
    }

    /// The layout for so many bindings, of which there are at most [`MAX_BINDINGS`].
    pub fn layout(&self, bindings: usize) -> Result<Layout> {
        let mut shelf = lock(&self.shelves[bindings]);
        match shelf.layout {
            Some(layout) => Ok(layout),
            None => self.make_layout(&mut shelf, bindings),
        }
    }

    fn make_layout(&self, shelf: &mut Shelf, bindings: usize) -> Result<Layout> {
        let (context, device) = (&self.context, &self.context.device);
        let binding = |index: usize| {
            vk::DescriptorSetLayoutBinding::default()
                .binding(index as u32)
                .descriptor_count(1)
                .descriptor_type(vk::DescriptorType::STORAGE_BUFFER)
                .stage_flags(vk::ShaderStageFlags::COMPUTE)
        };
        let list: Vec<_> = (0..bindings).map(binding).collect();
        let create = vk::DescriptorSetLayoutCreateInfo::default().bindings(&list);
        // SAFETY: the structures live.
        let set = unsafe { device.create_descriptor_set_layout(&create, None) }
            .map_err(|code| context.error("vkCreateDescriptorSetLayout", code))?;
        let sets = [set];
        let inline = [vk::PushConstantRange::default()
            .stage_flags(vk::ShaderStageFlags::COMPUTE)
            .size(INLINE_BYTES as u32)];
        let create = vk::PipelineLayoutCreateInfo::default().set_layouts(&sets).push_constant_ranges(&inline);
        // SAFETY: as above.
        let pipeline = unsafe { device.create_pipeline_layout(&create, None) }.map_err(|code| {
            // SAFETY: nothing uses it.
            unsafe { device.destroy_descriptor_set_layout(set, None) };
            context.error("vkCreatePipelineLayout", code)
        })?;
        let layout = Layout { set, pipeline };
        shelf.layout = Some(layout);
        Ok(layout)
    }

    /// A set that nobody uses, written with these buffers.
    pub fn set(&self, buffers: &[vk::DescriptorBufferInfo]) -> Result<Set> {
        let bindings = buffers.len();
        let layout = self.layout(bindings)?;
        let raw = {
            let mut shelf = lock(&self.shelves[bindings]);
            match shelf.free.pop() {
                Some(set) => set,
                None => self.allocate(&mut shelf, layout.set, bindings)?,
            }
        };
        let write = |(index, buffer): (usize, &'_ vk::DescriptorBufferInfo)| vk::WriteDescriptorSet {
            dst_set: raw,
            dst_binding: index as u32,
            descriptor_count: 1,
            descriptor_type: vk::DescriptorType::STORAGE_BUFFER,
            p_buffer_info: buffer,
            ..Default::default()
        };
        let writes: smallvec::SmallVec<[_; 8]> = buffers.iter().enumerate().map(write).collect();
        // SAFETY: nobody else has the set; `buffers` lives until the call returns.
        unsafe { self.context.device.update_descriptor_sets(&writes, &[]) };
        Ok(Set { raw, bindings: bindings as u8 })
    }

    fn allocate(
        &self,
        shelf: &mut Shelf,
        layout: vk::DescriptorSetLayout,
        bindings: usize,
    ) -> Result<vk::DescriptorSet> {
        let (context, device) = (&self.context, &self.context.device);
        if shelf.left == 0 {
            let size = vk::DescriptorPoolSize {
                ty: vk::DescriptorType::STORAGE_BUFFER,
                descriptor_count: SETS * bindings.max(1) as u32,
            };
            let sizes = [size];
            let create = vk::DescriptorPoolCreateInfo::default().max_sets(SETS).pool_sizes(&sizes);
            // SAFETY: the structures live.
            let pool = unsafe { device.create_descriptor_pool(&create, None) }
                .map_err(|code| context.error("vkCreateDescriptorPool", code))?;
            shelf.pools.push(pool);
            shelf.left = SETS;
        }
        let pool = shelf.pools.last().copied().unwrap_or_default();
        let layouts = [layout];
        let allocate = vk::DescriptorSetAllocateInfo::default().descriptor_pool(pool).set_layouts(&layouts);
        // SAFETY: the pool was made for so many sets, and its shelf is locked.
        let sets = unsafe { device.allocate_descriptor_sets(&allocate) }
            .map_err(|code| context.error("vkAllocateDescriptorSets", code))?;
        shelf.left -= 1;
        Ok(sets[0])
    }

    /// Takes sets back that no recording uses any more.
    pub fn give(&self, mut sets: Vec<Set>) {
        sets.sort_unstable_by_key(|set| set.bindings);
        for same in sets.chunk_by(|a, b| a.bindings == b.bindings) {
            let mut shelf = lock(&self.shelves[usize::from(same[0].bindings)]);
            shelf.free.extend(same.iter().map(|set| set.raw));
        }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        let device = &self.context.device;
        for shelf in &mut self.shelves {
            let shelf = shelf.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            // SAFETY: recordings and pipelines hold this, so that none is left.
            unsafe {
                shelf.pools.iter().for_each(|&pool| device.destroy_descriptor_pool(pool, None));
                if let Some(layout) = shelf.layout {
                    device.destroy_pipeline_layout(layout.pipeline, None);
                    device.destroy_descriptor_set_layout(layout.set, None);
                }
            }
        }
    }
}
