//! The one hazard rule: which pairs of accesses order two dispatches.
//!
//! Two accesses conflict if they touch a common byte of one allocation and at least one of them writes: read
//! after write, write after read, write after write. Nothing else orders dispatches. The live encoder and the
//! encoder of graphs both ask [`MemRanges`].

use smallvec::SmallVec;

use crate::hal::signature::Access;
use crate::id_map::IdMap;

/// A half-open range of bytes in one allocation, and what is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemRange {
    /// Identity of the allocation; equal for memory that aliases.
    pub allocation: u64,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Whether the kernel reads, writes or both.
    pub access: Access,
}

impl MemRange {
    /// Whether the ranges share a byte.
    pub fn overlaps(&self, other: &MemRange) -> bool {
        self.allocation == other.allocation && self.start.max(other.start) < self.end.min(other.end)
    }

    /// The hazard if `self` comes before `later`.
    pub fn hazard(&self, later: &MemRange) -> Option<Hazard> {
        if !self.overlaps(later) {
            return None;
        }
        if self.access.writes() && later.access.reads() {
            Some(Hazard::ReadAfterWrite)
        } else if self.access.writes() && later.access.writes() {
            Some(Hazard::WriteAfterWrite)
        } else if self.access.reads() && later.access.writes() {
            Some(Hazard::WriteAfterRead)
        } else {
            None
        }
    }
}

/// Why one access must wait for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hazard {
    /// It reads what the other writes.
    ReadAfterWrite,
    /// It overwrites what the other reads.
    WriteAfterRead,
    /// It overwrites what the other writes.
    WriteAfterWrite,
}

/// The accesses of the dispatches since the last barrier.
#[derive(Debug, Default)]
pub struct MemRanges {
    by_allocation: IdMap<SmallVec<[MemRange; 4]>>,
}

impl MemRanges {
    /// No accesses.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first hazard between what is recorded and a later dispatch with these accesses.
    pub fn hazard(&self, later: &[MemRange]) -> Option<Hazard> {
        later.iter().find_map(|range| {
            self.by_allocation.get(&range.allocation)?.iter().find_map(|earlier| earlier.hazard(range))
        })
    }

    /// Records the accesses of a dispatch. Empty ranges touch nothing.
    pub fn record(&mut self, ranges: &[MemRange]) {
        for &range in ranges.iter().filter(|range| range.start < range.end) {
            let known = self.by_allocation.entry(range.allocation).or_default();
            if !known.contains(&range) {
                known.push(range);
            }
        }
    }

    /// Forgets everything, as a barrier does.
    pub fn clear(&mut self) {
        // Keeps the lists' memory: the next group mostly touches the same allocations.
        self.by_allocation.values_mut().for_each(SmallVec::clear);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: usize, end: usize, access: Access) -> MemRange {
        MemRange { allocation: 1, start, end, access }
    }

    #[test]
    fn neighbours_do_not_touch() {
        let mut ranges = MemRanges::new();
        ranges.record(&[range(0, 64, Access::Write)]);
        assert_eq!(ranges.hazard(&[range(64, 128, Access::ReadWrite)]), None);
        assert_eq!(ranges.hazard(&[range(63, 64, Access::Read)]), Some(Hazard::ReadAfterWrite));
    }

    #[test]
    fn every_pair_of_accesses() {
        use Access::{Read, ReadWrite, Write};
        use Hazard::{ReadAfterWrite, WriteAfterRead, WriteAfterWrite};
        for (earlier, later, expected) in [
            (Read, Read, None),
            (Read, Write, Some(WriteAfterRead)),
            (Read, ReadWrite, Some(WriteAfterRead)),
            (Write, Read, Some(ReadAfterWrite)),
            (Write, Write, Some(WriteAfterWrite)),
            (Write, ReadWrite, Some(ReadAfterWrite)),
            (ReadWrite, Read, Some(ReadAfterWrite)),
            (ReadWrite, Write, Some(WriteAfterWrite)),
            (ReadWrite, ReadWrite, Some(ReadAfterWrite)),
        ] {
            let mut ranges = MemRanges::new();
            ranges.record(&[range(0, 4, earlier)]);
            assert_eq!(ranges.hazard(&[range(0, 4, later)]), expected, "{earlier:?} then {later:?}");
        }
    }

    #[test]
    fn other_allocations_and_empty_ranges_do_not_matter() {
        let mut ranges = MemRanges::new();
        ranges.record(&[range(0, 64, Access::Write), range(8, 8, Access::Write)]);
        let other = MemRange { allocation: 2, ..range(0, 64, Access::Write) };
        assert_eq!(ranges.hazard(&[other]), None);
        assert_eq!(ranges.hazard(&[range(16, 16, Access::Write)]), None);
        ranges.clear();
        assert_eq!(ranges.hazard(&[range(0, 64, Access::Write)]), None);
    }

    fn any_range() -> impl Strategy<Value = MemRange> {
        let access = prop_oneof![Just(Access::Read), Just(Access::Write), Just(Access::ReadWrite)];
        (0..3_u64, 0..20_usize, 0..6_usize, access).prop_map(|(allocation, start, len, access)| MemRange {
            allocation,
            start,
            end: start + len,
            access,
        })
    }

    proptest! {
        /// Against the definition, byte by byte.
        #[test]
        fn agrees_with_bytes(
            earlier in prop::collection::vec(any_range(), 0..12),
            later in prop::collection::vec(any_range(), 0..4),
        ) {
            let mut ranges = MemRanges::new();
            ranges.record(&earlier);
            let byte_conflict = (0..3_u64).any(|allocation| (0..32_usize).any(|byte| {
                let touches = |r: &&MemRange| r.allocation == allocation && r.start <= byte && byte < r.end;
                let one = |list: &[MemRange], f: fn(Access) -> bool| list.iter().filter(touches).any(|r| f(r.access));
                let (wrote, read) = (one(&earlier, Access::writes), one(&earlier, Access::reads));
                let (writes, reads) = (one(&later, Access::writes), one(&later, Access::reads));
                (wrote && (reads || writes)) || (read && writes)
            }));
            prop_assert_eq!(ranges.hazard(&later).is_some(), byte_conflict);
        }
    }
}
