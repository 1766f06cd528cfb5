//! What a submission does to memory, and who wrote memory last: what failure spreads along.
//!
//! The rule, byte by byte: a byte is *bad* if the last submission that wrote it failed. A submission that reads a
//! bad byte, without having written it itself before, fails without being run, with
//! [`Error::Poisoned`](crate::Error::Poisoned). One that only overwrites bad bytes runs, and they are good if it
//! succeeds. The host may not read bad bytes; writing them makes them good. Nothing else spreads a failure: neither
//! sharing an allocation nor coming later.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::buffer::{Allocation, Buffer};
use crate::hazard::MemRange;
use crate::range_set::RangeSet;
use crate::submission::Fate;

/// The memory that the dispatches of a submission touch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses {
    by_id: HashMap<u64, Use>,
}

/// What a submission does to one allocation.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    /// The memory.
    pub allocation: Arc<Allocation>,
    /// Bytes whose earlier contents matter: read before the submission has written them.
    pub reads: RangeSet,
    /// Bytes that it writes.
    pub writes: RangeSet,
}

impl Uses {
    /// Adds the next dispatch: its views, and the ranges that they stand for.
    pub fn record(&mut self, views: &[Buffer], ranges: &[MemRange]) {
        for (view, range) in views.iter().zip(ranges) {
            if !view.allocation().is_tracked() {
                continue;
            }
            let used = self.by_id.entry(range.allocation).or_insert_with(|| Use::new(view.allocation()));
            if range.access.reads() {
                let Use { reads, writes, .. } = used;
                reads.insert_outside(range.start..range.end, writes);
            }
        }
        for range in ranges.iter().filter(|range| range.access.writes()) {
            if let Some(used) = self.by_id.get_mut(&range.allocation) {
                used.writes.insert(range.start..range.end);
            }
        }
    }

    /// The allocations used.
    pub fn iter(&self) -> impl Iterator<Item = &Use> {
        self.by_id.values()
    }

    /// Whether the allocation of this identity is used.
    pub fn contains(&self, allocation: u64) -> bool {
        self.by_id.contains_key(&allocation)
    }
}

impl Use {
    fn new(allocation: &Arc<Allocation>) -> Self {
        Use { allocation: allocation.clone(), reads: RangeSet::default(), writes: RangeSet::default() }
    }
}

/// Who wrote which bytes of an allocation last, as far as it is not known that it went well.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    spans: Vec<(Range<usize>, Arc<Fate>)>,
}

impl Writers {
    /// Remembers that a submission writes these bytes.
    pub fn record(&mut self, writes: &RangeSet, fate: &Arc<Fate>) {
        self.spans.retain(|(_, writer)| !writer.succeeded());
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

    /// The submissions that wrote a byte of `bytes` last and have failed or not ended yet.
    pub fn of<'a>(&'a self, bytes: &'a RangeSet) -> impl Iterator<Item = &'a Arc<Fate>> {
        let touched = self.spans.iter().filter(|(range, _)| bytes.overlaps(range));
        touched.map(|(_, fate)| fate).filter(|fate| !fate.succeeded())
    }
}
