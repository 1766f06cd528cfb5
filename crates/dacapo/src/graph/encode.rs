//! Encoding of graphs.

use std::ops::Range;

use super::{ChunkOptions, ChunkReport, ComputeGraph};
use crate::device::Device;
use crate::encoder::CommandEncoder;
use crate::profile::Counters;
use crate::submission::Submission;
use crate::{Error, Result};

impl ComputeGraph {
    /// Encodes the dispatches in order. The encoder places the barriers that the ranges ask for, and those that the
    /// caller asked for while recording. A schedule's groups are not looked at.
    ///
    /// # Errors
    /// While the encoder is capturing; if the graph has transient buffers (see [`place`](Self::place)); else as
    /// [`CommandEncoder::dispatch`].
    pub fn encode_sequential(&self, encoder: &mut CommandEncoder) -> Result<()> {
        check_live(encoder, "encode_sequential")?;
        for node in self.nodes() {
            if node.barrier_before() {
                encoder.memory_barrier();
            }
            encoder.encode(node.dispatch())?;
        }
        Ok(())
    }

    /// Encodes a scheduled graph with a barrier between its groups and none inside them: what the hazard rule
    /// forbids inside a group was kept out of it by the schedule, and is not searched for again. A graph that is
    /// not scheduled is encoded as by [`encode_sequential`](Self::encode_sequential).
    ///
    /// # Errors
    /// As [`encode_sequential`](Self::encode_sequential).
    pub fn encode_with_barriers(&self, encoder: &mut CommandEncoder) -> Result<()> {
        check_live(encoder, "encode_with_barriers")?;
        self.encode_part(encoder, 0..self.len())
    }

    /// Encodes the graph in several command buffers, cut as [`chunks`](Self::chunks) says, and hands each to the
    /// device as soon as it is encoded: the device works while the rest is being encoded. The submission returned
    /// stands for all of them: if one fails, those after it fail as well.
    ///
    /// # Errors
    /// As [`encode_sequential`](Self::encode_sequential) and [`CommandEncoder::commit`]. What was submitted before
    /// the error still runs.
    pub fn encode_chunks(
        &self,
        device: &Device,
        label: &str,
        options: &ChunkOptions,
    ) -> Result<(Submission, ChunkReport)> {
        let (submission, report, _) = self.submit_chunks(device, label, options)?;
        Ok((submission, report))
    }

    /// [`encode_chunks`](Self::encode_chunks), with the counters of all command buffers together.
    pub(crate) fn submit_chunks(
        &self,
        device: &Device,
        label: &str,
        options: &ChunkOptions,
    ) -> Result<(Submission, ChunkReport, Counters)> {
        let (mut chunks, report) = self.chunks(options);
        let mut counters = Counters::default();
        let mut last = None;
        if chunks.is_empty() {
            // An empty graph is still one submission.
            chunks.push(0..0);
        }
        for part in chunks {
            let mut encoder = device.encoder(label)?;
            self.encode_part(&mut encoder, part)?;
            counters += encoder.counters();
            last = Some(encoder.commit_after(last.as_ref())?);
            counters.submissions += 1;
        }
        Ok((last.expect("there is at least one part"), report, counters))
    }

    /// Encodes some of the nodes: in the groups of a schedule, or as the ranges ask for.
    pub(super) fn encode_part(&self, encoder: &mut CommandEncoder, part: Range<usize>) -> Result<()> {
        let Some(starts) = &self.groups else {
            for (position, node) in self.nodes[part.clone()].iter().enumerate() {
                if position > 0 && node.barrier_before() {
                    encoder.memory_barrier();
                }
                encoder.encode(node.dispatch())?;
            }
            return Ok(());
        };
        for position in part.clone() {
            let boundary = position == part.start || starts.binary_search(&position).is_ok();
            encoder.encode_grouped(self.nodes[position].dispatch(), boundary)?;
        }
        Ok(())
    }
}

fn check_live(encoder: &CommandEncoder, call: &'static str) -> Result<()> {
    if encoder.is_capturing() {
        return Err(Error::State { call, state: "while capturing" });
    }
    Ok(())
}
