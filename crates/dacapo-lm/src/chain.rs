//! Decode steps, submitted ahead of their results.
//!
//! A step reads a token, gives logits, draws the next token and moves the position on, all on the device. The next step
//! reads what it drew there. So several can be submitted one behind the other, and the host reads their tokens as they
//! come. Steps turn out to be too many when a text ends: what they leave in the cache is beyond its tokens, and is
//! written over. States of gated delta nets have seen those tokens: they are good for a text that goes on with them, and for
//! no other (`KvCache::holds`).

use std::collections::VecDeque;

use dacapo::Submission;

use crate::error::Result;
use crate::sampler::SLOTS;
use crate::session::Session;

/// Steps submitted before the first one's token is read. More gains nothing on the processor (measured with the
/// demo model, whose steps are the shortest: 1 ahead hides the host's part).
pub(crate) const AHEAD: usize = 2;

/// A running chain of steps.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    session: &'a mut Session,
    /// Steps submitted and not read, with the slot that each draws into.
    running: VecDeque<(Submission, usize)>,
    /// The slot that the next step reads.
    slot: usize,
    /// Most tokens that will be asked for.
    budget: usize,
}

impl<'a> Chain<'a> {
    /// A chain behind the token in slot 0 of the session's sampler. No more than `budget` steps are submitted.
    pub fn new(session: &'a mut Session, budget: usize) -> Result<Self> {
        session.step.copy_from(&[session.tokens().len() as u32])?;
        Ok(Chain { session, running: VecDeque::new(), slot: 0, budget })
    }

    /// The session, whose tokens are those of the steps that were read.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// Reads the next token; `token` is the one before it.
    pub fn next(&mut self, token: u32) -> Result<u32> {
        self.submit()?;
        let (submission, slot) = self.running.pop_front().expect("a step is running");
        submission.wait()?;
        self.session.tokens.push(token);
        self.session.sampler.token(slot)
    }

    /// Ends the chain behind `token`, the last that was drawn. A step that has read it already cannot be taken back where layers
    /// keep a state: then the context has the token too, so that a text that goes on behind it need not be read again.
    ///
    /// # Errors
    /// If that step failed.
    pub fn finish(mut self, token: u32) -> Result<()> {
        if self.session.cache.has_states()
            && let Some((submission, _)) = self.running.pop_front()
        {
            submission.wait()?;
            self.session.tokens.push(token);
        }
        Ok(())
    }

    /// Submits steps until enough are running.
    fn submit(&mut self) -> Result<()> {
        while self.running.is_empty() || (self.running.len() < AHEAD && self.budget > 0) {
            let position = self.session.tokens().len() + self.running.len();
            if position >= self.session.cache.capacity() {
                if !self.running.is_empty() || position >= self.session.context() {
                    // The cache moves only while nothing runs; a full context ends the chain.
                    return Ok(());
                }
                self.session.reserve(1)?;
            }
            if !self.session.is_settled(position, position + 1) {
                if !self.running.is_empty() {
                    // What has been read is read again only while nothing runs.
                    return Ok(());
                }
                self.session.settle(position + 1)?;
                self.session.step.copy_from(&[position as u32])?;
            }
            self.session.cache.wrote(position + 1);
            let submission = self.session.step_graph(self.slot)?.replay()?;
            self.slot = (self.slot + 1) % SLOTS;
            self.running.push_back((submission, self.slot));
            self.budget = self.budget.saturating_sub(1);
        }
        Ok(())
    }
}
