//! Classes, their methods and variables.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Imp, Object, Sel, text};

/// A class or a metaclass. It begins as an object does: classes take messages too.
#[repr(C)]
#[derive(Debug)]
pub struct Class {
    meta: *mut Class,
    superclass: *mut Class,
    /// What else there is; null until the class is made.
    info: *mut Info,
}

/// What is behind a class.
#[derive(Debug)]
struct Info {
    name: CString,
    is_meta: bool,
    /// Bytes of an object, its class included.
    size: usize,
    methods: HashMap<usize, Box<Method>>,
    variables: HashMap<CString, Box<Variable>>,
    /// Objects that were made and not freed.
    live: AtomicIsize,
}

/// A method of a class.
#[derive(Debug)]
pub struct Method {
    selector: Sel,
    types: CString,
    pub(super) imp: Imp,
}

/// A variable of a class's objects.
#[derive(Debug)]
pub struct Variable {
    offset: usize,
}

/// All classes by name.
static CLASSES: Mutex<Option<HashMap<CString, usize>>> = Mutex::new(None);

const UNMADE: Class = Class { meta: null_mut(), superclass: null_mut(), info: null_mut() };

/// Classes whose places the linker has to find by name: those of which code for GNUstep's runtime speaks.
macro_rules! places {
    ($($name:ident),* $(,)?) => {
        $(
            #[unsafe(export_name = concat!("._OBJC_CLASS_", stringify!($name)))]
            #[allow(non_upper_case_globals, reason = "the class is called so")]
            static mut $name: Class = UNMADE;
        )*

        /// The place of a class that has one.
        fn place(name: &CStr) -> Option<*mut Class> {
            match name.to_str().ok()? {
                $(stringify!($name) => Some(&raw mut $name),)*
                _ => None,
            }
        }
    };
}

places!(
    NSArray,
    NSData,
    NSError,
    NSObject,
    NSProcessInfo,
    NSString,
    NSURL,
    MTLCaptureDescriptor,
    MTLCaptureManager,
    MTLCompileOptions,
    MTLComputePassDescriptor,
    MTLComputePipelineDescriptor,
    MTLCounterSampleBufferDescriptor,
    MTLIndirectCommandBufferDescriptor,
    MTLResidencySetDescriptor,
);

fn classes() -> MutexGuard<'static, Option<HashMap<CString, usize>>> {
    CLASSES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many objects of each class there are, leaving out classes without any.
pub fn count() -> HashMap<String, isize> {
    let classes = classes();
    let live = classes.iter().flatten().map(|(name, &class)| {
        // SAFETY: classes live for ever, and this one is made.
        let info = unsafe { &*(*(class as *mut Class)).info };
        (name.to_string_lossy().into_owned(), info.live.load(Ordering::Relaxed))
    });
    live.filter(|(_, count)| *count != 0).collect()
}

/// Makes a class and its metaclass. `None` if there is one of this name.
///
/// # Safety
/// The superclass is null or made.
pub(super) unsafe fn make(superclass: *mut Class, name: &CStr) -> Option<*mut Class> {
    let mut classes = classes();
    let classes = classes.get_or_insert_default();
    if classes.contains_key(name) {
        return None;
    }
    let class = place(name).unwrap_or_else(|| Box::into_raw(Box::new(UNMADE)));
    let info = |is_meta, size| {
        let (methods, variables, live) = (HashMap::new(), HashMap::new(), AtomicIsize::new(0));
        Box::into_raw(Box::new(Info { name: name.to_owned(), is_meta, size, methods, variables, live }))
    };
    // A root's metaclass inherits from the root itself. SAFETY: as promised.
    let (above, size) = match unsafe { superclass.as_ref() } {
        // SAFETY: a made class has these.
        Some(superclass) => (superclass.meta, unsafe { (*superclass.info).size }),
        None => (class, size_of::<Object>()),
    };
    let meta = Class { meta: null_mut(), superclass: above, info: info(true, 0) };
    let meta = Box::into_raw(Box::new(meta));
    // SAFETY: nobody else knows the class yet: its name was not taken.
    unsafe { *class = Class { meta, superclass, info: info(false, size) } };
    classes.insert(name.to_owned(), class as usize);
    Some(class)
}

impl Class {
    /// The class of class methods.
    pub(super) fn meta(&self) -> *mut Class {
        self.meta
    }

    fn info(&self) -> &Info {
        assert!(!self.info.is_null(), "a class is used that the simulation does not have");
        // SAFETY: made once, never freed, and changed only while the class is being made.
        unsafe { &*self.info }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.info().name.to_string_lossy().into_owned()
    }

    /// The name with the sign that Objective-C puts before methods of objects and classes.
    pub(super) fn signed(&self, selector: Sel) -> String {
        let sign = if self.is_meta() { '+' } else { '-' };
        // SAFETY: selectors live for ever.
        format!("{sign}[{} {}]", self.name(), unsafe { text(selector) })
    }

    /// Whether its objects are classes.
    pub(super) fn is_meta(&self) -> bool {
        self.info().is_meta
    }

    /// Bytes of an object.
    pub(super) fn size(&self) -> usize {
        self.info().size
    }

    /// Counts an object in or out.
    pub(super) fn counted(&self, by: isize) {
        self.info().live.fetch_add(by, Ordering::Relaxed);
    }

    /// The method that answers a selector, of this class or one above.
    pub(super) fn method(&self, selector: Sel) -> Option<&Method> {
        let mut class = self;
        loop {
            if let Some(method) = class.info().methods.get(&(selector as usize)) {
                return Some(method);
            }
            // SAFETY: null or a class.
            class = unsafe { class.superclass.as_ref() }?;
        }
    }
}

/// Adds a method.
///
/// # Safety
/// The class is being made, and no other thread sees it.
pub(super) unsafe fn add(class: *mut Class, selector: Sel, imp: Imp, types: &CStr) {
    let method = Box::new(Method { selector, types: types.to_owned(), imp });
    // SAFETY: as promised.
    let methods = unsafe { &mut (*(*class).info).methods };
    methods.insert(selector as usize, method);
}

// The functions of the runtime. Those that call them are compiled against the real ones.

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_getClass(name: *const c_char) -> *mut Class {
    // SAFETY: a C string.
    let name = unsafe { CStr::from_ptr(name) };
    classes()
        .iter()
        .flatten()
        .find(|(known, _)| known.as_c_str() == name)
        .map_or(null_mut(), |(_, &c)| c as _)
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_allocateClassPair(
    superclass: *mut Class,
    name: *const c_char,
    _extra: usize,
) -> *mut Class {
    // SAFETY: a made class and a C string.
    unsafe { make(superclass, CStr::from_ptr(name)) }.unwrap_or(null_mut())
}

/// Classes are found as soon as they are allocated: who defines them does it once.
#[unsafe(no_mangle)]
extern "C-unwind" fn objc_registerClassPair(_class: *mut Class) {}

/// Only for classes whose definition failed, which does not happen here.
#[unsafe(no_mangle)]
extern "C-unwind" fn objc_disposeClassPair(_class: *mut Class) {
    unreachable!("no class is given up");
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_addMethod(
    class: *mut Class,
    selector: Sel,
    imp: Imp,
    types: *const c_char,
) -> i8 {
    // SAFETY: the class is being made.
    unsafe { add(class, selector, imp, CStr::from_ptr(types)) };
    1
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_addIvar(
    class: *mut Class,
    name: *const c_char,
    size: usize,
    alignment: u8,
    _types: *const c_char,
) -> i8 {
    // SAFETY: the class is being made.
    let info = unsafe { &mut *(*class).info };
    let offset = info.size.next_multiple_of(1 << alignment);
    info.size = offset + size;
    // SAFETY: a C string.
    let name = unsafe { CStr::from_ptr(name) }.to_owned();
    info.variables.insert(name, Box::new(Variable { offset }));
    1
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getInstanceVariable(
    class: *mut Class,
    name: *const c_char,
) -> *const Variable {
    // SAFETY: a made class, a C string.
    let (info, name) = unsafe { ((*class).info(), CStr::from_ptr(name)) };
    info.variables.get(name).map_or(null(), |variable| &raw const **variable)
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn ivar_getOffset(variable: *const Variable) -> isize {
    // SAFETY: a variable of a class.
    unsafe { (*variable).offset as isize }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getName(class: *mut Class) -> *const c_char {
    // SAFETY: a class.
    unsafe { &*class }.info().name.as_ptr()
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_isMetaClass(class: *mut Class) -> i8 {
    // SAFETY: a class.
    i8::from(unsafe { &*class }.is_meta())
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getSuperclass(class: *mut Class) -> *mut Class {
    // SAFETY: a class.
    unsafe { (*class).superclass }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getInstanceSize(class: *mut Class) -> usize {
    // SAFETY: a class.
    unsafe { &*class }.size()
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getInstanceMethod(class: *mut Class, selector: Sel) -> *const Method {
    // SAFETY: a class.
    unsafe { &*class }.method(selector).map_or(null(), |method| &raw const *method)
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn class_getClassMethod(class: *mut Class, selector: Sel) -> *const Method {
    // SAFETY: a made class has a metaclass.
    unsafe { class_getInstanceMethod((*class).meta, selector) }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn method_getName(method: *const Method) -> Sel {
    // SAFETY: a method of a class.
    unsafe { (*method).selector }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn method_getTypeEncoding(method: *const Method) -> *const c_char {
    // SAFETY: a method of a class.
    unsafe { (*method).types.as_ptr() }
}

// There are no protocols: who declares methods of one has them checked when they are called.

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_getProtocol(_name: *const c_char) -> *mut c_void {
    null_mut()
}

#[unsafe(no_mangle)]
extern "C-unwind" fn class_addProtocol(_class: *mut Class, _protocol: *mut c_void) -> i8 {
    0
}

#[unsafe(no_mangle)]
extern "C-unwind" fn protocol_getName(_protocol: *mut c_void) -> *const c_char {
    unreachable!("there are no protocols")
}

#[unsafe(no_mangle)]
extern "C-unwind" fn protocol_copyMethodDescriptionList(
    _protocol: *mut c_void,
    _required: i8,
    _instance: i8,
    _count: *mut u32,
) -> *mut c_void {
    unreachable!("there are no protocols")
}
