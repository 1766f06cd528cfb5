//! What a device shares with its memory, its submissions and its events.

use std::sync::{Mutex, OnceLock};

use crate::ledger::Ledger;
use crate::profile::SharedCounters;
use crate::{Error, Result};

/// The part of a device that outlives its handles.
#[derive(Debug, Default)]
pub(crate) struct DeviceState {
    /// Who uses which memory. Locked by whoever registers a use of memory for as long as that takes, so that host and
    /// device cannot both win.
    pub ledger: Mutex<Ledger>,
    /// What all encoders have done.
    pub counters: SharedCounters,
    lost: OnceLock<String>,
}

impl DeviceState {
    /// Fails if the device is lost, with the first cause.
    pub fn check(&self) -> Result<()> {
        match self.lost.get() {
            Some(cause) => Err(Error::DeviceLost(cause.clone())),
            None => Ok(()),
        }
    }

    /// Remembers that the device is lost, if that is what the result says.
    pub fn note<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(Error::DeviceLost(cause)) = &result {
            let first = self.lost.get_or_init(|| cause.clone());
            return Err(Error::DeviceLost(first.clone()));
        }
        result
    }
}
