//! Fibers: stacks, and the switch from one to another.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use super::abi::STACK;

/// Threads of a threadgroup at most.
pub const MOST: usize = 1024;

/// Stacks for a threadgroup. Those that nobody has stood on cost no memory.
#[derive(Debug)]
pub struct Stacks(NonNull<u8>);

// SAFETY: whoever has it has all of it.
unsafe impl Send for Stacks {}

/// Stacks that are not in use.
static SPARE: Mutex<Vec<Stacks>> = Mutex::new(Vec::new());

fn layout() -> Layout {
    Layout::from_size_align(MOST * STACK, STACK).unwrap_or(Layout::new::<u8>())
}

impl Stacks {
    /// Stacks that somebody gave back, or new ones.
    pub fn take() -> Result<Stacks, String> {
        if let Some(stacks) = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(stacks);
        }
        // SAFETY: the size is not zero.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout()) });
        memory.map(Stacks).ok_or_else(|| "no memory for stacks".to_owned())
    }

    /// Keeps them for the next threadgroup.
    pub fn give_back(self) {
        SPARE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// The lowest address of a stack.
    pub fn start(&self, i: usize) -> NonNull<u8> {
        assert!(i < MOST, "there are {MOST} stacks");
        // SAFETY: it is inside of the allocation.
        unsafe { self.0.add(i * STACK) }
    }

    /// Prepares a stack for a fiber that begins in `entry`: what [`switch`] goes to.
    pub fn prepare(&self, i: usize, entry: extern "C" fn() -> !) -> usize {
        let top = self.start(i).addr().get() + STACK;
        frame(top, entry as usize)
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), layout()) }
    }
}

#[cfg(target_arch = "x86_64")]
fn frame(top: usize, entry: usize) -> usize {
    // Six registers, the address to go to, and a word that leaves the stack as a call would.
    let at = top - 8 * 8;
    // SAFETY: the words are the last of a stack that nobody stands on.
    unsafe { std::ptr::with_exposed_provenance_mut::<usize>(at + 6 * 8).write(entry) };
    at
}

#[cfg(target_arch = "aarch64")]
fn frame(top: usize, entry: usize) -> usize {
    let at = top - 160;
    // SAFETY: as above; the link register is the twelfth that is restored.
    unsafe { std::ptr::with_exposed_provenance_mut::<usize>(at + 11 * 8).write(entry) };
    at
}

/// Saves where this fiber is to `from`, and goes on where `to` says.
///
/// # Safety
/// `to` comes from [`Stacks::prepare`], or was saved here, and nobody went there since. The fiber that it belongs to may
/// be resumed on this thread.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn switch(from: *mut usize, to: usize) {
    std::arch::naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn switch(from: *mut usize, to: usize) {
    std::arch::naked_asm!(
        "sub sp, sp, #160",
        "stp x19, x20, [sp, #0]",
        "stp x21, x22, [sp, #16]",
        "stp x23, x24, [sp, #32]",
        "stp x25, x26, [sp, #48]",
        "stp x27, x28, [sp, #64]",
        "stp x29, x30, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, sp",
        "str x9, [x0]",
        "mov sp, x1",
        "ldp x19, x20, [sp, #0]",
        "ldp x21, x22, [sp, #16]",
        "ldp x23, x24, [sp, #32]",
        "ldp x25, x26, [sp, #48]",
        "ldp x27, x28, [sp, #64]",
        "ldp x29, x30, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "add sp, sp, #160",
        "ret",
    )
}
