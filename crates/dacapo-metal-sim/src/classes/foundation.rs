//! What the backend needs of Foundation.

use std::ffi::{CString, c_char, c_ulong, c_void};
use std::sync::atomic::{AtomicI64, Ordering};

use objc2::rc::{Allocated, Retained};
use objc2::runtime::AnyObject;
use objc2::{ClassType, DefinedClass, msg_send};
use objc2_foundation::NSFastEnumerationState;

use crate::gpu::clock;

class!(Text "NSString" { CString }
    #[unsafe(method_id(initWithBytes:length:encoding:))]
    fn init(this: Allocated<Self>, bytes: *const c_void, length: usize, encoding: i32) -> Option<Retained<Self>> {
        assert_eq!(encoding, 4, "only UTF-8 is simulated");
        let mut text = Vec::new();
        if length > 0 {
            // SAFETY: so many bytes, as the caller says.
            text.extend_from_slice(unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) });
        }
        let this = this.set_ivars(CString::new(text).expect("no string has zeros"));
        // SAFETY: `init` of an object takes nothing and answers the object.
        unsafe { msg_send![super(this), init] }
    }

    #[unsafe(method(UTF8String))]
    fn bytes(&self) -> *const c_char {
        self.ivars().as_ptr()
    }

    #[unsafe(method(lengthOfBytesUsingEncoding:))]
    fn length(&self, _encoding: i32) -> usize {
        self.ivars().as_bytes().len()
    }
);

impl Text {
    /// A string.
    pub fn new(text: &str) -> Retained<Text> {
        Text::make(CString::new(text.replace('\0', "")).unwrap_or_default())
    }

    /// What it says.
    pub fn says(&self) -> String {
        super::living(self).ivars().to_string_lossy().into_owned()
    }
}

/// A label, or nothing.
pub(super) fn says(text: Option<&Text>) -> String {
    text.map(Text::says).unwrap_or_default()
}

class!(Array "NSArray" { Vec<Retained<AnyObject>> }
    #[unsafe(method_id(initWithObjects:count:))]
    fn init(this: Allocated<Self>, objects: *const *mut AnyObject, count: usize) -> Option<Retained<Self>> {
        // SAFETY: so many objects, as the caller says.
        let object = |i| unsafe { Retained::retain(objects.add(i).read()) }.expect("no array holds nothing");
        let this = this.set_ivars((0..count).map(object).collect());
        // SAFETY: `init` of an object takes nothing and answers the object.
        unsafe { msg_send![super(this), init] }
    }

    #[unsafe(method(count))]
    fn count(&self) -> usize {
        self.ivars().len()
    }

    #[unsafe(method_id(objectAtIndex:))]
    fn at(&self, index: usize) -> Retained<AnyObject> {
        self.ivars()[index].clone()
    }

    /// All at once: the objects lie in an array already.
    #[unsafe(method(countByEnumeratingWithState:objects:count:))]
    fn enumerate(&self, state: &mut NSFastEnumerationState, _room: *mut *mut AnyObject, _count: usize) -> usize {
        if state.state > 0 || self.ivars().is_empty() {
            return 0;
        }
        state.state = 1;
        // A reference to an object is a pointer to it.
        state.itemsPtr = self.ivars().as_ptr().cast_mut().cast();
        static NEVER_CHANGES: c_ulong = 0;
        state.mutationsPtr = (&raw const NEVER_CHANGES).cast_mut();
        self.ivars().len()
    }
);

class!(Data "NSData" { Vec<u8> }
    #[unsafe(method(length))]
    fn length(&self) -> usize {
        self.ivars().len()
    }

    #[unsafe(method(bytes))]
    fn bytes(&self) -> *const c_void {
        self.ivars().as_ptr().cast()
    }
);

class!(Failure "NSError" { (&'static str, isize, String) }
    #[unsafe(method(code))]
    fn code(&self) -> isize {
        self.ivars().1
    }

    #[unsafe(method_id(domain))]
    fn domain(&self) -> Retained<Text> {
        Text::new(self.ivars().0)
    }

    #[unsafe(method_id(localizedDescription))]
    fn description(&self) -> Retained<Text> {
        Text::new(&self.ivars().2)
    }
);

/// What the system's clock is ahead of the device's, in nanoseconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// From now on the system's clock is ahead of the device's by this much; behind it, if that is negative. They are one on a Mac.
pub fn set_clock_ahead(nanoseconds: i64) {
    AHEAD.store(nanoseconds, Ordering::Relaxed);
}

class!(Process "NSProcessInfo" { u8 }
    #[unsafe(method_id(processInfo))]
    fn own() -> Retained<Self> {
        // It has no content: one is as good as another.
        Self::make(0)
    }

    #[unsafe(method(systemUptime))]
    fn uptime(&self) -> f64 {
        (clock() as i64 + AHEAD.load(Ordering::Relaxed)) as f64 / 1e9
    }
);

/// Answers nothing, and why.
pub(super) fn fail<T>(
    error: *mut *mut Failure,
    domain: &'static str,
    code: isize,
    reason: String,
) -> Option<T> {
    // SAFETY: null, or a place for an error that belongs to the innermost pool.
    if let Some(error) = unsafe { error.as_mut() } {
        *error = Retained::autorelease_return(Failure::make((domain, code, reason)));
    }
    None
}

/// Makes the classes.
pub(super) fn register() {
    Text::class();
    Array::class();
    Data::class();
    Failure::class();
    Process::class();
}
