//! Messages: which method answers. And messages that a test has go astray.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::object::class_of;
use super::{Class, Id, Imp, Sel};

/// All selectors that were named.
static SELECTORS: Mutex<Option<HashMap<CString, usize>>> = Mutex::new(None);

/// A mistake that the backend did not make: one of its messages is changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// The message does not arrive: its answer is zero. For messages that answer nothing.
    Lost,
    /// A number in the message is changed by this much. For selectors that say so.
    Changed(isize),
}

struct Planted {
    selector: &'static str,
    /// Messages of this selector that still go through, before one that does not.
    before: usize,
    plant: Plant,
}

static ANY: AtomicBool = AtomicBool::new(false);
static PLANTED: Mutex<Option<Planted>> = Mutex::new(None);

/// Plants a mistake in the n-th message of a selector from now on, counted from 1, and in none after it. Takes back one that
/// has not happened. `release` counts as a message. For a test that has the process for itself.
pub fn plant(selector: &'static str, nth: usize, plant: Plant) {
    let mut planted = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    *planted = Some(Planted { selector, before: nth.saturating_sub(1), plant });
    ANY.store(true, Ordering::Release);
}

/// The mistake to make in this message, if it is the one. `lost` says whether the asker can lose it.
pub(crate) fn planted(selector: &CStr, lost: bool) -> Option<Plant> {
    if !ANY.load(Ordering::Acquire) {
        return None;
    }
    let mut planted = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    let due = planted.as_mut().filter(|due| due.selector.as_bytes() == selector.to_bytes())?;
    if (due.plant == Plant::Lost) != lost {
        return None;
    }
    if due.before > 0 {
        due.before -= 1;
        return None;
    }
    ANY.store(false, Ordering::Release);
    planted.take().map(|due| due.plant)
}

/// What happens to a message that is lost.
unsafe extern "C-unwind" fn lost() -> usize {
    0
}

/// The selector of a name.
pub(super) fn selector(name: &CStr) -> Sel {
    let mut selectors = SELECTORS.lock().unwrap_or_else(PoisonError::into_inner);
    let selectors = selectors.get_or_insert_default();
    if let Some(&known) = selectors.get(name) {
        return known as Sel;
    }
    let interned = name.to_owned().into_raw();
    selectors.insert(name.to_owned(), interned as usize);
    interned
}

/// The code that answers.
///
/// # Panics
/// If nothing does.
pub(super) fn answer(class: &Class, selector: Sel) -> Imp {
    // SAFETY: selectors live for ever.
    if planted(unsafe { CStr::from_ptr(selector) }, true).is_some() {
        // SAFETY: called with more arguments than it looks at, and its result is looked at by nobody.
        return unsafe { std::mem::transmute::<unsafe extern "C-unwind" fn() -> usize, Imp>(lost) };
    }
    match class.method(selector) {
        Some(method) => method.imp,
        None => panic!("{}: the simulation has no such method", class.signed(selector)),
    }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn sel_registerName(name: *const c_char) -> Sel {
    // SAFETY: a C string.
    selector(unsafe { CStr::from_ptr(name) })
}

#[unsafe(no_mangle)]
extern "C-unwind" fn sel_getName(selector: Sel) -> *const c_char {
    selector
}

#[unsafe(no_mangle)]
extern "C-unwind" fn sel_isEqual(a: Sel, b: Sel) -> i8 {
    i8::from(a == b)
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_msg_lookup(receiver: Id, selector: Sel) -> Option<Imp> {
    // SAFETY: an object.
    Some(answer(unsafe { class_of(receiver, selector) }, selector))
}

/// A message to the methods of a class above the receiver's own.
#[repr(C)]
struct Super {
    receiver: Id,
    class: *mut Class,
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_msg_lookup_super(to: *const Super, selector: Sel) -> Option<Imp> {
    // SAFETY: an object and a class above its own.
    unsafe {
        class_of((*to).receiver, selector);
        Some(answer(&*(*to).class, selector))
    }
}
