//! The engine's errors.

use std::path::PathBuf;
use std::sync::Arc;

use crate::DType;

/// What went wrong, and where.
///
/// Errors are cheap to clone: waiting twice for a failed submission gives the same answer twice.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The device cannot provide this much memory.
    #[error("out of memory: cannot allocate {requested} bytes on {device}")]
    OutOfMemory {
        /// Bytes asked for.
        requested: usize,
        /// The device asked.
        device: String,
    },
    /// The kind of device asked for is not there.
    #[error("no such device: {0}")]
    NoDevice(String),
    /// A view would reach past the end of what it looks into.
    #[error("view of {len} elements of {dtype} at element {start} exceeds the {limit} elements there are")]
    OutOfBounds {
        /// First element of the view.
        start: usize,
        /// Elements in the view.
        len: usize,
        /// Elements that exist.
        limit: usize,
        /// Element type of the view.
        dtype: DType,
    },
    /// A shape's element count or byte size does not fit the address space.
    #[error("shape {0:?} is too large to address")]
    ShapeOverflow(Vec<usize>),
    /// A host access or a kernel asked for another element type than the buffer holds.
    #[error("{what} holds {found}, not {expected}")]
    WrongType {
        /// The buffer or binding.
        what: String,
        /// Type asked for.
        expected: DType,
        /// Type held.
        found: DType,
    },
    /// A typed access to bytes that do not lie on the type's boundary.
    #[error("{what} starts at byte {offset}, which is not aligned for {dtype}")]
    Misaligned {
        /// The buffer or binding.
        what: String,
        /// Byte offset in its allocation.
        offset: usize,
        /// Type asked for.
        dtype: DType,
    },
    /// A write to memory that can only be read, such as a mapped file.
    #[error("{what} is read-only memory")]
    ReadOnly {
        /// The buffer or binding.
        what: String,
    },
    /// Memory that the host cannot reach without a copy.
    #[error("{what} is not visible to the host")]
    NotHostVisible {
        /// The buffer.
        what: String,
    },
    /// An argument that a kernel cannot take.
    #[error("{kernel}: {argument}: expected {expected}, found {found}")]
    Argument {
        /// The kernel or operation.
        kernel: &'static str,
        /// Its argument.
        argument: &'static str,
        /// What it takes.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// Two arguments of one dispatch overlap although one of them is written.
    #[error("{kernel}: arguments {first} and {second} overlap and one of them is written")]
    Aliased {
        /// The kernel.
        kernel: &'static str,
        /// Name of one binding.
        first: &'static str,
        /// Name of the other.
        second: &'static str,
    },
    /// A buffer of one device was handed to another.
    #[error("{what} belongs to another device")]
    WrongDevice {
        /// The buffer.
        what: String,
    },
    /// A call that the object's state does not allow.
    #[error("{call}: not allowed {state}")]
    State {
        /// The call.
        call: &'static str,
        /// The state that forbids it, as a phrase: "while capturing".
        state: &'static str,
    },
    /// The host holds a guard on memory that a submission would touch, or the reverse.
    #[error("{call}: {what} is in use by {by}")]
    Busy {
        /// The call.
        call: &'static str,
        /// The memory.
        what: String,
        /// Who uses it.
        by: &'static str,
    },
    /// Memory that exists only inside a graph was used outside of one.
    #[error(
        "{what} is transient: it has no memory outside of a graph that was recorded and compiled or finished"
    )]
    Transient {
        /// The buffer or argument.
        what: String,
    },
    /// The transient values of a graph do not fit into the memory that they may take.
    #[error("transient values may take {limit} bytes, but no arrangement found takes less than {least}")]
    MemoryLimit {
        /// Bytes that they may take.
        limit: usize,
        /// The least that an arrangement was found for.
        least: usize,
    },
    /// No variant of a graph is as large as what it is to run on.
    #[error("no bucket holds {need}: the largest holds {largest}")]
    NoBucket {
        /// The size asked for.
        need: usize,
        /// The largest size that there is.
        largest: usize,
    },
    /// A dispatch of a graph reads transient memory that nothing before it has written.
    #[error(
        "dispatch {node} ({kernel}): argument {argument} reads transient memory that was not written before"
    )]
    Uninitialized {
        /// Position of the dispatch in its graph.
        node: usize,
        /// Its kernel.
        kernel: &'static str,
        /// The argument.
        argument: &'static str,
    },
    /// A kernel panicked on the CPU backend.
    #[error("kernel {kernel} of {label:?} failed: {message}")]
    KernelFailed {
        /// The kernel.
        kernel: &'static str,
        /// Label of its command encoder.
        label: String,
        /// The panic's message.
        message: String,
    },
    /// A kernel's GPU text cannot be translated, or does not do what the kernel's signature says.
    #[error("kernel {kernel}: {message}")]
    Shader {
        /// The kernel and the variant of its text.
        kernel: String,
        /// The translator's message, or the difference.
        message: String,
    },
    /// The device's driver refused a call.
    #[error("{device}: {call} failed: {code}")]
    Driver {
        /// The device.
        device: String,
        /// The driver's function.
        call: &'static str,
        /// The driver's reason.
        code: String,
    },
    /// A device's work cannot be captured for the tools of its maker.
    #[error("cannot capture to {}: {reason}", file.display())]
    Capture {
        /// Where the capture was to go.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A submission was not run, because it depends on one that failed.
    #[error("not run, because {by} failed: {cause}")]
    Poisoned {
        /// What failed first.
        by: String,
        /// How.
        #[source]
        cause: Arc<Error>,
    },
    /// A failure that a test asked for; see `FaultPlan`.
    #[error("injected fault: {what} failed on request")]
    Injected {
        /// What was made to fail.
        what: String,
    },
    /// The device's threads or queue are gone. Names the first cause.
    #[error("device lost: {0}")]
    DeviceLost(String),
}

impl Error {
    /// An [`Error::Argument`].
    pub fn argument(
        kernel: &'static str,
        argument: &'static str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Self {
        Error::Argument { kernel, argument, expected: expected.to_string(), found: found.to_string() }
    }

    /// The error of what depends on `by`, which failed with `cause`. Along a chain of dependent work it keeps
    /// naming the first failure; a lost device stays a lost device.
    pub(crate) fn poisoned(by: &str, cause: Error) -> Self {
        match cause {
            Error::Poisoned { .. } | Error::DeviceLost(_) => cause,
            _ => Error::Poisoned { by: by.to_owned(), cause: Arc::new(cause) },
        }
    }
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
