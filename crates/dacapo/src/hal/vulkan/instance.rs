//! The loader, the instance, and messages of validation layers.

use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use ash::vk;

use super::context::lock;
use crate::{Error, Result};

/// Held while instances come and go: some drivers do not survive several at once.
static ALONE: Mutex<()> = Mutex::new(());

/// The system's Vulkan loader. Once opened it stays, for the same reason.
fn loader() -> Result<ash::Entry> {
    static LOADER: OnceLock<ash::Entry> = OnceLock::new();
    if let Some(entry) = LOADER.get() {
        return Ok(entry.clone());
    }
    // SAFETY: the system's Vulkan loader, whose initialization has no requirements.
    let entry = unsafe { ash::Entry::load() }
        .map_err(|error| Error::NoDevice(format!("the Vulkan loader cannot be opened: {error}")))?;
    Ok(LOADER.get_or_init(|| entry).clone())
}

/// An instance of Vulkan 1.3, shared by the devices of a process.
pub(super) struct Instance {
    pub raw: ash::Instance,
    /// Present if the loader or a layer has the extension.
    debug: Option<ash::ext::debug_utils::Instance>,
    pub entry: ash::Entry,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vulkan instance")
    }
}

impl Instance {
    /// The process's instance; made if there is none.
    pub fn get() -> Result<Arc<Instance>> {
        static SHARED: Mutex<Weak<Instance>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instance) = shared.upgrade() {
            return Ok(instance);
        }
        let instance = Arc::new(Instance::new()?);
        *shared = Arc::downgrade(&instance);
        Ok(instance)
    }

    /// An instance that nobody shares.
    pub fn new() -> Result<Instance> {
        let _alone = lock(&ALONE);
        let entry = loader()?;
        let fail = |code: vk::Result| Error::NoDevice(format!("Vulkan cannot be started: {code}"));
        // SAFETY: the loader is loaded; the arguments are valid.
        let version = unsafe { entry.try_enumerate_instance_version() }.map_err(fail)?;
        if version.is_none_or(|version| version < vk::API_VERSION_1_3) {
            return Err(Error::NoDevice("the Vulkan loader is older than 1.3".into()));
        }
        // SAFETY: as above.
        let extensions = unsafe { entry.enumerate_instance_extension_properties(None) }.map_err(fail)?;
        let has = |name: &CStr| extensions.iter().any(|e| e.extension_name_as_c_str() == Ok(name));
        let mut names = Vec::new();
        let has_debug = has(ash::ext::debug_utils::NAME);
        if has_debug {
            names.push(ash::ext::debug_utils::NAME.as_ptr());
        }
        let mut flags = vk::InstanceCreateFlags::empty();
        // Implementations on top of another interface, such as MoltenVK, are listed only on request.
        if has(ash::khr::portability_enumeration::NAME) {
            names.push(ash::khr::portability_enumeration::NAME.as_ptr());
            flags |= vk::InstanceCreateFlags::ENUMERATE_PORTABILITY_KHR;
        }
        let application =
            vk::ApplicationInfo::default().application_name(c"dacapo").api_version(vk::API_VERSION_1_3);
        let create = vk::InstanceCreateInfo::default()
            .application_info(&application)
            .enabled_extension_names(&names)
            .flags(flags);
        // SAFETY: the extensions exist; the structures live until the call returns.
        let raw = unsafe { entry.create_instance(&create, None) }.map_err(fail)?;
        let debug = has_debug.then(|| ash::ext::debug_utils::Instance::new(&entry, &raw));
        Ok(Instance { raw, debug, entry })
    }

    /// Collects what layers and the driver have to say, if somebody can say it.
    pub fn listen(self: &Arc<Self>) -> Option<Listener> {
        let debug = self.debug.as_ref()?;
        let messages = Box::new(Mutex::new(Vec::new()));
        let user: *const Mutex<Vec<String>> = &*messages;
        let create = vk::DebugUtilsMessengerCreateInfoEXT::default()
            .message_severity(
                vk::DebugUtilsMessageSeverityFlagsEXT::ERROR | vk::DebugUtilsMessageSeverityFlagsEXT::WARNING,
            )
            .message_type(
                vk::DebugUtilsMessageTypeFlagsEXT::VALIDATION | vk::DebugUtilsMessageTypeFlagsEXT::GENERAL,
            )
            .pfn_user_callback(Some(note))
            .user_data(user.cast_mut().cast());
        // SAFETY: the callback follows `user` only while the messenger exists, and the listener keeps both.
        let messenger = unsafe { debug.create_debug_utils_messenger(&create, None) }.ok()?;
        Some(Listener { messages, messenger, instance: self.clone() })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _alone = lock(&ALONE);
        // SAFETY: every device and messenger holds the instance, so that none is left.
        unsafe { self.raw.destroy_instance(None) }
    }
}

/// Messages of layers, as long as it lives.
pub(super) struct Listener {
    messages: Box<Mutex<Vec<String>>>,
    messenger: vk::DebugUtilsMessengerEXT,
    instance: Arc<Instance>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} messages", self.messages().len())
    }
}

impl Listener {
    /// What was said so far.
    pub fn messages(&self) -> Vec<String> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(debug) = &self.instance.debug {
            // SAFETY: made by this instance, destroyed once.
            unsafe { debug.destroy_debug_utils_messenger(self.messenger, None) }
        }
    }
}

unsafe extern "system" fn note(
    _severity: vk::DebugUtilsMessageSeverityFlagsEXT,
    _kind: vk::DebugUtilsMessageTypeFlagsEXT,
    data: *const vk::DebugUtilsMessengerCallbackDataEXT<'_>,
    user: *mut c_void,
) -> vk::Bool32 {
    // SAFETY: the loader passes valid data; `user` is the listener's, which outlives its messenger.
    unsafe {
        let messages = &*user.cast::<Mutex<Vec<String>>>();
        let text = |text: Option<&CStr>| text.map(|text| text.to_string_lossy().into_owned());
        let name = text((*data).message_id_name_as_c_str()).unwrap_or_default();
        let message = text((*data).message_as_c_str()).unwrap_or_default();
        messages.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {message}"));
    }
    vk::FALSE
}
