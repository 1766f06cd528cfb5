//! Captures of a GPU's work for the tools of its maker.

use std::path::Path;

use crate::hal::Capture;
use crate::{Device, Result};

/// A capture that is going on: see [`Device::capture_to`]. Dropped, it ends.
#[derive(Debug)]
pub struct GpuCapture {
    // Ends before the device can go.
    capture: Box<dyn Capture>,
    _device: Device,
}

impl GpuCapture {
    /// Ends the capture. What was committed by now is in it; wait for the work first if it should be whole.
    ///
    /// # Errors
    /// [`Error::Capture`](crate::Error::Capture) if the system wrote nothing.
    pub fn finish(self) -> Result<()> {
        self.capture.finish()
    }
}

impl Device {
    /// Has all work of this device captured, from what is submitted next until the guard is finished or dropped, into a file
    /// for the tools of the device's maker. That is a `.gputrace` document for Xcode, on Metal; other devices have nothing
    /// of the kind. The file must not exist. Work is slower meanwhile, and takes memory.
    ///
    /// # Errors
    /// [`Error::Capture`](crate::Error::Capture) on other devices, if the system does not allow it (a Mac wants
    /// `MTL_CAPTURE_ENABLED=1` in the environment of the program), if a capture is going on already, or if the file cannot be
    /// made: because it exists, its folder does not, or its name does not end in `.gputrace`.
    pub fn capture_to(&self, file: impl AsRef<Path>) -> Result<GpuCapture> {
        self.state().check()?;
        let capture = self.backend().capture(file.as_ref())?;
        Ok(GpuCapture { capture, _device: self.clone() })
    }
}
