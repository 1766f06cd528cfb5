//! The synchronization primitives of the worker pool: the standard library's, or loom's when it checks the pool.

#[cfg(not(loom))]
pub(super) use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

#[cfg(loom)]
pub(super) use loom::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// One step of waiting in a loop: a short pause at first, then the processor is offered to others, so that a
/// machine with more threads than cores still moves.
#[cfg(not(loom))]
pub(super) fn relax(turn: u32) {
    if turn % 64 == 63 {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

#[cfg(loom)]
pub(super) fn relax(_turn: u32) {
    loom::thread::yield_now();
}
