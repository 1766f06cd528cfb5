//! Encoding: dispatches in, a submitted command buffer out, barriers placed by the engine.

use std::sync::Arc;

use crate::device::Device;
use crate::dispatch::{Bound, Dispatch};
use crate::event::{EventPoint, SharedEvent, StageEvents};
use crate::graph::{CompiledGraph, ComputeGraph};
use crate::hal::event::Order;
use crate::hal::{CommandBuffer, Recording};
use crate::hazard::MemRanges;
use crate::profile::Counters;
use crate::submission::{Submission, start_parts};
use crate::usage::Uses;
use crate::{Error, Result};

/// An encoder's work, ready to be submitted any number of times.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub recording: Arc<dyn Recording>,
    pub counters: Counters,
    /// First dispatch of each group, in the order of encoding.
    pub starts: Vec<usize>,
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
    /// Gone after commit, and between the stages of a session.
    commands: Option<Box<dyn CommandBuffer>>,
    /// What comes before `commands`: command buffers that a replay has ended, and the replays.
    parts: Vec<Arc<dyn Recording>>,
    /// Command buffers among the parts.
    ended: u64,
    /// Dispatches in them.
    split: u64,
    hazards: MemRanges,
    /// Empty between dispatches.
    bound: Option<Box<Bound>>,
    /// Dispatches since the last barrier.
    group: usize,
    uses: Uses,
    events: StageEvents,
    counters: Counters,
    capture: Option<ComputeGraph>,
    /// First dispatch of each group. Empty unless the groups are timed.
    starts: Vec<usize>,
    timing: bool,
}

impl Device {
    /// An encoder for this device. The label appears in errors and profiles.
    ///
    /// # Errors
    /// The failure of an earlier submission that nobody can ask any more.
    pub fn encoder(&self, label: &str) -> Result<CommandEncoder> {
        self.report_lost()?;
        let commands = self.note(self.backend().command_buffer(label))?;
        let mut encoder = CommandEncoder::closed(self, label);
        encoder.commands = Some(commands);
        Ok(encoder)
    }
}

/// What a closed encoder says.
const CLOSED: &str = "outside a stage";

impl CommandEncoder {
    /// An encoder that takes nothing: what a session has between its stages.
    pub(crate) fn closed(device: &Device, label: &str) -> Self {
        CommandEncoder {
            device: device.clone(),
            label: label.to_owned(),
            commands: None,
            parts: Vec::new(),
            ended: 0,
            split: 0,
            hazards: MemRanges::new(),
            bound: None,
            group: 0,
            uses: Uses::default(),
            events: StageEvents::default(),
            counters: Counters::default(),
            capture: None,
            starts: Vec::new(),
            timing: false,
        }
    }

    /// Asks the device for the times of groups. Before the first dispatch.
    pub(crate) fn time_groups(&mut self) {
        self.timing = true;
        self.commands.iter_mut().for_each(|commands| commands.time_groups());
    }

    fn check_open(&self, call: &'static str) -> Result<()> {
        if self.commands.is_none() {
            return Err(Error::State { call, state: CLOSED });
        }
        Ok(())
    }

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
        self.check_open("dispatch")?;
        self.with_bound(dispatch, |encoder, bound| {
            let hazard = encoder.hazards.hazard(&bound.ranges).is_some();
            encoder.add(dispatch, bound, hazard)
        })
    }

    /// Adds a dispatch of which is known whether a barrier has to come before it: a pass that asked the hazard
    /// rule has put a boundary there or not.
    pub(crate) fn encode_grouped(&mut self, dispatch: &Dispatch, boundary: bool) -> Result<()> {
        self.check_open("dispatch")?;
        self.with_bound(dispatch, |encoder, bound| {
            debug_assert!(
                boundary || encoder.hazards.hazard(&bound.ranges).is_none(),
                "a hazard inside a group at {}",
                dispatch.kernel().name
            );
            encoder.add(dispatch, bound, boundary && encoder.group > 0)
        })
    }

    /// Does something with the dispatch's arguments, bound in a place that is used again.
    fn with_bound(
        &mut self,
        dispatch: &Dispatch,
        work: impl FnOnce(&mut Self, &Bound) -> Result<()>,
    ) -> Result<()> {
        let mut bound = self.bound.take().unwrap_or_default();
        let done = dispatch.bind_into(&mut bound).and_then(|()| work(self, &bound));
        bound.clear();
        self.bound = Some(bound);
        done
    }

    fn add(&mut self, dispatch: &Dispatch, bound: &Bound, barrier: bool) -> Result<()> {
        let kernel = dispatch.kernel();
        let pipeline = self.device.note(self.device.registry().pipeline(self.device.backend(), kernel))?;
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
        let commands = self.commands.as_mut().ok_or(Error::State { call: "dispatch", state: CLOSED })?;
        if barrier {
            commands.barrier();
            self.hazards.clear();
            self.group = 0;
            self.counters.barriers += 1;
        } else if !first {
            self.counters.elided_barriers += 1;
        }
        let encoded = commands.dispatch(&*pipeline, &bound.resolved, &bound.params, dispatch.threads());
        self.device.note(encoded)?;
        if self.timing && (barrier || first) {
            self.starts.push(self.counters.dispatches as usize);
        }
        self.hazards.record(&bound.ranges);
        self.group += 1;
        self.counters.dispatches += 1;
        self.uses.record(&bound.views, &bound.ranges);
        Ok(())
    }

    /// Adds a replay of a compiled graph: behind what was encoded so far, before what comes after. It becomes a part of
    /// this encoder's work, with one fate: the work's waits come before its first part, its signals after its last
    /// one, and if a part fails, those behind it fail without being run. Each part is a command buffer of its own; the
    /// host does nothing for the graph's single dispatches.
    ///
    /// # Errors
    /// While capturing; if the graph was compiled for another device; if the device takes no more command buffers.
    pub fn replay(&mut self, graph: &CompiledGraph) -> Result<()> {
        self.check_open("replay")?;
        if self.capture.is_some() {
            return Err(Error::State { call: "replay", state: "while capturing" });
        }
        if graph.device().id() != self.device.id() {
            return Err(Error::WrongDevice { what: format!("compiled graph {:?}", graph.label()) });
        }
        self.end_part()?;
        self.parts.extend_from_slice(graph.recordings());
        self.uses.append(graph.uses());
        self.counters.replays += 1;
        Ok(())
    }

    /// Ends the command buffer, if there is anything in it, and begins the next.
    fn end_part(&mut self) -> Result<()> {
        if self.counters.dispatches == self.split {
            return Ok(());
        }
        let next = self.device.note(self.device.backend().command_buffer(&self.label))?;
        let commands = self.commands.take().ok_or(Error::State { call: "replay", state: CLOSED })?;
        // If this fails the work is lost, and the encoder stays closed.
        self.parts.push(self.device.note(commands.finish())?);
        self.commands = Some(next);
        self.ended += 1;
        self.split = self.counters.dispatches;
        // Between two parts everything is ordered.
        self.hazards.clear();
        self.group = 0;
        Ok(())
    }

    /// Whether the last command buffer is submitted: it is not if it is empty and there is something else.
    fn has_tail(&self) -> bool {
        self.parts.is_empty() || self.counters.dispatches > self.split
    }

    /// Command buffers that a commit submits, those of replays among them.
    pub(crate) fn submissions(&self) -> u64 {
        self.parts.len() as u64 + u64::from(self.has_tail())
    }

    /// Groups of concurrent dispatches encoded, without those of replays.
    pub(crate) fn groups(&self) -> u64 {
        self.counters.barriers + self.ended + u64::from(self.counters.dispatches > self.split)
    }

    /// Puts a barrier between what came before and what comes after. Never needed for correctness.
    pub fn memory_barrier(&mut self) {
        if let Some(graph) = &mut self.capture {
            graph.push_barrier();
        } else if self.group > 0
            && let Some(commands) = &mut self.commands
        {
            commands.barrier();
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
        self.check_open("start_capture")?;
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

    /// Makes the work wait until the event has reached `value`: it runs after everything committed before it, and
    /// not before that. If the event is poisoned the work fails with [`Error::Poisoned`] without being run.
    ///
    /// The value must come from work committed earlier, or from the host. Work that waits for the host when the
    /// last handle of the device is dropped fails with [`Error::DeviceLost`].
    ///
    /// # Errors
    /// While capturing; if the event belongs to another device.
    pub fn wait_event(&mut self, event: &SharedEvent, value: u64) -> Result<()> {
        let point = self.event_point("wait_event", event, value)?;
        self.events.waits.push(point);
        Ok(())
    }

    /// Makes the work raise the event to `value` at its end, or poison it if it fails.
    ///
    /// # Errors
    /// While capturing; if the event belongs to another device.
    pub fn signal_event(&mut self, event: &SharedEvent, value: u64) -> Result<()> {
        let point = self.event_point("signal_event", event, value)?;
        self.events.signals.push(point);
        Ok(())
    }

    fn event_point(&self, call: &'static str, event: &SharedEvent, value: u64) -> Result<EventPoint> {
        self.check_open(call)?;
        if self.capture.is_some() {
            return Err(Error::State { call, state: "while capturing" });
        }
        if event.device() != self.device.id() {
            return Err(Error::WrongDevice { what: format!("event {:?}", event.label()) });
        }
        Ok(EventPoint { event: event.clone(), value })
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

    /// Hands the work to the device as the continuation of `previous`: if that fails, this fails without being run,
    /// and whoever asks about this hears of both.
    pub(crate) fn commit_after(mut self, previous: Option<&Submission>) -> Result<Submission> {
        let commands = self.commands.take().ok_or(Error::State { call: "commit", state: CLOSED })?;
        let (submissions, tail) = (self.submissions(), self.has_tail());
        let mut parts = std::mem::take(&mut self.parts);
        let start = |mut order: Order| {
            order.after.extend(previous.map(|previous| previous.fate().dependency()));
            let completion = if parts.is_empty() {
                commands.submit(order)?
            } else {
                if tail {
                    parts.push(commands.finish()?);
                }
                start_parts(&parts, order)?
            };
            Ok(match previous {
                Some(previous) => previous.fate().followed_by(completion),
                None => completion,
            })
        };
        let submission = self.device.submit(&self.label, self.uses.touches(), &self.events, start)?;
        if let Some(previous) = previous {
            previous.fate().hand_over();
        }
        self.counters.submissions += submissions;
        self.device.shared_counters().add(&self.counters);
        Ok(submission)
    }

    /// Ends the encoding without running anything.
    pub(crate) fn record(mut self) -> Result<Recorded> {
        let commands = self.commands.take().ok_or(Error::State { call: "compile", state: CLOSED })?;
        let recording = self.device.note(commands.finish())?;
        self.device.shared_counters().add(&self.counters);
        Ok(Recorded { recording, counters: self.counters, starts: std::mem::take(&mut self.starts) })
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
        if self.commands.is_some() && self.counters.dispatches + self.counters.replays > 0 {
            self.device.shared_counters().add(&Counters { discarded: 1, ..Counters::default() });
        }
    }
}
