//! Physical devices: what they are, whether they will do, which one is meant.

use std::ffi::CStr;

use ash::vk;

use super::instance::Instance;
use crate::hal::gpu::GpuLimits;
use crate::hal::info::{BackendKind, DeviceInfo, DeviceKind, DeviceSelect};
use crate::{Error, Result};

/// A physical device and what was found out about it.
#[derive(Debug)]
pub(super) struct Physical {
    pub raw: vk::PhysicalDevice,
    pub info: DeviceInfo,
    pub limits: GpuLimits,
    /// Family of a queue that can compute.
    pub family: u32,
    /// Meaningful bits of a timestamp of that family; 0 if there are none.
    pub timestamp_bits: u32,
    /// Nanoseconds of a timestamp's unit.
    pub timestamp_period: f32,
    /// Sizes that a pipeline may ask of its subgroups; equal if it may not choose.
    pub subgroup_sizes: [u32; 2],
    pub features: Features,
    /// For a pipeline cache on disk: changes with the driver.
    pub cache_id: [u8; 16],
}

/// Optional features that a device has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Features {
    pub f16: bool,
    pub int8_dot: bool,
    pub cooperative_matrix: bool,
    pub memory_budget: bool,
    /// Memory can be told how important it is, after it was allocated too.
    pub memory_priority: bool,
    pub calibrated_timestamps: bool,
    pub full_subgroups: bool,
}

/// All devices, in the driver's order.
pub(super) fn enumerate(instance: &Instance) -> Result<Vec<Result<Physical>>> {
    // SAFETY: the instance lives.
    let devices = unsafe { instance.raw.enumerate_physical_devices() }
        .map_err(|code| Error::NoDevice(format!("Vulkan lists no devices: {code}")))?;
    Ok(devices.into_iter().enumerate().map(|(index, raw)| describe(instance, raw, index)).collect())
}

/// The device that is meant.
pub(super) fn select(instance: &Instance, select: &DeviceSelect) -> Result<Physical> {
    let mut devices = enumerate(instance)?;
    let count = devices.len();
    match select {
        DeviceSelect::Index(index) if *index < count => devices.swap_remove(*index),
        DeviceSelect::Index(index) => {
            Err(Error::NoDevice(format!("vulkan:{index}; there are {count} Vulkan devices")))
        }
        DeviceSelect::Name(name) => {
            let wanted = name.to_lowercase();
            let mut found = devices.into_iter().flatten();
            let mut named = found.find(|device| device.info.name.to_lowercase().contains(&wanted));
            named.take().ok_or_else(|| Error::NoDevice(format!("no Vulkan device has {name:?} in its name")))
        }
        DeviceSelect::Auto => {
            let usable = devices.into_iter().flatten().filter(|d| d.info.kind != DeviceKind::Software);
            usable.min_by_key(|device| (device.info.kind, device.info.index)).ok_or_else(|| {
                Error::NoDevice(
                    "no Vulkan device but software ones, which have to be asked for by name".into(),
                )
            })
        }
    }
}

fn describe(instance: &Instance, raw: vk::PhysicalDevice, index: usize) -> Result<Physical> {
    let vulkan = &instance.raw;
    let mut v11 = vk::PhysicalDeviceVulkan11Properties::default();
    let mut v12 = vk::PhysicalDeviceVulkan12Properties::default();
    let mut v13 = vk::PhysicalDeviceVulkan13Properties::default();
    // SAFETY: the device belongs to the instance.
    let base = unsafe { vulkan.get_physical_device_properties(raw) };
    let name = base.device_name_as_c_str().unwrap_or(c"?").to_string_lossy().into_owned();
    let unusable = |why: &str| Error::NoDevice(format!("{name}: {why}"));
    if base.api_version < vk::API_VERSION_1_3 {
        return Err(unusable("its driver is older than Vulkan 1.3"));
    }
    let mut properties =
        vk::PhysicalDeviceProperties2::default().push_next(&mut v11).push_next(&mut v12).push_next(&mut v13);
    // SAFETY: as above, and the structures live.
    unsafe { vulkan.get_physical_device_properties2(raw, &mut properties) };
    let extensions = extensions(instance, raw);
    let has = |name: &CStr| extensions.iter().any(|extension| extension.as_c_str() == name);
    let priorities =
        has(ash::ext::memory_priority::NAME) && has(ash::ext::pageable_device_local_memory::NAME);
    let found = features(instance, raw, has(ash::khr::cooperative_matrix::NAME), priorities);
    if !found.required {
        return Err(unusable("it lacks timeline semaphores or synchronization2"));
    }
    let needed = vk::SubgroupFeatureFlags::BASIC
        | vk::SubgroupFeatureFlags::ARITHMETIC
        | vk::SubgroupFeatureFlags::SHUFFLE
        | vk::SubgroupFeatureFlags::BALLOT;
    if !v11.subgroup_supported_operations.contains(needed) {
        return Err(unusable("it lacks subgroup operations"));
    }
    // SAFETY: as above.
    let families = unsafe { vulkan.get_physical_device_queue_family_properties(raw) };
    let computes = |family: &vk::QueueFamilyProperties| family.queue_flags.contains(vk::QueueFlags::COMPUTE);
    let family =
        families.iter().position(computes).ok_or_else(|| unusable("it has no queue that computes"))?;
    // SAFETY: as above.
    let memory = unsafe { vulkan.get_physical_device_memory_properties(raw) };
    let local = |heap: &&vk::MemoryHeap| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let bytes = memory.memory_heaps_as_slice().iter().filter(local).map(|heap| heap.size).max();
    let features = Features {
        f16: found.f16,
        int8_dot: v13.integer_dot_product4x8_bit_packed_signed_accelerated != 0,
        cooperative_matrix: found.cooperative_matrix && has_matrix_16(instance, raw),
        memory_budget: has(ash::ext::memory_budget::NAME),
        memory_priority: found.memory_priority,
        calibrated_timestamps: has(ash::khr::calibrated_timestamps::NAME),
        full_subgroups: found.full_subgroups,
    };
    let processors = processors(instance, raw, has(ash::nv::shader_sm_builtins::NAME));
    let mut limits = limits(&base.limits, v11.subgroup_size, &features, processors);
    let sizes = if found.subgroup_control { [v13.min_subgroup_size, v13.max_subgroup_size] } else { [0; 2] };
    if found.subgroup_control {
        // Pipelines ask for a subgroup size, and then a workgroup has so many subgroups at most.
        let most = v13.max_compute_workgroup_subgroups.saturating_mul(limits.subgroup_size);
        limits.workgroup_size = limits.workgroup_size.min(most);
    }
    let driver = |name: Option<&CStr>| name.map_or(String::new(), |n| n.to_string_lossy().into_owned());
    let info = DeviceInfo {
        backend: BackendKind::Vulkan,
        index,
        kind: kind(base.device_type),
        driver: Some(format!(
            "{} {}",
            driver(v12.driver_name_as_c_str().ok()),
            driver(v12.driver_info_as_c_str().ok())
        )),
        threads: 1,
        memory_bytes: bytes,
        features: feature_names(&features),
        gpu: Some(limits.clone()),
        name,
    };
    Ok(Physical {
        raw,
        info,
        limits,
        family: family as u32,
        timestamp_bits: families[family].timestamp_valid_bits,
        timestamp_period: base.limits.timestamp_period,
        subgroup_sizes: sizes,
        features,
        cache_id: base.pipeline_cache_uuid,
    })
}

fn kind(found: vk::PhysicalDeviceType) -> DeviceKind {
    match found {
        vk::PhysicalDeviceType::DISCRETE_GPU => DeviceKind::Discrete,
        vk::PhysicalDeviceType::INTEGRATED_GPU => DeviceKind::Integrated,
        vk::PhysicalDeviceType::VIRTUAL_GPU => DeviceKind::Virtual,
        vk::PhysicalDeviceType::CPU => DeviceKind::Software,
        _ => DeviceKind::Other,
    }
}

fn feature_names(features: &Features) -> Vec<&'static str> {
    let named = [
        (features.f16, "f16"),
        (features.int8_dot, "int8-dot"),
        (features.cooperative_matrix, "cooperative-matrix"),
    ];
    named.into_iter().filter(|(has, _)| *has).map(|(_, name)| name).collect()
}

fn limits(
    found: &vk::PhysicalDeviceLimits,
    subgroup: u32,
    features: &Features,
    processors: u32,
) -> GpuLimits {
    GpuLimits {
        subgroup_size: subgroup,
        shared_memory: found.max_compute_shared_memory_size,
        workgroup_size: found.max_compute_work_group_invocations.min(found.max_compute_work_group_size[0]),
        workgroups: found.max_compute_work_group_count,
        binding_bytes: found.max_storage_buffer_range.into(),
        binding_align: found.min_storage_buffer_offset_alignment,
        processors,
        f16: features.f16,
        matrix_side: if features.cooperative_matrix { 16 } else { 0 },
        fast_int8_dot: features.int8_dot,
    }
}

/// Processors of a device, where an extension tells; a middling number for others.
fn processors(instance: &Instance, raw: vk::PhysicalDevice, told: bool) -> u32 {
    const UNKNOWN: u32 = 32;
    if !told {
        return UNKNOWN;
    }
    let mut found = vk::PhysicalDeviceShaderSMBuiltinsPropertiesNV::default();
    let mut all = vk::PhysicalDeviceProperties2::default().push_next(&mut found);
    // SAFETY: the device belongs to the instance and has the extension.
    unsafe { instance.raw.get_physical_device_properties2(raw, &mut all) };
    found.shader_sm_count.max(1)
}

fn extensions(instance: &Instance, raw: vk::PhysicalDevice) -> Vec<std::ffi::CString> {
    // SAFETY: the device belongs to the instance.
    let found = unsafe { instance.raw.enumerate_device_extension_properties(raw) }.unwrap_or_default();
    let name = |e: &vk::ExtensionProperties| e.extension_name_as_c_str().ok().map(CStr::to_owned);
    found.iter().filter_map(name).collect()
}

/// Features found, those that every device must have as one.
struct Found {
    required: bool,
    f16: bool,
    cooperative_matrix: bool,
    memory_priority: bool,
    subgroup_control: bool,
    full_subgroups: bool,
}

fn features(instance: &Instance, raw: vk::PhysicalDevice, matrices: bool, priorities: bool) -> Found {
    let mut v11 = vk::PhysicalDeviceVulkan11Features::default();
    let mut v12 = vk::PhysicalDeviceVulkan12Features::default();
    let mut v13 = vk::PhysicalDeviceVulkan13Features::default();
    let mut matrix = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default();
    let mut priority = vk::PhysicalDeviceMemoryPriorityFeaturesEXT::default();
    let mut pageable = vk::PhysicalDevicePageableDeviceLocalMemoryFeaturesEXT::default();
    let mut all =
        vk::PhysicalDeviceFeatures2::default().push_next(&mut v11).push_next(&mut v12).push_next(&mut v13);
    if matrices {
        all = all.push_next(&mut matrix);
    }
    if priorities {
        all = all.push_next(&mut priority).push_next(&mut pageable);
    }
    // SAFETY: the device belongs to the instance; the structures live.
    unsafe { instance.raw.get_physical_device_features2(raw, &mut all) };
    Found {
        required: v12.timeline_semaphore != 0
            && v13.synchronization2 != 0
            && v13.shader_integer_dot_product != 0
            && v12.vulkan_memory_model != 0,
        f16: v12.shader_float16 != 0
            && v11.storage_buffer16_bit_access != 0
            && v11.uniform_and_storage_buffer16_bit_access != 0,
        cooperative_matrix: matrix.cooperative_matrix != 0,
        memory_priority: priority.memory_priority != 0 && pageable.pageable_device_local_memory != 0,
        subgroup_control: v13.subgroup_size_control != 0,
        full_subgroups: v13.compute_full_subgroups != 0,
    }
}

/// Whether there are cooperative matrices of 16 by 16 by 16, f16 in and f32 out, within a subgroup.
fn has_matrix_16(instance: &Instance, raw: vk::PhysicalDevice) -> bool {
    // SAFETY: the extension's functions are looked up by name in an instance that lives.
    let loader = ash::khr::cooperative_matrix::Instance::new(&instance.entry, &instance.raw);
    // SAFETY: the device belongs to the instance and has the extension.
    let found = unsafe { loader.get_physical_device_cooperative_matrix_properties(raw) }.unwrap_or_default();
    found.iter().any(|shape| {
        (shape.m_size, shape.n_size, shape.k_size) == (16, 16, 16)
            && shape.a_type == vk::ComponentTypeKHR::FLOAT16
            && shape.b_type == vk::ComponentTypeKHR::FLOAT16
            && shape.c_type == vk::ComponentTypeKHR::FLOAT32
            && shape.result_type == vk::ComponentTypeKHR::FLOAT32
            && shape.scope == vk::ScopeKHR::SUBGROUP
    })
}
