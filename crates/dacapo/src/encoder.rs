//! Encoding: dispatches in, a submitted command buffer out, barriers placed by the engine.

use std::collections::HashMap;
use std::sync::Arc;

use crate::buffer::Allocation;
use crate::device::Device;
use crate::dispatch::{Bound, Dispatch};
use crate::graph::ComputeGraph;
use crate::hal::{CommandBuffer, Recording};
use crate::hazard::MemRanges;
use crate::profile::Counters;
use crate::submission::Submission;
use crate::{Error, Result};

/// An allocation that work uses, and whether it writes it.
pub(crate) type Use = (Arc<Allocation>, bool);

/// An encoder's work, ready to be submitted any number of times.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub recording: Arc<dyn Recording>,
    pub uses: Vec<Use>,
    pub counters: Counters,
}

/// Encodes dispatches for a device.
///
/// A dispatch runs beside those before it unless it touches what one of them writes, or writes what one of them
/// touches: then the encoder places a barrier between. While capturing, dispatches go into a [`ComputeGraph`]
/// instead.
///
/// Nothing runs before [`commit`](Self::commit). An encoder that is dropped without it discards its work, which
/// the device counts ([`Counters::discarded`]).
pub struct CommandEncoder {
    device: Device,
    label: String,
    commands: Option<Box<dyn CommandBuffer>>,
    hazards: MemRanges,
    /// Dispatches since the last barrier.
    group: usize,
    /// Allocations used, by id, and whether one of the dispatches writes them.
    uses: HashMap<u64, Use>,
    counters: Counters,
    capture: Option<ComputeGraph>,
}

impl Device {
    /// An encoder for this device. The label appears in errors and profiles.
    ///
    /// # Errors
    /// The failure of an earlier submission that nobody can ask any more.
    pub fn encoder(&self, label: &str) -> Result<CommandEncoder> {
        self.report_lost()?;
        Ok(CommandEncoder {
            device: self.clone(),
            label: label.to_owned(),
            commands: Some(self.backend().command_buffer(label)?),
            hazards: MemRanges::new(),
            group: 0,
            uses: HashMap::new(),
            counters: Counters::default(),
            capture: None,
        })
    }
}

impl CommandEncoder {
    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What this encoder has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Adds a dispatch: to the command buffer, or to the graph while capturing.
    ///
    /// # Errors
    /// If its arguments do not fit its kernel's signature, overlap although one is written, belong to another
    /// device, or are misaligned.
    pub fn dispatch(&mut self, dispatch: Dispatch) -> Result<()> {
        if self.capture.is_none() {
            return self.encode(&dispatch);
        }
        let node = crate::graph::CapturedNode::new(dispatch)?;
        self.capture.as_mut().expect("capturing").push(node);
        Ok(())
    }

    /// Adds a dispatch to the command buffer, after a barrier if there is a hazard.
    pub(crate) fn encode(&mut self, dispatch: &Dispatch) -> Result<()> {
        let bound = dispatch.bind()?;
        let hazard = self.hazards.hazard(&bound.ranges).is_some();
        self.add(dispatch, &bound, hazard)?;
        self.hazards.record(&bound.ranges);
        Ok(())
    }

    /// Adds a dispatch of which is known whether a barrier has to come before it: a pass that asked the hazard
    /// rule has put a boundary there or not.
    pub(crate) fn encode_grouped(&mut self, dispatch: &Dispatch, boundary: bool) -> Result<()> {
        let bound = dispatch.bind()?;
        debug_assert!(
            boundary || self.hazards.hazard(&bound.ranges).is_none(),
            "a hazard inside a group at {}",
            dispatch.kernel().name
        );
        self.add(dispatch, &bound, boundary && self.group > 0)?;
        self.hazards.record(&bound.ranges);
        Ok(())
    }

    fn add(&mut self, dispatch: &Dispatch, bound: &Bound, barrier: bool) -> Result<()> {
        let kernel = dispatch.kernel();
        let pipeline = self.device.registry().pipeline(self.device.backend(), kernel)?;
        for (view, binding) in bound.views.iter().zip(kernel.bindings) {
            let what = || format!("argument {} of {}", binding.name, kernel.name);
            if view.allocation().device != self.device.id() {
                return Err(Error::WrongDevice { what: what() });
            }
            if view.is_transient() {
                return Err(Error::Transient { what: what() });
            }
        }
        let first = self.group == 0;
        let commands = self.commands.as_mut().expect("present until commit");
        if barrier {
            commands.barrier();
            self.hazards.clear();
            self.group = 0;
            self.counters.barriers += 1;
        } else if !first {
            self.counters.elided_barriers += 1;
        }
        commands.dispatch(&*pipeline, &bound.resolved, &bound.params, dispatch.threads())?;
        self.group += 1;
        self.counters.dispatches += 1;
        for (view, range) in bound.views.iter().zip(&bound.ranges) {
            let allocation = view.allocation();
            if allocation.is_tracked() {
                let entry = self.uses.entry(allocation.id).or_insert_with(|| (allocation.clone(), false));
                entry.1 |= range.access.writes();
            }
        }
        Ok(())
    }

    /// Puts a barrier between what came before and what comes after. Never needed for correctness.
    pub fn memory_barrier(&mut self) {
        if let Some(graph) = &mut self.capture {
            graph.push_barrier();
        } else if self.group > 0 {
            self.commands.as_mut().expect("present until commit").barrier();
            self.hazards.clear();
            self.group = 0;
            self.counters.barriers += 1;
        }
    }

    /// From now on, dispatches are captured instead of encoded.
    ///
    /// # Errors
    /// While capturing: captures do not nest.
    pub fn start_capture(&mut self) -> Result<()> {
        if self.capture.is_some() {
            return Err(Error::State { call: "start_capture", state: "while capturing" });
        }
        self.capture = Some(ComputeGraph::new());
        Ok(())
    }

    /// Ends the capture and returns what was captured. Dispatches are encoded again from now on.
    ///
    /// # Errors
    /// If no capture was started.
    pub fn take_capture(&mut self) -> Result<ComputeGraph> {
        self.capture.take().ok_or(Error::State { call: "take_capture", state: "without start_capture" })
    }

    /// Whether dispatches are captured at present.
    pub fn is_capturing(&self) -> bool {
        self.capture.is_some()
    }

    /// Hands the work to the device.
    ///
    /// # Errors
    /// While capturing; if the host holds a guard on memory that the work uses; or the failure of an earlier
    /// submission that nobody can ask any more.
    pub fn commit(self) -> Result<Submission> {
        if self.capture.is_some() {
            return Err(Error::State { call: "commit", state: "while capturing" });
        }
        self.commit_after(None)
    }

    /// Hands the work to the device as the continuation of `previous`: if that fails, this has failed.
    pub(crate) fn commit_after(mut self, previous: Option<&Submission>) -> Result<Submission> {
        let commands = self.commands.take().expect("present until commit");
        let uses: Vec<_> = self.uses.drain().map(|(_, used)| used).collect();
        let start = || {
            let completion = commands.submit()?;
            Ok(match previous {
                Some(previous) => previous.fate().followed_by(completion),
                None => completion,
            })
        };
        let submission = self.device.submit(start, &uses)?;
        self.counters.submissions += 1;
        self.device.shared_counters().add(&self.counters);
        Ok(submission)
    }

    /// Ends the encoding without running anything.
    pub(crate) fn record(mut self) -> Result<Recorded> {
        let commands = self.commands.take().expect("present until commit");
        self.device.shared_counters().add(&self.counters);
        let uses = self.uses.drain().map(|(_, used)| used).collect();
        Ok(Recorded { recording: commands.finish()?, uses, counters: self.counters })
    }

    /// Hands the work to the device and waits for its end.
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and what made the work fail.
    pub fn commit_and_wait(self) -> Result<()> {
        self.commit()?.wait()
    }
}

impl std::fmt::Debug for CommandEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "encoder {:?}: {:?}", self.label, self.counters)
    }
}

impl Drop for CommandEncoder {
    fn drop(&mut self) {
        if self.commands.is_some() && self.counters.dispatches > 0 {
            self.device.shared_counters().add(&Counters { discarded: 1, ..Counters::default() });
        }
    }
}
