//! Objects: how they come, are counted, and go.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::RefCell;
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{LazyLock, Once};

use super::class::{self, Class};
use super::message::{answer, planted, selector};
use super::{Id, Imp, Object, Sel};
use crate::complain;

/// What lies before an object.
#[repr(C, align(16))]
struct Head {
    /// References to it; 0 in a zombie.
    count: AtomicUsize,
    /// What it was, in a zombie.
    was: AtomicPtr<Class>,
}

/// What opened pools hold, and where each begins.
struct Pools {
    objects: Vec<Id>,
    begins: Vec<usize>,
}

thread_local!(static POOLS: RefCell<Pools> = const { RefCell::new(Pools { objects: Vec::new(), begins: Vec::new() }) });

/// # Safety
/// An object that is not a class.
unsafe fn head<'a>(object: Id) -> &'a Head {
    // SAFETY: every object was allocated with one, and none is ever given back.
    unsafe { &*object.cast::<Head>().sub(1) }
}

/// Whether it is a class: those have no head, and are never freed.
///
/// # Safety
/// An object or a class.
unsafe fn is_class(object: Id) -> bool {
    // SAFETY: classes are objects of metaclasses.
    unsafe {
        let class = (*object).class;
        class.as_ref().is_none_or(Class::is_meta)
    }
}

/// The class of a freed object, if this is one.
///
/// # Safety
/// An object that is or was.
pub(crate) unsafe fn freed(object: *const c_void) -> Option<String> {
    let object = object.cast_mut().cast::<Object>();
    // SAFETY: what was an object still has its place.
    unsafe {
        if is_class(object) {
            return None;
        }
        head(object).was.load(Ordering::Acquire).as_ref().map(Class::name)
    }
}

/// The class that answers for an object. `selector` is what it is asked, or another word for the complaint.
///
/// # Panics
/// If the object was freed.
///
/// # Safety
/// An object that is or was, or a class.
pub(super) unsafe fn class_of<'a>(object: Id, selector: Sel) -> &'a Class {
    // SAFETY: as promised.
    unsafe {
        if let Some(was) = freed(object.cast()) {
            // SAFETY: selectors live for ever.
            let what = format!("{} was sent to a freed {was}", super::text(selector));
            complain(what.clone());
            panic!("{what}");
        }
        &*(*object).class
    }
}

/// The class of all objects.
pub(crate) fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the first class; the methods have the types that their names have in Objective-C.
        unsafe {
            let Some(root) = class::make(std::ptr::null_mut(), c"NSObject") else { return };
            let add = |class, name, imp, types| class::add(class, selector(name), imp, types);
            let code = |function: *const ()| std::mem::transmute::<*const (), Imp>(function);
            add((*root).meta(), c"alloc", code(alloc as *const ()), c"@16@0:8");
            add((*root).meta(), c"new", code(new as *const ()), c"@16@0:8");
            add((*root).meta(), c"class", code(itself as *const ()), c"#16@0:8");
            add(root, c"init", code(itself as *const ()), c"@16@0:8");
            add(root, c"self", code(itself as *const ()), c"@16@0:8");
            add(root, c"dealloc", code(dealloc as *const ()), c"v16@0:8");
            add(root, c"respondsToSelector:", code(responds as *const ()), RESPONDS);
        }
    });
}

/// `BOOL` is an `unsigned char` here.
const RESPONDS: &CStr = c"C24@0:8:16";

unsafe extern "C-unwind" fn itself(object: Id, _: Sel) -> Id {
    object
}

unsafe extern "C-unwind" fn responds(object: Id, own: Sel, asked: Sel) -> u8 {
    // SAFETY: called as a method.
    u8::from(unsafe { class_of(object, own) }.method(asked).is_some())
}

unsafe extern "C-unwind" fn new(class: *mut Class, own: Sel) -> Id {
    let init = selector(c"init");
    // SAFETY: `init` takes nothing and answers an object.
    unsafe {
        let object = alloc(class, own);
        let imp = answer(&*class, init);
        std::mem::transmute::<Imp, unsafe extern "C-unwind" fn(Id, Sel) -> Id>(imp)(object, init)
    }
}

unsafe extern "C-unwind" fn alloc(class: *mut Class, _: Sel) -> Id {
    // SAFETY: a made class.
    let described = unsafe { &*class };
    let bytes = size_of::<Head>() + described.size();
    let Ok(layout) = Layout::from_size_align(bytes, align_of::<Head>()) else {
        unreachable!("objects are small")
    };
    // SAFETY: more than no bytes.
    let place = unsafe { alloc_zeroed(layout) };
    if place.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: so much was allocated; a head of zeros is a head.
    unsafe {
        (*place.cast::<Head>()).count.store(1, Ordering::Relaxed);
        let object = place.cast::<Head>().add(1).cast::<Object>();
        (*object).class = class;
        described.counted(1);
        object
    }
}

/// The end of an object, after those of its variables. Its place is never used again.
unsafe extern "C-unwind" fn dealloc(object: Id, _: Sel) {
    // SAFETY: called once, when nobody refers to the object any more.
    unsafe {
        let class = (*object).class;
        (*class).counted(-1);
        head(object).was.store(class, Ordering::Release);
    }
}

fn dealloc_selector() -> Sel {
    static SELECTOR: LazyLock<usize> = LazyLock::new(|| selector(c"dealloc") as usize);
    *SELECTOR as Sel
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn object_getClass(object: Id) -> *mut Class {
    // Asked before each message, to check its types: who asks a freed object is about to send it one.
    // SAFETY: an object.
    unsafe { std::ptr::from_ref(class_of(object, c"a message".as_ptr())).cast_mut() }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_retain(object: Id) -> Id {
    // SAFETY: null or an object.
    unsafe {
        if !object.is_null() && !is_class(object) {
            class_of(object, c"retain".as_ptr());
            head(object).count.fetch_add(1, Ordering::Relaxed);
        }
    }
    object
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_release(object: Id) {
    // SAFETY: null or an object.
    unsafe {
        if object.is_null() || is_class(object) {
            return;
        }
        let class = class_of(object, c"release".as_ptr());
        if planted(c"release", true).is_some() {
            return;
        }
        if head(object).count.fetch_sub(1, Ordering::AcqRel) == 1 {
            let dealloc = dealloc_selector();
            let imp = answer(class, dealloc);
            std::mem::transmute::<Imp, unsafe extern "C-unwind" fn(Id, Sel)>(imp)(object, dealloc);
        }
    }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_autorelease(object: Id) -> Id {
    if object.is_null() {
        return object;
    }
    POOLS.with_borrow_mut(|pools| {
        if pools.begins.is_empty() {
            // SAFETY: an object.
            let class = unsafe { class_of(object, c"autorelease".as_ptr()) };
            complain(format!("a {} is autoreleased where there is no pool: it leaks", class.name()));
        } else {
            pools.objects.push(object);
        }
    });
    object
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_autoreleaseReturnValue(object: Id) -> Id {
    // SAFETY: as promised.
    unsafe { objc_autorelease(object) }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_retainAutoreleasedReturnValue(object: Id) -> Id {
    // SAFETY: as promised.
    unsafe { objc_retain(object) }
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_autoreleasePoolPush() -> usize {
    POOLS.with_borrow_mut(|pools| {
        pools.begins.push(pools.objects.len());
        pools.begins.len()
    })
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn objc_autoreleasePoolPop(pool: usize) {
    let objects = POOLS.with_borrow_mut(|pools| {
        let begin = pools.begins.get(pool.wrapping_sub(1)).copied();
        let begin = begin.unwrap_or_else(|| panic!("a pool is closed that is not open"));
        pools.begins.truncate(pool - 1);
        pools.objects.split_off(begin)
    });
    for object in objects {
        // SAFETY: each was handed over with a reference.
        unsafe { objc_release(object) };
    }
}
