//! Captures for Xcode: documents that hold all work of a device.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use objc2::rc::{Retained, autoreleasepool};
use objc2_foundation::NSURL;
use objc2_metal::{MTLCaptureDescriptor, MTLCaptureDestination, MTLCaptureManager};

use super::context::Context;
use super::objects::describe;
use crate::hal::Capture;
use crate::{Error, Result};

/// Where captures go. Xcode does the rest.
const TO_FILE: MTLCaptureDestination = MTLCaptureDestination::GPUTraceDocument;

/// A capture that is going on. There is one in a process at most.
#[derive(Debug)]
pub(super) struct MetalCapture {
    file: PathBuf,
}

impl MetalCapture {
    /// Captures command buffers that are made from now on.
    pub fn start(context: &Arc<Context>, file: &Path) -> Result<MetalCapture> {
        let refused = |reason: String| Error::Capture { file: file.to_path_buf(), reason };
        let url = free(file).map_err(refused)?;
        autoreleasepool(|_| {
            let manager = manager();
            if !manager.supportsDestination(TO_FILE) {
                let why = "the system does not allow it; MTL_CAPTURE_ENABLED=1 has to be in the program's environment";
                return Err(refused(why.into()));
            }
            if manager.isCapturing() {
                return Err(refused("another capture is going on in this program".into()));
            }
            let describe_it = MTLCaptureDescriptor::new();
            describe_it.setDestination(TO_FILE);
            describe_it.setOutputURL(Some(&url));
            // SAFETY: a device is one of the objects that can be captured.
            unsafe { describe_it.setCaptureObject(Some((*context.physical.raw).as_ref())) };
            manager.startCaptureWithDescriptor_error(&describe_it).map_err(|why| refused(describe(&why)))?;
            // What was made before would not be in it.
            context.outdate_encoded();
            Ok(MetalCapture { file: file.to_path_buf() })
        })
    }
}

impl Capture for MetalCapture {
    fn finish(self: Box<Self>) -> Result<()> {
        let file = self.file.clone();
        drop(self);
        match file.try_exists() {
            Ok(true) => Ok(()),
            _ => Err(Error::Capture { file, reason: "the system wrote nothing".into() }),
        }
    }
}

impl Drop for MetalCapture {
    fn drop(&mut self) {
        autoreleasepool(|_| manager().stopCapture());
    }
}

fn manager() -> Retained<MTLCaptureManager> {
    // SAFETY: there is one in every process; it is asked by whoever starts or ends a capture, and the engine has one at most.
    unsafe { MTLCaptureManager::sharedCaptureManager() }
}

/// The place as Metal wants it named, where a document can be made. Metal's own answer to others is no more than a number.
fn free(file: &Path) -> Result<Retained<NSURL>, String> {
    if file.extension().is_none_or(|extension| extension != "gputrace") {
        return Err("the name has to end in .gputrace".into());
    }
    let whole = std::path::absolute(file).map_err(|error| error.to_string())?;
    if whole.symlink_metadata().is_ok() {
        return Err("it exists already".into());
    }
    if !whole.parent().is_some_and(Path::is_dir) {
        return Err("its folder does not exist".into());
    }
    let path = CString::new(whole.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: the text lives meanwhile.
    Ok(autoreleasepool(|_| unsafe {
        let path = NonNull::from(path.as_c_str()).cast();
        NSURL::fileURLWithFileSystemRepresentation_isDirectory_relativeToURL(path, false, None)
    }))
}
