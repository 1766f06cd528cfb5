//! Who uses which memory: the submissions in flight, the bytes that a failure left behind, the guards of the host.
//!
//! Submissions are kept as wholes, in their order: registering one costs the same however much memory it touches, so
//! that a replay is as cheap for a thousand buffers as for one. Who asks about an allocation looks through the few
//! that are in flight. When one has ended well nothing of it needs to be remembered, but that the bytes it wrote are
//! good; only a failure is written down byte by byte.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::hal::event::Dependency;
use crate::range_set::RangeSet;
use crate::submission::Fate;
use crate::usage::{Touches, Writers};
use crate::{Error, Result};

/// The books of one device. Allocations are known by their identities: nothing here keeps memory alive but what is in
/// flight.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Submissions in their order, but for the first ones that have ended.
    flights: VecDeque<Flight>,
    /// Bytes that the last submission to write them has spoilt, by allocation.
    bad: HashMap<u64, Writers>,
    /// Allocations that the host holds guards on.
    held: HashMap<u64, Held>,
}

#[derive(Debug)]
struct Flight {
    fate: Arc<Fate>,
    touches: Arc<Touches>,
    /// Allocations that are gone: nobody can ask about their bytes any more.
    gone: Vec<u64>,
}

/// Guards of the host on an allocation.
#[derive(Debug, Default)]
struct Held {
    readers: usize,
    writer: bool,
    /// Bytes of the allocation.
    byte_len: usize,
}

/// What the host is told when it asks for access.
pub(crate) enum Entry {
    /// It has it, and gives it back with [`Ledger::leave`].
    Granted,
    /// These must end first.
    After(Vec<Arc<Fate>>),
    /// It cannot read what this one has spoilt.
    Spoilt(Arc<Fate>),
}

/// An allocation as errors name it.
pub(crate) fn named(id: u64, byte_len: usize) -> String {
    format!("allocation {id} of {byte_len} bytes")
}

impl Ledger {
    /// Closes the account of what has ended.
    fn settle(&mut self) {
        while self.flights.front().is_some_and(|flight| flight.fate.is_done()) {
            let Some(flight) = self.flights.pop_front() else { return };
            let succeeded = flight.fate.succeeded();
            if succeeded && self.bad.is_empty() {
                continue;
            }
            for (id, writes) in flight.touches.writes().filter(|(id, _)| !flight.gone.contains(id)) {
                if succeeded {
                    writes.iter().for_each(|range| self.heal(id, range));
                } else {
                    self.bad.entry(id).or_default().record(writes, &flight.fate);
                }
            }
        }
    }

    fn heal(&mut self, id: u64, range: &Range<usize>) {
        if let Some(writers) = self.bad.get_mut(&id) {
            writers.forget(range);
            if writers.is_empty() {
                self.bad.remove(&id);
            }
        }
    }

    /// Refuses work that would touch what the host holds.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn check_free(&self, touches: &Touches) -> Result<()> {
        for (&id, held) in self.held.iter().filter(|(id, _)| touches.contains(**id)) {
            if held.writer || touches.writes_to(id) {
                let by = "a guard of the host";
                return Err(Error::Busy { call: "commit", what: named(id, held.byte_len), by });
            }
        }
        Ok(())
    }

    /// The submissions whose results this work would read, if they may fail or have failed.
    pub fn dependencies(&mut self, touches: &Touches) -> Vec<Dependency> {
        self.settle();
        // Newest first. Of several runs of the same work the newest has overwritten all that the others wrote.
        let mut flights: Vec<&Flight> = Vec::with_capacity(self.flights.len());
        for flight in self.flights.iter().rev() {
            if !flights.iter().any(|newer| Arc::ptr_eq(&newer.touches, &flight.touches)) {
                flights.push(flight);
            }
        }
        let before: Vec<&Touches> = flights.iter().map(|flight| &*flight.touches).collect();
        let in_flight = touches.depends_on(&before);
        let mut found: Vec<Arc<Fate>> = in_flight.iter().map(|&at| flights[at].fate.clone()).collect();
        for (&id, writers) in &self.bad {
            let reads = touches.reads_behind(id, &before);
            for fate in writers.of(&reads) {
                if !found.iter().any(|known| Arc::ptr_eq(known, fate)) {
                    found.push(fate.clone());
                }
            }
        }
        found.iter().map(|fate| fate.dependency()).collect()
    }

    /// Registers work that was submitted.
    pub fn submitted(&mut self, fate: Arc<Fate>, touches: Arc<Touches>) {
        self.flights.push_back(Flight { fate, touches, gone: Vec::new() });
    }

    /// The last submission that uses an allocation and may not have ended.
    pub fn last_use(&self, id: u64) -> Option<&Arc<Fate>> {
        self.flights.iter().rev().find(|flight| flight.touches.contains(id)).map(|flight| &flight.fate)
    }

    /// Lets the host read bytes of an allocation, or write them, and registers it. It may once nothing in flight
    /// writes the allocation, or uses it.
    ///
    /// # Errors
    /// [`Error::Busy`] if the host holds a guard in its way.
    pub fn enter(&mut self, id: u64, byte_len: usize, bytes: &Range<usize>, write: bool) -> Result<Entry> {
        if self.held.get(&id).is_some_and(|held| held.writer || write) {
            let call = if write { "write" } else { "read" };
            return Err(Error::Busy { call, what: named(id, byte_len), by: "another guard of the host" });
        }
        self.settle();
        let blocks = |flight: &Flight| match write {
            true => flight.touches.contains(id),
            false => flight.touches.writes_to(id),
        };
        if let Some(last) = self.flights.iter().rposition(blocks) {
            // All up to it, so that the account of each can be closed.
            let fates = self.flights.iter().take(last + 1).map(|flight| flight.fate.clone());
            return Ok(Entry::After(fates.collect()));
        }
        if !write && let Some(fate) = self.spoilt(id, bytes) {
            return Ok(Entry::Spoilt(fate));
        }
        let held = self.held.entry(id).or_default();
        held.byte_len = byte_len;
        if write {
            held.writer = true;
            self.heal(id, bytes);
        } else {
            held.readers += 1;
        }
        Ok(Entry::Granted)
    }

    /// A failed submission that wrote some of these bytes last.
    fn spoilt(&self, id: u64, bytes: &Range<usize>) -> Option<Arc<Fate>> {
        let mut read = RangeSet::default();
        read.insert(bytes.clone());
        self.bad.get(&id)?.of(&read).next().cloned()
    }

    /// Ends an access of the host.
    pub fn leave(&mut self, id: u64, write: bool) {
        let Some(held) = self.held.get_mut(&id) else { return };
        if write {
            held.writer = false;
        } else {
            held.readers -= 1;
        }
        if !held.writer && held.readers == 0 {
            self.held.remove(&id);
        }
    }

    /// Forgets an allocation. Returns the last submission that uses its memory and may not have ended.
    pub fn forget(&mut self, id: u64) -> Option<Arc<Fate>> {
        self.bad.remove(&id);
        let uses = self.flights.iter_mut().filter(|flight| flight.touches.contains(id));
        uses.fold(None, |_, flight| {
            flight.gone.push(id);
            Some(flight.fate.clone())
        })
    }
}
