//! Captures: a document that names the command buffers which a Mac's would hold.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Mutex;

use objc2::rc::{Allocated, Retained};
use objc2::runtime::AnyObject;
use objc2::{ClassType, DefinedClass, msg_send};
use objc2_metal::MTLCaptureDestination;

use super::device::Device;
use super::foundation::{Failure, fail};
use crate::{complain, lock};

/// The one in a document that has the labels.
const CONTENT: &str = "command buffers";

#[derive(Debug)]
struct State {
    /// Whether the program's environment would allow it.
    allowed: bool,
    /// Captures begun so far. Command buffers remember how many when they are made.
    begun: u64,
    /// Labels of what was committed, and where they will go.
    going_on: Option<(PathBuf, Vec<String>)>,
}

static STATE: Mutex<State> = Mutex::new(State { allowed: false, begun: 0, going_on: None });

/// Whether captures to files are allowed: what `MTL_CAPTURE_ENABLED` says on a Mac. At first they are not.
pub fn allow_captures(allowed: bool) {
    lock(&STATE).allowed = allowed;
}

/// Labels of the command buffers in a captured document, in the order of their commits.
///
/// # Errors
/// If there is no such document.
pub fn captured(file: &std::path::Path) -> std::io::Result<Vec<String>> {
    Ok(std::fs::read_to_string(file.join(CONTENT))?.lines().map(str::to_owned).collect())
}

/// Ends a capture whose end was lost, for the test that lost it.
pub fn end_capture() {
    lock(&STATE).going_on = None;
}

/// Captures begun so far.
pub(super) fn begun() -> u64 {
    lock(&STATE).begun
}

/// A command buffer is committed that was made after so many captures had begun. Those from before the capture are not in it.
pub(super) fn committed(label: &str, begun: u64) {
    let mut state = lock(&STATE);
    if state.begun == begun
        && let Some((_, labels)) = &mut state.going_on
    {
        labels.push(label.to_owned());
    }
}

class!(Url "NSURL" { PathBuf }
    #[unsafe(method_id(fileURLWithFileSystemRepresentation:isDirectory:relativeToURL:))]
    fn file(path: NonNull<c_char>, directory: bool, base: Option<&Url>) -> Retained<Self> {
        assert!(!directory && base.is_none(), "only whole names of files are simulated");
        // SAFETY: a text with an end, as the caller says.
        let path = unsafe { CStr::from_ptr(path.as_ptr()) };
        Self::make(OsStr::from_bytes(path.to_bytes()).into())
    }
);

/// What is to be captured, and where it goes.
#[derive(Default)]
pub(crate) struct CaptureSaid {
    object: Option<Retained<AnyObject>>,
    to_file: bool,
    path: Option<PathBuf>,
}

class!(CaptureDescriptor "MTLCaptureDescriptor" { Mutex<CaptureSaid> }
    #[unsafe(method_id(init))]
    fn init(this: Allocated<Self>) -> Option<Retained<Self>> {
        let this = this.set_ivars(Mutex::default());
        // SAFETY: `init` of an object takes nothing and answers the object.
        unsafe { msg_send![super(this), init] }
    }

    #[unsafe(method(setCaptureObject:))]
    fn object(&self, object: Option<&AnyObject>) {
        self.said().object = object.map(objc2::Message::retain);
    }

    #[unsafe(method(setDestination:))]
    fn destination(&self, destination: MTLCaptureDestination) {
        self.said().to_file = destination == MTLCaptureDestination::GPUTraceDocument;
    }

    #[unsafe(method(setOutputURL:))]
    fn url(&self, url: Option<&Url>) {
        self.said().path = url.map(|url| super::living(url).ivars().clone());
    }
);

impl CaptureDescriptor {
    fn said(&self) -> std::sync::MutexGuard<'_, CaptureSaid> {
        lock(super::living(self).ivars())
    }

    /// The place of the document.
    fn place(&self) -> Result<PathBuf, &'static str> {
        let said = self.said();
        if said.object.as_ref().is_none_or(|object| object.class() != Device::class()) {
            return Err("only devices are captured");
        }
        let path = said.path.clone().filter(|_| said.to_file).ok_or("no document is named")?;
        let fits = path.extension().is_some_and(|extension| extension == "gputrace");
        if !fits || path.exists() {
            return Err("the document exists, or is none");
        }
        Ok(path)
    }
}

class!(CaptureManager "MTLCaptureManager" { u8 }
    #[unsafe(method_id(sharedCaptureManager))]
    fn shared() -> Retained<Self> {
        // It has no content: one is as good as another.
        Self::make(0)
    }

    #[unsafe(method(supportsDestination:))]
    fn supports(&self, destination: MTLCaptureDestination) -> bool {
        destination == MTLCaptureDestination::GPUTraceDocument && lock(&STATE).allowed
    }

    #[unsafe(method(isCapturing))]
    fn is_capturing(&self) -> bool {
        lock(&STATE).going_on.is_some()
    }

    #[unsafe(method(startCaptureWithDescriptor:error:))]
    fn start(&self, described: &CaptureDescriptor, error: *mut *mut Failure) -> bool {
        let begun = begin(described);
        if let Err((code, reason)) = begun {
            fail::<()>(error, "MTLCaptureErrorDomain", code, reason.into());
        }
        begun.is_ok()
    }

    #[unsafe(method(stopCapture))]
    fn stop(&self) {
        let Some((path, labels)) = lock(&STATE).going_on.take() else {
            complain("a capture is ended that was not begun");
            return;
        };
        let written = std::fs::create_dir(&path)
            .and_then(|()| std::fs::write(path.join(CONTENT), labels.join("\n")));
        if let Err(error) = written {
            complain(format!("{} is not written: {error}", path.display()));
        }
    }
);

/// Begins a capture, or says why not.
fn begin(described: &CaptureDescriptor) -> Result<(), (isize, &'static str)> {
    let place = described.place();
    let mut state = lock(&STATE);
    if !state.allowed {
        return Err((1, "captures are not allowed"));
    }
    if state.going_on.is_some() {
        return Err((2, "a capture is going on"));
    }
    let path = place.map_err(|reason| (3, reason))?;
    state.begun += 1;
    state.going_on = Some((path, Vec::new()));
    Ok(())
}

/// Makes the classes.
pub(super) fn register() {
    Url::class();
    CaptureDescriptor::class();
    CaptureManager::class();
}
