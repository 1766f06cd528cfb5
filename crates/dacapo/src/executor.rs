//! Running a forward pass, live or recorded.

use std::ops::{Deref, DerefMut};

use crate::device::Device;
use crate::encoder::CommandEncoder;
use crate::graph::ComputeGraph;
use crate::profile::Counters;
use crate::submission::Submission;
use crate::{Error, Result};

/// Starts sessions on a device.
#[derive(Debug, Clone)]
pub struct GraphExecutor {
    device: Device,
}

/// A forward pass being described. Dereferences to its [`CommandEncoder`], so that every operation works in it.
#[derive(Debug)]
pub struct GraphSession {
    encoder: CommandEncoder,
}

/// How [`GraphSession::finish`] ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinishOptions {
    /// Wait for the end of the work. Default: yes.
    pub wait: bool,
}

impl Default for FinishOptions {
    fn default() -> Self {
        FinishOptions { wait: true }
    }
}

/// What a session did.
#[derive(Debug, Clone)]
pub struct Report {
    /// Dispatches, barriers and the rest, for this session alone.
    pub counters: Counters,
    /// Groups of concurrent dispatches.
    pub groups: u64,
    /// The work, ended already if the session was told to wait.
    pub submission: Submission,
}

impl GraphExecutor {
    /// An executor for this device.
    pub fn new(device: &Device) -> Self {
        GraphExecutor { device: device.clone() }
    }

    /// A session that encodes as it is told.
    ///
    /// # Errors
    /// As [`Device::encoder`].
    pub fn begin(&self, label: &str) -> Result<GraphSession> {
        Ok(GraphSession { encoder: self.device.encoder(label)? })
    }

    /// A session that records everything first.
    ///
    /// # Errors
    /// As [`Device::encoder`].
    pub fn begin_recorded(&self, label: &str) -> Result<GraphSession> {
        let mut session = self.begin(label)?;
        session.encoder.start_capture()?;
        Ok(session)
    }
}

impl GraphSession {
    /// Runs the session's work. What was recorded is encoded in recorded order.
    ///
    /// # Errors
    /// As [`CommandEncoder::commit`]; and, if told to wait, what made the work fail.
    pub fn finish(mut self, options: FinishOptions) -> Result<Report> {
        if self.encoder.is_capturing() {
            self.encoder.take_capture()?.encode_sequential(&mut self.encoder)?;
        }
        let mut counters = self.encoder.counters();
        let groups = if counters.dispatches == 0 { 0 } else { counters.barriers + 1 };
        let submission = self.encoder.commit()?;
        counters.submissions += 1;
        if options.wait {
            submission.wait()?;
            counters.waits += 1;
        }
        Ok(Report { counters, groups, submission })
    }

    /// Ends a recorded session without running it, for a graph that is to be encoded again and again.
    ///
    /// # Errors
    /// If the session does not record.
    pub fn into_graph(mut self) -> Result<ComputeGraph> {
        if !self.encoder.is_capturing() {
            return Err(Error::State { call: "into_graph", state: "in a session that does not record" });
        }
        self.encoder.take_capture()
    }
}

impl Deref for GraphSession {
    type Target = CommandEncoder;
    fn deref(&self) -> &CommandEncoder {
        &self.encoder
    }
}

impl DerefMut for GraphSession {
    fn deref_mut(&mut self) -> &mut CommandEncoder {
        &mut self.encoder
    }
}
