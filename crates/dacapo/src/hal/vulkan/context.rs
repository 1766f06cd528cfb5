//! An opened device: its queue, its memory allocator, and how its errors read.

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ash::vk;

use super::heaps::Heaps;
use super::instance::{Instance, Listener};
use super::physical::Physical;
use crate::hal::meter::MemoryMeter;
use crate::{Error, Result};

/// What everything made from a device shares.
pub(super) struct Context {
    pub device: ash::Device,
    pub physical: Physical,
    pub queue: Mutex<vk::Queue>,
    pub heaps: ManuallyDrop<Heaps>,
    pub calibration: Option<ash::khr::calibrated_timestamps::Device>,
    pub meter: MemoryMeter,
    /// Why the device is lost, once it is.
    lost: OnceLock<String>,
    pub listener: Option<Listener>,
    pub instance: Arc<Instance>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vulkan device {:?}", self.physical.info.name)
    }
}

impl Context {
    /// Opens a device.
    pub fn new(instance: Arc<Instance>, physical: Physical, debug: bool) -> Result<Arc<Context>> {
        let listener = if debug { instance.listen() } else { None };
        let device = create_device(&instance, &physical)?;
        // SAFETY: the device was made with one queue of this family.
        let queue = unsafe { device.get_device_queue(physical.family, 0) };
        let heaps = Heaps::new(&instance, &physical, &device).map_err(|error| {
            Error::NoDevice(format!("{}: its memory cannot be managed: {error}", physical.info.name))
        })?;
        let calibration = (physical.features.calibrated_timestamps)
            .then(|| ash::khr::calibrated_timestamps::Device::new(&instance.raw, &device));
        Ok(Arc::new(Context {
            device,
            physical,
            queue: Mutex::new(queue),
            heaps: ManuallyDrop::new(heaps),
            calibration,
            meter: MemoryMeter::default(),
            lost: OnceLock::new(),
            listener,
            instance,
        }))
    }

    /// Name of the device.
    pub fn name(&self) -> &str {
        &self.physical.info.name
    }

    /// A driver's refusal as an error. Remembers if it says that the device is lost.
    pub fn error(&self, call: &'static str, code: vk::Result) -> Error {
        match code {
            vk::Result::ERROR_DEVICE_LOST => self.lose(format!("{}, found by {call}", self.name())),
            vk::Result::ERROR_OUT_OF_DEVICE_MEMORY | vk::Result::ERROR_OUT_OF_HOST_MEMORY => {
                Error::OutOfMemory { requested: 0, device: format!("{} ({call})", self.name()) }
            }
            _ => Error::Driver { device: self.name().to_owned(), call, code: code.to_string() },
        }
    }

    /// The device is lost from now on; the first cause stays.
    pub fn lose(&self, cause: String) -> Error {
        Error::DeviceLost(self.lost.get_or_init(|| cause).clone())
    }

    /// An error if the device is lost.
    pub fn check(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |cause| Err(Error::DeviceLost(cause.clone())))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: everything made from the device holds the context, so that nothing of it is left or in use.
        unsafe {
            // A lost device cannot be waited for; there is nothing to do about it here.
            let _ = self.device.device_wait_idle();
            ManuallyDrop::drop(&mut self.heaps);
            self.device.destroy_device(None);
        }
    }
}

/// A lock whose holders leave it in order even when they panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn create_device(instance: &Instance, physical: &Physical) -> Result<ash::Device> {
    let features = &physical.features;
    let priorities = [1.0];
    let queues = [vk::DeviceQueueCreateInfo::default()
        .queue_family_index(physical.family)
        .queue_priorities(&priorities)];
    let optional: [(bool, &CStr); 5] = [
        (features.cooperative_matrix, ash::khr::cooperative_matrix::NAME),
        (features.memory_priority, ash::ext::memory_priority::NAME),
        (features.memory_priority, ash::ext::pageable_device_local_memory::NAME),
        (features.memory_budget, ash::ext::memory_budget::NAME),
        (features.calibrated_timestamps, ash::khr::calibrated_timestamps::NAME),
    ];
    let names: Vec<_> = optional.iter().filter(|(has, _)| *has).map(|(_, name)| name.as_ptr()).collect();
    let mut v11 = vk::PhysicalDeviceVulkan11Features::default()
        .storage_buffer16_bit_access(features.f16)
        .uniform_and_storage_buffer16_bit_access(features.f16);
    let mut v12 = vk::PhysicalDeviceVulkan12Features::default()
        .timeline_semaphore(true)
        .vulkan_memory_model(true)
        .vulkan_memory_model_device_scope(true)
        .shader_float16(features.f16);
    let mut v13 = vk::PhysicalDeviceVulkan13Features::default()
        .synchronization2(true)
        .shader_integer_dot_product(true)
        .subgroup_size_control(physical.subgroup_sizes[0] > 0)
        .compute_full_subgroups(features.full_subgroups);
    let mut matrix = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
    let mut priority = vk::PhysicalDeviceMemoryPriorityFeaturesEXT::default().memory_priority(true);
    let mut pageable =
        vk::PhysicalDevicePageableDeviceLocalMemoryFeaturesEXT::default().pageable_device_local_memory(true);
    let mut create = vk::DeviceCreateInfo::default()
        .queue_create_infos(&queues)
        .enabled_extension_names(&names)
        .push_next(&mut v11)
        .push_next(&mut v12)
        .push_next(&mut v13);
    if features.cooperative_matrix {
        create = create.push_next(&mut matrix);
    }
    if features.memory_priority {
        create = create.push_next(&mut priority).push_next(&mut pageable);
    }
    // SAFETY: the device has the features and extensions, as was looked up; the structures live.
    unsafe { instance.raw.create_device(physical.raw, &create, None) }
        .map_err(|code| Error::NoDevice(format!("{} cannot be opened: {code}", physical.info.name)))
}
