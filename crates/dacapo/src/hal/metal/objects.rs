//! Metal's objects as this backend holds them.

use std::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSError;
use objc2_metal::MTLSize;

/// A reference to an object.
pub(super) type Object<T> = Retained<ProtocolObject<T>>;

/// An object that may be used by any thread, one at a time or several, as Metal allows for its class.
///
/// The bindings say so of devices, queues, pipelines and events themselves. Of buffers, residency sets, command buffers and
/// sample buffers they do not; this does.
pub(super) struct Shared<T: ?Sized>(pub Object<T>);

// SAFETY: Metal's buffers may be used by several threads. The other objects are used by one thread at a time: they are owned by
// one thread, or lie behind a lock.
unsafe impl<T: ?Sized> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized> Sync for Shared<T> {}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = ProtocolObject<T>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A lock whose holders leave it in order even when they panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An extent in x, y and z.
pub(super) fn size([width, height, depth]: [u32; 3]) -> MTLSize {
    MTLSize { width: width as usize, height: height as usize, depth: depth as usize }
}

/// An error of the system: domain, code and what it says.
pub(super) fn describe(error: &NSError) -> String {
    format!("{} (code {} of {})", error.localizedDescription(), error.code(), error.domain())
}
