//! Encoding of graphs.

use super::ComputeGraph;
use crate::encoder::CommandEncoder;
use crate::{Error, Result};

impl ComputeGraph {
    /// Encodes the dispatches in the order in which they were recorded. The encoder places the barriers that the
    /// ranges ask for, and those that the caller asked for while recording.
    ///
    /// # Errors
    /// While the encoder is capturing; else as [`CommandEncoder::dispatch`].
    pub fn encode_sequential(&self, encoder: &mut CommandEncoder) -> Result<()> {
        if encoder.is_capturing() {
            return Err(Error::State { call: "encode_sequential", state: "while capturing" });
        }
        for node in self.nodes() {
            if node.barrier_before() {
                encoder.memory_barrier();
            }
            encoder.encode(node.dispatch())?;
        }
        Ok(())
    }
}
