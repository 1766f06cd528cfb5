//! What a submission does to memory: what failure spreads along.
//!
//! The rule, byte by byte: a byte is *bad* if the last submission that wrote it failed. A submission that reads a
//! bad byte, without having written it itself before, fails without being run, with
//! [`Error::Poisoned`](crate::Error::Poisoned). One that only overwrites bad bytes runs, and they are good if it
//! succeeds. The host may not read bad bytes; writing them makes them good. Nothing else spreads a failure: neither
//! sharing an allocation nor coming later. [`Ledger`](crate::ledger::Ledger) keeps the books.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smallvec::SmallVec;

use crate::buffer::{Allocation, Buffer, lock};
use crate::hazard::MemRange;
use crate::id_map::IdMap;
use crate::range_set::RangeSet;
use crate::submission::Fate;

/// The memory that the dispatches of a submission touch, kept alive until it is submitted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses {
    own: Vec<Arc<Allocation>>,
    /// What compiled graphs among the work touch.
    shared: Vec<Arc<[Arc<Allocation>]>>,
    touches: Arc<Touches>,
}

impl Uses {
    /// Adds the next dispatch: its views, and the ranges that they stand for.
    pub fn record(&mut self, views: &[Buffer], ranges: &[MemRange]) {
        let touches = Arc::make_mut(&mut self.touches);
        for (view, range) in views.iter().zip(ranges).filter(|(view, _)| view.allocation().is_tracked()) {
            if touches.record_reads(range) {
                self.own.push(view.allocation().clone());
            }
        }
        ranges.iter().for_each(|range| touches.record_writes(range));
    }

    /// Adds work that comes next.
    pub fn append(&mut self, next: &Uses) {
        self.own.extend_from_slice(&next.own);
        self.shared.extend_from_slice(&next.shared);
        if self.touches.by_id.is_empty() {
            // Nothing comes before: it is the same work, and what is known of it is known.
            self.touches = next.touches.clone();
        } else {
            Arc::make_mut(&mut self.touches).append(&next.touches);
        }
    }

    /// The same uses, for work that will be submitted again and again.
    pub fn lasting(mut self) -> Self {
        Arc::make_mut(&mut self.touches).lasting = true;
        self.shared.push(std::mem::take(&mut self.own).into());
        self
    }

    /// What is done to which bytes.
    pub fn touches(&self) -> &Arc<Touches> {
        &self.touches
    }
}

/// Which bytes of which allocations a submission reads and writes. Keeps nothing alive.
#[derive(Debug)]
pub(crate) struct Touches {
    /// Never used again, not by a clone either: a clone is about to become something else.
    identity: u64,
    by_id: IdMap<Touched>,
    /// Allocations that are written.
    written: Vec<u64>,
    /// The work is submitted again and again, so that it pays to remember what it depends on.
    lasting: bool,
    memo: Mutex<Memo>,
}

/// What lasting work depends on among other lasting work before it, as [`Touches::depends_on`] finds it.
type Memo = HashMap<SmallVec<[u64; 4]>, SmallVec<[usize; 4]>>;

/// Neighbourhoods that are remembered at most.
const REMEMBERED: usize = 32;

/// What is done to one allocation.
#[derive(Debug, Clone, Default)]
struct Touched {
    /// Bytes whose earlier contents matter: read before the submission has written them.
    reads: RangeSet,
    writes: RangeSet,
}

impl Default for Touches {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        let (by_id, written, memo) = (IdMap::default(), Vec::new(), Mutex::default());
        Touches { identity, by_id, written, lasting: false, memo }
    }
}

impl Clone for Touches {
    fn clone(&self) -> Self {
        Touches { by_id: self.by_id.clone(), written: self.written.clone(), ..Touches::default() }
    }
}

impl Touches {
    /// Notes that a range is touched, and that it is read if it is. Returns whether its allocation is new.
    fn record_reads(&mut self, range: &MemRange) -> bool {
        let known = self.by_id.len();
        let Touched { reads, writes } = self.by_id.entry(range.allocation).or_default();
        if range.access.reads() {
            reads.insert_outside(range.start..range.end, writes);
        }
        self.by_id.len() > known
    }

    /// Notes what is written, if the allocation is known.
    fn record_writes(&mut self, range: &MemRange) {
        if range.access.writes()
            && range.start < range.end
            && let Some(touched) = self.by_id.get_mut(&range.allocation)
        {
            if touched.writes.is_empty() {
                self.written.push(range.allocation);
            }
            touched.writes.insert(range.start..range.end);
        }
    }

    fn append(&mut self, next: &Touches) {
        for (&id, more) in &next.by_id {
            let Touched { reads, writes } = self.by_id.entry(id).or_default();
            more.reads.iter().for_each(|range| reads.insert_outside(range.clone(), writes));
            if writes.is_empty() && !more.writes.is_empty() {
                self.written.push(id);
            }
            more.writes.iter().for_each(|range| writes.insert(range.clone()));
        }
    }

    /// Whether the allocation is touched.
    pub fn contains(&self, allocation: u64) -> bool {
        self.by_id.contains_key(&allocation)
    }

    /// Whether the allocation is written.
    pub fn writes_to(&self, allocation: u64) -> bool {
        self.by_id.get(&allocation).is_some_and(|touched| !touched.writes.is_empty())
    }

    /// What is written, by allocation.
    pub fn writes(&self) -> impl Iterator<Item = (u64, &RangeSet)> {
        self.written.iter().map(|id| (*id, &self.by_id[id].writes))
    }

    /// Bytes of an allocation that are read, and were not written by `newer` work in between.
    pub fn reads_behind(&self, allocation: u64, newer: &[&Touches]) -> RangeSet {
        let Some(touched) = self.by_id.get(&allocation) else { return RangeSet::default() };
        let mut reads = touched.reads.clone();
        for between in newer.iter().filter_map(|newer| newer.by_id.get(&allocation)) {
            let mut rest = RangeSet::default();
            reads.iter().for_each(|range| rest.insert_outside(range.clone(), &between.writes));
            reads = rest;
        }
        reads
    }

    /// Which of the works before this one, newest first and each once, it reads results of: positions in `before`.
    pub fn depends_on(&self, before: &[&Touches]) -> SmallVec<[usize; 4]> {
        if before.is_empty() {
            return SmallVec::new();
        }
        if !self.lasting || before.iter().any(|other| !other.lasting) {
            return self.search(before);
        }
        let key: SmallVec<[u64; 4]> = before.iter().map(|other| other.identity).collect();
        if let Some(known) = lock(&self.memo).get(&key) {
            return known.clone();
        }
        let found = self.search(before);
        let mut memo = lock(&self.memo);
        if memo.len() >= REMEMBERED {
            memo.clear();
        }
        memo.insert(key, found.clone());
        found
    }

    fn search(&self, before: &[&Touches]) -> SmallVec<[usize; 4]> {
        let reads_of = |position: usize| {
            before[position].writes().any(|(id, writes)| {
                let meets = |reads: &RangeSet| writes.iter().any(|range| reads.overlaps(range));
                self.by_id.get(&id).is_some_and(|touched| meets(&touched.reads))
                    && (position == 0 || meets(&self.reads_behind(id, &before[..position])))
            })
        };
        (0..before.len()).filter(|&position| reads_of(position)).collect()
    }
}

/// Who wrote which bytes of an allocation last, as far as that failed.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    spans: Vec<(Range<usize>, Arc<Fate>)>,
}

impl Writers {
    /// Remembers that a submission wrote these bytes.
    pub fn record(&mut self, writes: &RangeSet, fate: &Arc<Fate>) {
        for range in writes.iter() {
            self.forget(range);
            self.spans.push((range.clone(), fate.clone()));
        }
    }

    /// Forgets who wrote these bytes.
    pub fn forget(&mut self, range: &Range<usize>) {
        for index in (0..self.spans.len()).rev() {
            let Range { start, end } = self.spans[index].0;
            if range.start.max(start) >= range.end.min(end) {
                continue;
            }
            let (_, fate) = self.spans.swap_remove(index);
            let (before, after) = (start..range.start, range.end..end);
            let rest = [before, after].into_iter().filter(|part| !part.is_empty());
            self.spans.extend(rest.map(|part| (part, fate.clone())));
        }
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The submissions that wrote a byte of `bytes` last.
    pub fn of<'a>(&'a self, bytes: &'a RangeSet) -> impl Iterator<Item = &'a Arc<Fate>> {
        let touched = self.spans.iter().filter(|(range, _)| bytes.overlaps(range));
        touched.map(|(_, fate)| fate)
    }
}
