//! Staged sessions: a row of command buffers, ordered by one event.

use std::ops::{Deref, DerefMut};

use crate::buffer::Buffer;
use crate::device::Device;
use crate::encoder::CommandEncoder;
use crate::event::SharedEvent;
use crate::residency::{ResidencySet, ResidencyStats};
use crate::submission::Submission;
use crate::{Error, Result};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// A stage can begin.
    Ready,
    /// A stage is being encoded.
    Open,
    /// The last stage was committed.
    Committed,
    /// The last stage was committed and signals the event at its end.
    Fenced,
    /// A commit or a wait has failed.
    Failed,
}

/// Work in stages, fenced from each other by a [`SharedEvent`] where asked for.
///
/// While a stage is open the session dereferences to its [`CommandEncoder`], so that every operation works in it, and
/// so does [`replay`](CommandEncoder::replay): a stage is any row of dispatches and replays of compiled graphs. However
/// many command buffers it comes to, it is one stage: its wait comes before the first of them, its signal after the
/// last, it has one [`Submission`], and a failure in one part keeps the later parts and the stages that wait for it
/// from running. Between stages the encoder is closed: it refuses everything.
///
/// ```text
///                            dispatch, replay
///                                 ┌───┐
///                 begin_stage     v   │     commit_stage
///       ┌─────────────────────────> Open ─────────────────> Committed ──┐
///       │ <──── abandon_stage ────── │ │                                │
///       │                            │ └───── fence_stage ──> Fenced ───┤
///     Ready <── commit_and_wait: ok ─┘                                  │
///       │ <──────────── reset_for_next_stage, commit_and_wait: ok ──────┘
///       │
///       └ <──────────── reset_for_next_stage ── Failed <── any commit or wait that fails
/// ```
///
/// | call | `Ready` | `Open` | `Committed` | `Fenced` | `Failed` |
/// |---|---|---|---|---|---|
/// | `begin_stage` | `Open` | refused | refused | refused | refused |
/// | `commit_stage` | refused | `Committed` | refused | refused | refused |
/// | `fence_stage` | refused | `Fenced` | refused | refused | refused |
/// | `commit_and_wait` | waits for stages not yet waited for, stays `Ready`; refused if there are none | commits, waits, `Ready` | waits, `Ready` | waits, `Ready` | the failure again |
/// | `dispatch`, `replay` | refused | stays `Open` | refused | refused | refused |
/// | `abandon_stage` | refused | `Ready` | refused | refused | refused |
/// | `reset_for_next_stage` | refused | refused | `Ready` | `Ready` | `Ready`, with a new event |
///
/// A call that is refused returns [`Error::State`] and changes nothing. Committing, fencing or waiting while the
/// stage captures is refused in the same way: the stage stays open.
///
/// **Fences.** `fence_stage` makes the stage raise the event by one at its end. The fence is *pending* until a later
/// stage is committed: that stage waits for it on the device. If the fenced stage fails, the event is poisoned and the
/// stage that waits fails without being run; so does every stage that reads what a failed one wrote, fence or not.
/// A stage that does neither is not touched.
///
/// **Waiting** waits for every stage committed since the last wait, also those committed asynchronously, and returns
/// the first failure among them.
///
/// ```
/// # use dacapo::{Binding, CpuTwin, DType, Device, DeviceOptions, Dispatch, Kernel, OpKind};
/// # use dacapo::cpu::{CpuPlan, Split};
/// # static COUNT: Kernel = Kernel {
/// #     name: "count",
/// #     kind: OpKind::Elementwise,
/// #     bindings: &[Binding::read_write("x")],
/// #     cpu: CpuTwin {
/// #         plan: |_| CpuPlan::new(1, 1).split(0, Split::whole()),
/// #         run: |tile| tile.write::<u32>(0).slice().iter_mut().for_each(|x| *x += 1),
/// #     },
/// #     gpu: None,
/// # };
/// let device = Device::open(DeviceOptions::default())?;
/// let x = device.alloc(DType::U32, &[4])?;
/// let mut session = device.session("pass");
/// for layers in ["first half", "second half"] {
///     session.begin_stage(layers)?;
///     session.dispatch(Dispatch::new(&COUNT).buffer(&x))?;
///     session.fence_stage()?; // the device starts; the host goes on
///     session.reset_for_next_stage()?;
/// }
/// session.commit_and_wait()?;
/// assert_eq!((session.fence_value(), session.wait_count()), (2, 1));
/// assert_eq!(*x.read::<u32>()?, [2; 4]);
/// # Ok::<(), dacapo::Error>(())
/// ```
///
/// **Dropping** a session discards an open stage, which the device counts
/// ([`Counters::discarded`](crate::Counters::discarded)); its fence was never promised, so nobody waits for it.
/// Committed stages run on; a failure that nobody asked for is reported by the next call on the device.
pub struct EncoderSession {
    device: Device,
    label: String,
    /// Closed unless a stage is open.
    encoder: CommandEncoder,
    state: SessionState,
    event: Option<SharedEvent>,
    residency: Option<ResidencySet>,
    /// Stages committed since the last wait.
    outstanding: Vec<Submission>,
    failure: Option<Error>,
    fence_value: u64,
    wait_value: u64,
    wait_count: u64,
    fence_pending: bool,
}

impl Device {
    /// A session on this device. The label appears, with that of the stage, in errors and profiles.
    pub fn session(&self, label: &str) -> EncoderSession {
        EncoderSession {
            device: self.clone(),
            label: label.to_owned(),
            encoder: CommandEncoder::closed(self, label),
            state: SessionState::Ready,
            event: None,
            residency: None,
            outstanding: Vec::new(),
            failure: None,
            fence_value: 0,
            wait_value: 0,
            wait_count: 0,
            fence_pending: false,
        }
    }
}

impl EncoderSession {
    /// Opens a stage.
    ///
    /// # Errors
    /// In any state but `Ready`; else as [`Device::encoder`], and the session stays `Ready`.
    pub fn begin_stage(&mut self, label: &str) -> Result<()> {
        self.require("begin_stage", SessionState::Ready)?;
        self.encoder = self.device.encoder(&format!("{}/{label}", self.label))?;
        self.state = SessionState::Open;
        Ok(())
    }

    /// Hands the open stage to the device without waiting for it.
    ///
    /// # Errors
    /// Without an open stage, or while it captures; else as [`CommandEncoder::commit`]: then the stage is lost and
    /// the session has failed.
    pub fn commit_stage(&mut self) -> Result<Submission> {
        self.commit("commit_stage", false)
    }

    /// Hands the open stage to the device, to raise the event at its end. The next stage waits for that.
    ///
    /// # Errors
    /// As [`commit_stage`](Self::commit_stage).
    pub fn fence_stage(&mut self) -> Result<Submission> {
        self.commit("fence_stage", true)
    }

    /// Commits the stage if one is open, and waits for all stages that nobody has waited for.
    ///
    /// # Errors
    /// As [`commit_stage`](Self::commit_stage); the first failure among the stages, and the same again until
    /// [`reset_for_next_stage`](Self::reset_for_next_stage); [`Error::State`] if there is nothing to wait for.
    pub fn commit_and_wait(&mut self) -> Result<()> {
        match self.state {
            SessionState::Failed => return self.failure.clone().map_or(Ok(()), Err),
            SessionState::Open => {
                self.commit("commit_and_wait", false)?;
            }
            SessionState::Ready if self.outstanding.is_empty() => {
                return Err(refused("commit_and_wait", "with nothing committed"));
            }
            SessionState::Ready | SessionState::Committed | SessionState::Fenced => {}
        }
        let mut first = Ok(());
        for submission in self.outstanding.drain(..) {
            let outcome = submission.wait();
            first = first.and(outcome);
        }
        match &first {
            Ok(()) => self.state = SessionState::Ready,
            Err(error) => self.fail(error),
        }
        first
    }

    /// Discards the open stage, which the device counts. A pending fence stays pending.
    ///
    /// # Errors
    /// Without an open stage.
    pub fn abandon_stage(&mut self) -> Result<()> {
        self.require("abandon_stage", SessionState::Open)?;
        self.close();
        self.state = SessionState::Ready;
        Ok(())
    }

    /// Makes the session ready for its next stage, without waiting for those committed.
    ///
    /// After a failure the session starts afresh: no fence is pending, and the next one has a new event, which
    /// counts from zero.
    ///
    /// # Errors
    /// While a stage is open, or if the session is ready.
    pub fn reset_for_next_stage(&mut self) -> Result<()> {
        match self.state {
            SessionState::Ready | SessionState::Open => return Err(self.refuse("reset_for_next_stage")),
            SessionState::Committed | SessionState::Fenced => {}
            SessionState::Failed => {
                self.failure = None;
                self.event = None;
                self.fence_pending = false;
                (self.fence_value, self.wait_value) = (0, 0);
            }
        }
        self.state = SessionState::Ready;
        Ok(())
    }

    /// Where the session stands.
    pub fn state(&self) -> SessionState {
        self.state
    }

    /// The event that fences raise, once there was a fence.
    pub fn event(&self) -> Option<&SharedEvent> {
        self.event.as_ref()
    }

    /// Whether there was a fence.
    pub fn has_event(&self) -> bool {
        self.event.is_some()
    }

    /// The value to which the last fence raises the event; 0 before the first.
    pub fn fence_value(&self) -> u64 {
        self.fence_value
    }

    /// The value that the last stage to wait for a fence waits for; 0 before the first.
    pub fn wait_value(&self) -> u64 {
        self.wait_value
    }

    /// Stages committed that wait for a fence, since the session was made.
    pub fn wait_count(&self) -> u64 {
        self.wait_count
    }

    /// Whether there is a fence that no committed stage waits for yet.
    pub fn is_fence_pending(&self) -> bool {
        self.fence_pending
    }

    /// Whether no stage is open and every committed one has ended.
    pub fn is_drained(&self) -> bool {
        self.state != SessionState::Open && self.outstanding.iter().all(Submission::is_done)
    }

    /// The session's residency set, once it has one.
    pub fn residency_set(&self) -> Option<&ResidencySet> {
        self.residency.as_ref()
    }

    /// Stages an add to the session's residency set; see [`ResidencySet::add`].
    ///
    /// # Errors
    /// As [`ResidencySet::add`].
    pub fn add_to_residency_set(&mut self, buffer: &Buffer) -> Result<bool> {
        self.residency.get_or_insert_with(|| ResidencySet::new(&self.device)).add(buffer)
    }

    /// Stages a removal from the session's residency set; see [`ResidencySet::remove`].
    ///
    /// # Errors
    /// As [`ResidencySet::remove`].
    pub fn remove_from_residency_set(&mut self, buffer: &Buffer) -> Result<bool> {
        self.residency.get_or_insert_with(|| ResidencySet::new(&self.device)).remove(buffer)
    }

    /// What the session's residency set holds and has done.
    pub fn residency_stats(&self) -> ResidencyStats {
        self.residency.as_ref().map(ResidencySet::stats).unwrap_or_default()
    }

    fn commit(&mut self, call: &'static str, fence: bool) -> Result<Submission> {
        self.require(call, SessionState::Open)?;
        if self.encoder.is_capturing() {
            return Err(refused(call, "while capturing"));
        }
        if self.event.is_none() && fence {
            self.event = Some(self.device.event(&self.label)?);
        }
        let mut encoder = self.close();
        match self.hand_over(&mut encoder, fence).and_then(|()| encoder.commit()) {
            Ok(submission) => {
                self.committed(fence);
                self.outstanding.retain(|earlier| !earlier.fate().succeeded());
                self.outstanding.push(submission.clone());
                Ok(submission)
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }

    /// Tells the stage what to wait for and what to signal. Only now: the encoder was in the caller's hands.
    fn hand_over(&self, encoder: &mut CommandEncoder, fence: bool) -> Result<()> {
        let Some(event) = &self.event else { return Ok(()) };
        if self.fence_pending {
            encoder.wait_event(event, self.fence_value)?;
        }
        if fence {
            encoder.signal_event(event, self.fence_value + 1)?;
        }
        Ok(())
    }

    fn committed(&mut self, fence: bool) {
        if self.fence_pending {
            self.wait_value = self.fence_value;
            self.wait_count += 1;
        }
        self.fence_value += u64::from(fence);
        self.fence_pending = fence;
        self.state = if fence { SessionState::Fenced } else { SessionState::Committed };
    }

    fn fail(&mut self, error: &Error) {
        self.failure = Some(error.clone());
        self.state = SessionState::Failed;
    }

    /// Takes the stage's encoder away.
    fn close(&mut self) -> CommandEncoder {
        std::mem::replace(&mut self.encoder, CommandEncoder::closed(&self.device, &self.label))
    }

    fn require(&self, call: &'static str, state: SessionState) -> Result<()> {
        if self.state == state { Ok(()) } else { Err(self.refuse(call)) }
    }

    fn refuse(&self, call: &'static str) -> Error {
        let state = match self.state {
            SessionState::Ready => "outside a stage",
            SessionState::Open => "while a stage is open",
            SessionState::Committed | SessionState::Fenced => "after a stage, before reset_for_next_stage",
            SessionState::Failed => "after a failure, before reset_for_next_stage",
        };
        refused(call, state)
    }
}

fn refused(call: &'static str, state: &'static str) -> Error {
    Error::State { call, state }
}

impl Deref for EncoderSession {
    type Target = CommandEncoder;
    fn deref(&self) -> &CommandEncoder {
        &self.encoder
    }
}

impl DerefMut for EncoderSession {
    fn deref_mut(&mut self) -> &mut CommandEncoder {
        &mut self.encoder
    }
}

impl std::fmt::Debug for EncoderSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "session {:?}, {:?}, {} stages not waited for",
            self.label,
            self.state,
            self.outstanding.len()
        )
    }
}
