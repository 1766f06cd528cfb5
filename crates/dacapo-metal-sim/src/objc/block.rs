//! Blocks: closures that are handed to methods.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::sync::atomic::{AtomicI32, Ordering};

/// What every block begins with.
#[repr(C)]
struct Block {
    class: *const c_void,
    flags: AtomicI32,
    reserved: i32,
    invoke: *const c_void,
    described: *const Described,
}

#[repr(C)]
struct Described {
    reserved: usize,
    size: usize,
    copy: unsafe extern "C-unwind" fn(*mut Block, *const Block),
    dispose: unsafe extern "C-unwind" fn(*mut Block),
}

/// It lies on the heap, and the lowest bits count its references, in steps of two.
const ON_HEAP: i32 = 1 << 24;
/// It knows how to copy and dispose of what it holds.
const HAS_HELPERS: i32 = 1 << 25;
/// It lives for ever.
const GLOBAL: i32 = 1 << 28;
const COUNT: i32 = 0xfffe;

/// Classes of blocks: only their addresses matter.
#[unsafe(no_mangle)]
static _NSConcreteStackBlock: [usize; 32] = [0; 32];
#[unsafe(no_mangle)]
static _NSConcreteGlobalBlock: [usize; 32] = [0; 32];

fn layout(size: usize) -> Layout {
    let Ok(layout) = Layout::from_size_align(size, 16) else { unreachable!("blocks are small") };
    layout
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Block_copy(block: *mut Block) -> *mut Block {
    // SAFETY: a block, which says itself what it has.
    unsafe {
        let flags = (*block).flags.load(Ordering::Relaxed);
        if flags & GLOBAL != 0 {
            return block;
        }
        if flags & ON_HEAP != 0 {
            (*block).flags.fetch_add(2, Ordering::Relaxed);
            return block;
        }
        let size = (*(*block).described).size;
        let copy = alloc_zeroed(layout(size)).cast::<Block>();
        if copy.is_null() {
            handle_alloc_error(layout(size));
        }
        std::ptr::copy_nonoverlapping(block.cast::<u8>(), copy.cast::<u8>(), size);
        (*copy).flags.store((flags & !(COUNT | 1)) | ON_HEAP | 2, Ordering::Relaxed);
        if flags & HAS_HELPERS != 0 {
            ((*(*block).described).copy)(copy, block);
        }
        copy
    }
}

/// # Safety
/// As the real one.
#[unsafe(no_mangle)]
unsafe extern "C-unwind" fn _Block_release(block: *mut Block) {
    // SAFETY: a block to which the caller has a reference.
    unsafe {
        let flags = (*block).flags.load(Ordering::Relaxed);
        if flags & GLOBAL != 0 || flags & ON_HEAP == 0 {
            return;
        }
        if (*block).flags.fetch_sub(2, Ordering::AcqRel) & COUNT != 2 {
            return;
        }
        if flags & HAS_HELPERS != 0 {
            ((*(*block).described).dispose)(block);
        }
        dealloc(block.cast(), layout((*(*block).described).size));
    }
}
