//! When groups of dispatches ran, on the host's clock.

use std::time::{Duration, Instant};

use ash::vk;

use super::context::Context;
use crate::profile::Span;

/// Most stretches that are timed in one command buffer.
const MOST: u32 = 4096;

/// Timestamps at the barriers of a command buffer.
///
/// They belong to the commands, not to a submission: of submissions that overlap, the last one's are read.
pub(super) struct Stretches {
    pool: vk::QueryPool,
    /// Timestamps written so far.
    written: u32,
    /// Whether each stretch between two of them has dispatches.
    work: Vec<bool>,
    device: ash::Device,
}

impl Stretches {
    /// Starts with a timestamp; nothing if the device has none.
    pub fn begin(context: &Context, commands: vk::CommandBuffer) -> Option<Stretches> {
        if context.physical.timestamp_bits == 0 {
            return None;
        }
        let create =
            vk::QueryPoolCreateInfo::default().query_type(vk::QueryType::TIMESTAMP).query_count(MOST + 1);
        // SAFETY: the structure lives. Without a pool there are no times.
        let pool = unsafe { context.device.create_query_pool(&create, None) }.ok()?;
        let device = context.device.clone();
        // SAFETY: the commands are being recorded.
        unsafe { device.cmd_reset_query_pool(commands, pool, 0, MOST + 1) };
        let mut stretches = Stretches { pool, written: 0, work: Vec::new(), device: device.clone() };
        stretches.stamp(&device, commands);
        Some(stretches)
    }

    fn stamp(&mut self, device: &ash::Device, commands: vk::CommandBuffer) {
        let stage = vk::PipelineStageFlags2::COMPUTE_SHADER;
        // SAFETY: the commands are being recorded; the pool has room, says `boundary`.
        unsafe { device.cmd_write_timestamp2(commands, stage, self.pool, self.written) };
        self.written += 1;
    }

    /// Ends a stretch and begins the next. Past the last one that is timed, nothing is noted.
    pub fn boundary(&mut self, device: &ash::Device, commands: vk::CommandBuffer, work: bool) {
        if self.written <= MOST {
            self.work.push(work);
            self.stamp(device, commands);
        }
    }

    /// Ends the last stretch.
    pub fn end(&mut self, device: &ash::Device, commands: vk::CommandBuffer, work: bool) {
        self.boundary(device, commands, work);
    }

    /// The times of each stretch. The commands have run.
    pub fn times(&self, context: &Context, clock: &Clock) -> Vec<Option<Span>> {
        let mut ticks = vec![0u64; self.written as usize];
        let flags = vk::QueryResultFlags::TYPE_64;
        // SAFETY: the pool lives and so many timestamps were written.
        let got = unsafe { context.device.get_query_pool_results(self.pool, 0, &mut ticks, flags) };
        if got.is_err() {
            return vec![None; self.work.len()];
        }
        let span = |(pair, work): (&[u64], &bool)| {
            work.then(|| Span { start: clock.host(context, pair[0]), end: clock.host(context, pair[1]) })
        };
        ticks.windows(2).zip(&self.work).map(span).collect()
    }
}

impl Drop for Stretches {
    fn drop(&mut self) {
        // SAFETY: its commands are not in use any more.
        unsafe { self.device.destroy_query_pool(self.pool, None) }
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    host: Instant,
    /// The device's clock; `None` if it cannot be read: then times are right among themselves, and begin at `host`.
    device: Option<u64>,
}

impl Clock {
    /// This moment. Nothing if the device has no clock.
    pub fn now(context: &Context) -> Option<Clock> {
        if context.physical.timestamp_bits == 0 {
            return None;
        }
        let info = [vk::CalibratedTimestampInfoKHR::default().time_domain(vk::TimeDomainKHR::DEVICE)];
        let before = Instant::now();
        let device = context.calibration.as_ref().and_then(|calibration| {
            // SAFETY: the extension is enabled; devices that have it read their own clock.
            unsafe { calibration.get_calibrated_timestamps(&info) }
                .ok()
                .and_then(|(ticks, _)| ticks.first().copied())
        });
        // The clock was read between the two looks at the host's.
        Some(Clock { host: before + before.elapsed() / 2, device })
    }

    fn host(&self, context: &Context, ticks: u64) -> Instant {
        let physical = &context.physical;
        let mask = if physical.timestamp_bits >= 64 { u64::MAX } else { (1 << physical.timestamp_bits) - 1 };
        let since = ticks.wrapping_sub(self.device.unwrap_or(0)) & mask;
        // More than half the range ahead is a moment before.
        let length =
            |ticks: u64| Duration::from_nanos((ticks as f64 * f64::from(physical.timestamp_period)) as u64);
        if since > mask / 2 {
            let before = length((mask - since).wrapping_add(1));
            self.host.checked_sub(before).unwrap_or(self.host)
        } else {
            self.host + length(since)
        }
    }
}
