//! When command buffers and groups of dispatches ran, on the host's clock.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use objc2::msg_send;
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSProcessInfo, NSRange};
use objc2_metal::{
    MTLCommandBuffer, MTLComputeCommandEncoder, MTLComputePassDescriptor, MTLCounterSampleBuffer,
    MTLCounterSampleBufferDescriptor, MTLDevice, MTLDispatchType, MTLStorageMode,
};

use super::context::Context;
use super::device::is_timestamps;
use super::objects::{Object, Shared, lock};
use crate::Result;
use crate::profile::Span;

/// When command buffers of a queue ran.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The end of the latest one.
    latest: Mutex<Option<Instant>>,
}

impl Clock {
    /// When a command buffer ran that has just ended and was committed at `committed`. `None` if Metal does not say.
    pub fn ran(&self, commands: &ProtocolObject<dyn MTLCommandBuffer>, committed: Instant) -> Option<Span> {
        // SAFETY: both take nothing and answer seconds, as 64-bit floats. The bindings have them under a name of that type from
        // another crate.
        let (begin, end): (f64, f64) =
            unsafe { (msg_send![commands, GPUStartTime], msg_send![commands, GPUEndTime]) };
        // Seconds of the clock that Metal tells times on. Read before the host's: times are never put before what they follow.
        let since = NSProcessInfo::processInfo().systemUptime() - end;
        let now = Instant::now();
        if begin.is_nan() || begin <= 0.0 {
            return None;
        }
        let length = Duration::try_from_secs_f64(end - begin).ok()?;
        let since = Duration::try_from_secs_f64(since).unwrap_or_default();
        // It cannot have begun before it was committed, or end later than now, whatever the clocks say.
        let begin = now.checked_sub(since + length).map_or(committed, |begin| begin.max(committed));
        let end = (begin + length).min(now);
        // What comes before in the queue keeps it waiting at its fence.
        let mut latest = lock(&self.latest);
        let start = latest.map_or(begin, |latest| begin.max(latest)).min(end);
        *latest = Some(end);
        Some(Span { start, end })
    }
}

/// Most groups that are timed in one command buffer: a sample buffer holds 32 KiB, and a group has two samples of 8 bytes.
const MOST: usize = 2048;

/// What a sample reads when it could not be taken.
const FAILED: u64 = u64::MAX;

/// Timestamps at the beginning and end of each encoder of a submission.
pub(super) struct Samples {
    buffer: Shared<dyn MTLCounterSampleBuffer>,
    /// Encoders that are timed.
    groups: usize,
    /// One moment on both clocks before the work, and one after it.
    before: Moment,
    after: OnceLock<Moment>,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    host: Instant,
    device: u64,
}

impl Samples {
    /// Room for this many groups. Nothing if the device takes no samples there.
    pub fn new(context: &Context, groups: usize) -> Option<Samples> {
        let groups = groups.min(MOST);
        if !context.physical.features.stage_times || groups == 0 {
            return None;
        }
        autoreleasepool(|_| {
            let device = &context.physical.raw;
            let set = device.counterSets()?.iter().find(|set| is_timestamps(set))?;
            let describe = MTLCounterSampleBufferDescriptor::new();
            describe.setCounterSet(Some(&set));
            describe.setStorageMode(MTLStorageMode::Shared);
            // SAFETY: within what a sample buffer may hold.
            unsafe { describe.setSampleCount(2 * groups) };
            // Without room there are no times.
            let buffer = device.newCounterSampleBufferWithDescriptor_error(&describe).ok()?;
            Some(Samples {
                buffer: Shared(buffer),
                groups,
                before: Moment::now(context),
                after: OnceLock::new(),
            })
        })
    }

    /// An encoder for a group, which notes when it begins and ends.
    pub fn encoder(
        &self,
        context: &Context,
        commands: &ProtocolObject<dyn MTLCommandBuffer>,
        group: usize,
    ) -> Result<Object<dyn MTLComputeCommandEncoder>> {
        let pass = MTLComputePassDescriptor::computePassDescriptor();
        pass.setDispatchType(MTLDispatchType::Concurrent);
        if group < self.groups {
            // SAFETY: every pass has a first attachment; the samples lie in the buffer.
            unsafe {
                let attachment = pass.sampleBufferAttachments().objectAtIndexedSubscript(0);
                attachment.setSampleBuffer(Some(&self.buffer));
                attachment.setStartOfEncoderSampleIndex(2 * group);
                attachment.setEndOfEncoderSampleIndex(2 * group + 1);
            }
        }
        commands
            .computeCommandEncoderWithDescriptor(&pass)
            .ok_or_else(|| context.refused("computeCommandEncoder", "it gave none"))
    }

    /// Notes that the work has ended.
    pub fn ended(&self, context: &Context) {
        self.after.get_or_init(|| Moment::now(context));
    }

    /// The times of each stretch. The work has ended.
    pub fn times(&self, stretches: &[Range<usize>]) -> Vec<Option<Span>> {
        let Some(ticks) = self.ticks() else { return vec![None; stretches.len()] };
        let mut spans = ticks.chunks_exact(2).map(|pair| {
            let failed = pair.contains(&FAILED);
            (!failed).then(|| Span { start: self.host(pair[0]), end: self.host(pair[1]) })
        });
        stretches.iter().map(|group| if group.is_empty() { None } else { spans.next().flatten() }).collect()
    }

    fn ticks(&self) -> Option<Vec<u64>> {
        autoreleasepool(|_| {
            // SAFETY: the buffer has so many samples.
            let data = unsafe { self.buffer.resolveCounterRange(NSRange::new(0, 2 * self.groups)) }?;
            Some(data.to_vec().chunks_exact(8).map(bytemuck::pod_read_unaligned).collect())
        })
    }

    /// A moment of the device on the host's clock: between the two moments that are known on both, on a straight line.
    fn host(&self, ticks: u64) -> Instant {
        let (before, after) = (self.before, self.after.get().copied().unwrap_or(self.before));
        let (device, host) =
            (after.device.saturating_sub(before.device), after.host.saturating_duration_since(before.host));
        // The device's ticks are nanoseconds where nothing else is known.
        let tick = if device == 0 { 1.0 } else { host.as_nanos() as f64 / device as f64 };
        let since = ticks.saturating_sub(before.device) as f64 * tick;
        before.host + Duration::from_nanos(since as u64)
    }
}

impl Moment {
    fn now(context: &Context) -> Moment {
        let (mut cpu, mut device) = (0u64, 0u64);
        let earlier = Instant::now();
        // SAFETY: the places live.
        unsafe {
            context
                .physical
                .raw
                .sampleTimestamps_gpuTimestamp(NonNull::from(&mut cpu), NonNull::from(&mut device));
        }
        // The clocks were read between the two looks at the host's.
        Moment { host: earlier + earlier.elapsed() / 2, device }
    }
}
