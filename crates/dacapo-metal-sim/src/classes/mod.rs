//! Classes that answer the messages which the Metal backend sends: those of Metal, and what it needs of Foundation.
//!
//! There is nothing else: a message that no class here has ends the test with its name. The types of each message are
//! checked against what the caller was compiled with, which is what Apple's headers say.

use objc2::rc::Retained;
use objc2::{ClassType, Message};

/// Defines a class, with the way to make an object of it.
macro_rules! class {
    ($(#[$meta:meta])* $name:ident $called:literal { $ivars:ty } $($body:tt)*) => {
        objc2::define_class!(
            $(#[$meta])*
            #[unsafe(super(objc2::runtime::NSObject))]
            #[name = $called]
            #[ivars = $ivars]
            pub(crate) struct $name;

            impl $name { $($body)* }
        );

        impl $name {
            #[allow(dead_code, reason = "some classes are made by messages alone")]
            pub(crate) fn make(ivars: $ivars) -> objc2::rc::Retained<Self> {
                let allocated = <Self as objc2::AnyThread>::alloc().set_ivars(ivars);
                // SAFETY: `init` of an object takes nothing and answers the object.
                unsafe { objc2::msg_send![super(allocated), init] }
            }
        }
    };
}

mod capture;
mod commands;
mod descriptors;
mod device;
mod encoder;
mod foundation;
mod indirect;
mod kernels;
mod resources;

pub use capture::{allow_captures, captured, end_capture};
pub(crate) use commands::CommandBuffer;
pub use device::{set_residency_sets, set_stage_times, set_working_set};
pub use foundation::set_clock_ahead;
pub(crate) use indirect::Indirect;
pub(crate) use kernels::PipelineState;
pub use resources::resident;
pub(crate) use resources::{Buffer, Fence};

/// The device that there is. The bindings make their list of devices from it, where the system is none of Apple's.
///
/// It is the first that a program calls, so that the classes of which it speaks by name are made here.
#[unsafe(no_mangle)]
extern "C-unwind" fn MTLCreateSystemDefaultDevice() -> *mut device::Device {
    crate::objc::start();
    foundation::register();
    descriptors::register();
    capture::register();
    Retained::into_raw(device::Device::make(0))
}

/// The object behind an argument.
///
/// # Panics
/// If it was freed.
fn living<T: Message + ClassType>(object: &T) -> &T {
    // SAFETY: it was an object.
    if let Some(class) = unsafe { crate::objc::freed(std::ptr::from_ref(object).cast()) } {
        let what = format!("a freed {class} is an argument of a message");
        crate::complain(what.clone());
        panic!("{what}");
    }
    object
}
