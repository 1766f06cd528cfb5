//! Whether AMX, the processor's tiles, may be used. Linux lends a process the memory that they need once it asks.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;

/// The system call `arch_prctl`, and its requests about parts of the processor's state: which are allowed, and to allow one.
const ARCH_PRCTL: usize = 158;
const ALLOWED: usize = 0x1022;
const ALLOW: usize = 0x1023;

/// The number of tiles' data among these parts.
const TILE_DATA: usize = 18;

/// Whether there are tiles of bytes and the system lets this process use them, for which this asks it.
pub(super) fn permitted() -> bool {
    // SAFETY: processors that run 64-bit code have the instruction; what leaf 7 has is known where there is AVX2.
    #[allow(unused_unsafe, reason = "safe in newer versions of the standard library")]
    let features = unsafe { __cpuid_count(7, 0) }.edx;
    let (tiles, bytes) = (features >> 24 & 1, features >> 25 & 1);
    if tiles == 0 || bytes == 0 {
        return false;
    }
    let mut allowed = 0_u64;
    // SAFETY: the first request touches no memory of this process, the second writes that number.
    let answers = unsafe { [arch_prctl(ALLOW, TILE_DATA), arch_prctl(ALLOWED, &raw mut allowed as usize)] };
    // Where the system is emulated, a yes to the first alone may not be meant.
    answers == [0, 0] && allowed >> TILE_DATA & 1 == 1
}

/// The system's answer: 0, or a negative error. Systems that do not know a request answer with an error.
///
/// # Safety
/// Where the request takes an address, the system may write there.
unsafe fn arch_prctl(request: usize, argument: usize) -> isize {
    let answer;
    // SAFETY: the caller's promise; a call clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL as isize => answer,
            in("rdi") request,
            in("rsi") argument,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}
