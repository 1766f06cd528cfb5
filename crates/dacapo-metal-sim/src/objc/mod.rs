//! A small Objective-C runtime: what `objc2` asks of GNUstep's, as far as the simulated classes and the backend need it.
//!
//! It is stricter than a real one. Objects that were freed stay where they were as zombies, so that a message to one is
//! found and named. Objects are counted by class. An object that is autoreleased where no pool is open is a complaint: on a
//! Mac it would leak.

mod block;
mod class;
mod message;
mod object;

pub use class::{Class, count};
pub(crate) use message::planted;
pub use message::{Plant, plant};
pub(crate) use object::{freed, start};

use std::ffi::{CStr, c_char};

/// An object: its class, then its variables. What the runtime knows of it lies before.
#[repr(C)]
#[derive(Debug)]
pub struct Object {
    class: *mut Class,
}

/// A reference to an object, as Objective-C has it.
type Id = *mut Object;

/// The code of a method. It is called with the types that its caller and the method agree on.
type Imp = unsafe extern "C-unwind" fn();

/// A selector: an interned name, so that equal names are equal pointers.
type Sel = *const c_char;

/// What a selector, class or variable is called.
///
/// # Safety
/// A C string that lives.
unsafe fn text(name: *const c_char) -> String {
    // SAFETY: as promised.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
