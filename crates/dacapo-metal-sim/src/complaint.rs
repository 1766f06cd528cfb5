//! What the simulation has to say about the program that uses it.

use std::sync::{Mutex, MutexGuard, PoisonError};

static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A lock whose holders leave it in order even when they panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a complaint.
pub(crate) fn complain(what: impl Into<String>) {
    lock(&COMPLAINTS).push(what.into());
}

/// All complaints so far, about every device of this process.
pub fn complaints() -> Vec<String> {
    lock(&COMPLAINTS).clone()
}

/// Forgets all complaints, for a test that provoked them.
pub fn forget_complaints() -> Vec<String> {
    std::mem::take(&mut *lock(&COMPLAINTS))
}
