//! Sets of bytes as sorted, disjoint ranges.

use std::ops::Range;

/// A set of byte positions. Ranges that touch are one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    ranges: Vec<Range<usize>>,
}

impl RangeSet {
    /// Adds all positions of `range`.
    pub fn insert(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|r| r.end < range.start);
        let last = self.ranges.partition_point(|r| r.start <= range.end);
        if let [known] = &self.ranges[first..last]
            && known.start <= range.start
            && range.end <= known.end
        {
            return;
        }
        let mut merged = range;
        for touched in &self.ranges[first..last] {
            merged = merged.start.min(touched.start)..merged.end.max(touched.end);
        }
        self.ranges.splice(first..last, [merged]);
    }

    /// Adds the positions of `range` that are not in `other`.
    pub fn insert_outside(&mut self, range: Range<usize>, other: &RangeSet) {
        let mut start = range.start;
        for covered in other.meeting(&range) {
            if start < covered.start {
                self.insert(start..covered.start);
            }
            start = start.max(covered.end);
        }
        if start < range.end {
            self.insert(start..range.end);
        }
    }

    /// Whether a position of `range` is in the set.
    pub fn overlaps(&self, range: &Range<usize>) -> bool {
        self.meeting(range).next().is_some()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = &Range<usize>> {
        self.ranges.iter()
    }

    /// The set's ranges that share a position with `range`, in order.
    fn meeting(&self, range: &Range<usize>) -> impl Iterator<Item = &Range<usize>> {
        let Range { start, end } = *range;
        let first = self.ranges.partition_point(|r| r.end <= start);
        self.ranges[first..].iter().take_while(move |r| start < end && r.start < end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 48;

    fn positions(set: &RangeSet) -> Vec<bool> {
        (0..LIMIT).map(|at| set.iter().any(|r| r.contains(&at))).collect()
    }

    fn any_ranges() -> impl Strategy<Value = Vec<Range<usize>>> {
        prop::collection::vec((0..40_usize, 0..8_usize).prop_map(|(at, len)| at..at + len), 0..10)
    }

    proptest! {
        /// Against a table of booleans.
        #[test]
        fn agrees_with_positions(first in any_ranges(), second in any_ranges(), probe in 0..40_usize, len in 0..8_usize) {
            let (mut one, mut other) = (RangeSet::default(), RangeSet::default());
            first.iter().for_each(|r| one.insert(r.clone()));
            second.iter().for_each(|r| other.insert_outside(r.clone(), &one));
            let inside = |ranges: &[Range<usize>], at: usize| ranges.iter().any(|r| r.contains(&at));
            let expected: Vec<bool> = (0..LIMIT).map(|at| inside(&first, at)).collect();
            prop_assert_eq!(positions(&one), expected.clone());
            let outside: Vec<bool> = (0..LIMIT).map(|at| inside(&second, at) && !expected[at]).collect();
            prop_assert_eq!(positions(&other), outside);
            prop_assert!(one.ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "sorted and merged");
            let probe = probe..probe + len;
            prop_assert_eq!(one.overlaps(&probe), probe.clone().any(|at| expected[at]));
        }
    }
}
