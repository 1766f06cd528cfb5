//! Kernels in Metal's shading language, run on the processor.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

mod abi;
mod compile;
mod fiber;
mod launch;
mod schedule;
mod shadow;
mod source;

pub use compile::available;
pub use launch::{Bound, Function, Launch};

/// How closely a running kernel is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checks {
    /// Indices into arrays in buffers, barriers, what is bound. Fast enough for whole models.
    Bounds,
    /// All accesses to memory, races among them, and steps without end. Some ten times slower.
    All,
}

/// Whether [`Library::compile`] has kernels watched closely.
static WATCH: AtomicBool = AtomicBool::new(false);

/// From now on [`Library::compile`] has kernels watched in this way; before, it is [`Checks::Bounds`].
pub fn set_checks(checks: Checks) {
    WATCH.store(checks == Checks::All, Ordering::Relaxed);
}

/// A compiled text.
pub struct Library {
    object: libloading::Library,
    entries: Vec<source::Entry>,
    checks: Checks,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.name)).finish()
    }
}

type Slot = Arc<OnceLock<Result<std::path::PathBuf, String>>>;

/// Texts that are being compiled or were: who asks first does it, the others wait.
static COMPILED: Mutex<Option<HashMap<(String, Checks), Slot>>> = Mutex::new(None);

impl Library {
    /// Compiles a text as C++, or takes what was compiled before. Watched as [`set_checks`] says.
    ///
    /// # Errors
    /// What the compiler says, the use of a wrong address space for instance; arguments of kernels that the simulation
    /// does not know; a compiler that is missing.
    pub fn compile(source: &str) -> Result<Library, String> {
        let checks = if WATCH.load(Ordering::Relaxed) { Checks::All } else { Checks::Bounds };
        Library::compile_with(source, checks)
    }

    /// As [`compile`](Self::compile), watched as `checks` says.
    ///
    /// # Errors
    /// As there.
    pub fn compile_with(source: &str, checks: Checks) -> Result<Library, String> {
        let entries = source::entries(source)?;
        let slot = {
            let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
            let compiled = compiled.get_or_insert_default();
            compiled.entry((source.to_owned(), checks)).or_default().clone()
        };
        let path = slot.get_or_init(|| compile::shared_object(source, &entries, checks)).clone()?;
        // SAFETY: the object was made here, and runs nothing when it is loaded.
        let object = unsafe { libloading::Library::new(&path) };
        let object = object.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Library { object, entries, checks })
    }

    /// Names of the kernels.
    pub fn functions(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }

    /// A kernel.
    pub fn function(self: &Arc<Self>, name: &str) -> Option<Function> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Function::new(self, entry)
    }
}
