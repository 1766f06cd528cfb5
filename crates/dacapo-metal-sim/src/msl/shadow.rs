//! Who touched which word of memory since when: races, and accesses outside of what is bound.
//!
//! Two accesses to a word, one of them a write, by two threads, are a race unless a barrier for that memory lies between
//! them: of the threadgroup, or of the simdgroup if both belong to it. Threadgroups of a dispatch are never ordered.
//! Atomics do not race with each other.

use std::ops::Range;

use super::abi::{WIDTH, access, flags};

/// A thread at a point of its run, as far as barriers have counted it.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub group: u32,
    pub thread: u32,
    /// Barriers of the threadgroup so far that order device memory and threadgroup memory.
    pub epochs: Epochs,
    /// The same of its simdgroup.
    pub simd_epochs: Epochs,
}

/// Counts of barriers, by the memory that they order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epochs {
    device: u32,
    threadgroup: u32,
}

impl Epochs {
    /// Another barrier.
    pub fn advance(&mut self, ordered: u32) {
        self.device += u32::from(ordered & flags::DEVICE != 0);
        self.threadgroup += u32::from(ordered & flags::THREADGROUP != 0);
    }
}

/// Which accesses a word has seen last.
#[derive(Debug, Clone, Copy, Default)]
struct Stamp {
    set: bool,
    atomic: bool,
    /// More than one thread, more than one simdgroup, more than one threadgroup since the last barrier.
    several: bool,
    several_simdgroups: bool,
    several_groups: bool,
    /// Bytes of the word.
    bytes: u8,
    group: u32,
    thread: u32,
    epoch: u32,
    simd_epoch: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Word {
    written: Stamp,
    read: Stamp,
}

impl Stamp {
    /// Whether a barrier, or the order of a thread's own steps, lies between this and a later access.
    fn before(&self, later: &Stamp) -> bool {
        if self.several_groups || self.group != later.group {
            return false;
        }
        let own = !self.several && self.thread == later.thread;
        let together = !self.several_simdgroups && self.thread / WIDTH as u32 == later.thread / WIDTH as u32;
        own || self.epoch < later.epoch || (together && self.simd_epoch < later.simd_epoch)
    }

    /// Whether the two may not happen at once, and may.
    fn conflicts(&self, later: &Stamp) -> bool {
        self.set && self.bytes & later.bytes != 0 && !(self.atomic && later.atomic) && !self.before(later)
    }

    /// Both accesses, the later one's place in order.
    fn joined(&self, later: &Stamp) -> Stamp {
        if !self.set || self.before(later) && !later.several {
            let bytes = if self.set && self.thread != later.thread { self.bytes } else { 0 };
            return Stamp { bytes: bytes | later.bytes, ..*later };
        }
        Stamp {
            bytes: self.bytes | later.bytes,
            several: true,
            several_simdgroups: self.several_simdgroups
                || self.thread / WIDTH as u32 != later.thread / WIDTH as u32,
            several_groups: self.several_groups || self.group != later.group,
            ..*later
        }
    }
}

/// Memory with a record for each word.
#[derive(Debug)]
struct Region {
    range: Range<usize>,
    threadgroup: bool,
    words: Vec<Word>,
}

/// Memory that an argument names.
#[derive(Debug, Clone)]
pub struct Named {
    pub name: String,
    pub range: Range<usize>,
    pub writes: bool,
}

/// All memory that a dispatch may touch.
#[derive(Debug)]
pub struct Shadow {
    buffers: Vec<Named>,
    threadgroup: Vec<Named>,
    /// The module's own constants.
    module: Range<usize>,
    regions: Vec<Region>,
}

impl Shadow {
    /// For a dispatch with these arguments.
    pub fn new(buffers: Vec<Named>, threadgroup: Vec<Named>, module: Range<usize>) -> Shadow {
        let mut ranges: Vec<_> =
            buffers.iter().filter(|named| named.writes).map(|n| n.range.clone()).collect();
        ranges.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<usize>> = Vec::new();
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            match merged.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        let region = |range: Range<usize>, threadgroup| {
            let words = vec![Word::default(); range.end.div_ceil(4) - range.start / 4];
            Region { range, threadgroup, words }
        };
        let mut regions: Vec<_> = merged.into_iter().map(|range| region(range, false)).collect();
        regions.extend(threadgroup.iter().map(|named| region(named.range.clone(), true)));
        Shadow { buffers, threadgroup, module, regions }
    }

    /// Threadgroup memory is new.
    pub fn next_group(&mut self) {
        for region in self.regions.iter_mut().filter(|region| region.threadgroup) {
            region.words.fill(Word::default());
        }
    }

    /// Notes an access to memory that is not a stack.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn access(&mut self, at: usize, size: usize, kind: u32, moment: &Moment) -> Result<(), String> {
        let covers = |named: &&Named| at >= named.range.start && at + size <= named.range.end;
        let writes = kind != access::READ;
        let found = self.buffers.iter().chain(&self.threadgroup).find(covers);
        let Some(named) = found else {
            let inside = at >= self.module.start && at + size <= self.module.end;
            if inside && !writes {
                return Ok(());
            }
            return Err(self.outside(at, size, writes));
        };
        let reached = |region: &&mut Region| at < region.range.end && at + size > region.range.start;
        let Some(region) = self.regions.iter_mut().find(reached) else { return Ok(()) };
        let first = region.range.start / 4;
        for word in at / 4..(at + size).div_ceil(4) {
            let start = at.max(word * 4) - word * 4;
            let end = (at + size).min(word * 4 + 4) - word * 4;
            let bytes = ((1u32 << end) - (1 << start)) as u8;
            let Some(record) = word.checked_sub(first).and_then(|i| region.words.get_mut(i)) else {
                continue;
            };
            let stamp = stamp(moment, region.threadgroup, kind, bytes);
            if let Some(other) = record.note(&stamp, writes) {
                let name = named.name.clone();
                let offset = word * 4 - named.range.start.min(word * 4);
                return Err(race(&name, offset, &other, &stamp, kind));
            }
        }
        Ok(())
    }

    fn outside(&self, at: usize, size: usize, writes: bool) -> String {
        let all = || self.buffers.iter().chain(&self.threadgroup);
        let distance = |named: &&Named| {
            if at < named.range.start { named.range.start - at } else { at - named.range.end.min(at) }
        };
        let verb = if writes { "write" } else { "read" };
        match all().min_by_key(distance) {
            Some(near) => format!(
                "out of bounds: a {verb} of {size} bytes at offset {} of {}, which has {}",
                at as i128 - near.range.start as i128,
                near.name,
                near.range.len()
            ),
            None => format!("out of bounds: a {verb} of {size} bytes, and nothing is bound"),
        }
    }
}

fn stamp(moment: &Moment, threadgroup: bool, kind: u32, bytes: u8) -> Stamp {
    let of = |epochs: &Epochs| if threadgroup { epochs.threadgroup } else { epochs.device };
    Stamp {
        set: true,
        atomic: kind == access::ATOMIC,
        bytes,
        group: moment.group,
        thread: moment.thread,
        epoch: of(&moment.epochs),
        simd_epoch: of(&moment.simd_epochs),
        ..Stamp::default()
    }
}

impl Word {
    /// Notes an access; gives the one that it races with.
    fn note(&mut self, stamp: &Stamp, writes: bool) -> Option<Stamp> {
        if self.written.conflicts(stamp) {
            return Some(self.written);
        }
        if !writes {
            self.read = self.read.joined(stamp);
            return None;
        }
        if self.read.conflicts(stamp) {
            return Some(self.read);
        }
        self.written = self.written.joined(stamp);
        None
    }
}

fn race(name: &str, offset: usize, earlier: &Stamp, later: &Stamp, kind: u32) -> String {
    let verb = ["a read", "a write", "an atomic operation"][(kind as usize).min(2)];
    let missing = if earlier.group != later.group || earlier.several_groups {
        "and threadgroups are not ordered"
    } else {
        "and no barrier for that memory lies between them"
    };
    format!(
        "race: {verb} of {name} at offset {offset} by thread {} of threadgroup {} meets one by thread {} of \
         threadgroup {}, {missing}",
        later.thread, later.group, earlier.thread, earlier.group
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(group: u32, thread: u32, barriers: u32, simd_barriers: u32) -> Moment {
        let epochs = |count| Epochs { device: count, threadgroup: count };
        Moment { group, thread, epochs: epochs(barriers), simd_epochs: epochs(simd_barriers) }
    }

    fn shadow() -> Shadow {
        let named = |name: &str, range, writes| Named { name: name.into(), range, writes };
        let buffers = vec![named("buffer(0)", 1000..1100, true), named("buffer(1)", 2000..2100, false)];
        Shadow::new(buffers, vec![named("threadgroup(0)", 3000..3064, true)], 5000..5100)
    }

    const WRITE: u32 = 1;

    #[test]
    fn accesses_without_a_barrier_between_them_are_races() {
        for (first, second) in
            [(WRITE, WRITE), (WRITE, access::READ), (access::READ, WRITE), (access::ATOMIC, WRITE)]
        {
            for at in [1000, 3000] {
                let mut shadow = shadow();
                assert_eq!(shadow.access(at, 4, first, &moment(0, 1, 0, 0)), Ok(()));
                assert_eq!(shadow.access(at, 4, second, &moment(0, 1, 0, 0)), Ok(()), "its own");
                assert_eq!(shadow.access(at + 4, 4, second, &moment(0, 2, 0, 0)), Ok(()), "another word");
                let error = shadow.access(at, 4, second, &moment(0, 2, 0, 0)).expect_err("a race");
                assert!(error.starts_with("race") && error.contains("no barrier"), "{error}");
            }
        }
    }

    #[test]
    fn barriers_order_and_only_their_own_simdgroup_if_they_are_of_one() {
        let mut shadow = shadow();
        assert_eq!(shadow.access(3000, 4, WRITE, &moment(0, 1, 0, 0)), Ok(()));
        assert_eq!(shadow.access(3000, 4, WRITE, &moment(0, 40, 1, 0)), Ok(()));
        assert_eq!(shadow.access(3000, 4, access::READ, &moment(0, 41, 1, 1)), Ok(()));
        assert!(shadow.access(3000, 4, WRITE, &moment(0, 2, 1, 1)).is_err());
        assert!(shadow.access(3000, 4, access::READ, &moment(0, 3, 1, 7)).is_err());
    }

    #[test]
    fn many_readers_are_all_remembered() {
        let mut shadow = shadow();
        for thread in [5, 70, 6] {
            assert_eq!(shadow.access(1000, 16, access::READ, &moment(0, thread, 3, 0)), Ok(()));
        }
        assert!(shadow.access(1004, 4, WRITE, &moment(0, 6, 3, 9)).is_err(), "others read it too");
        assert_eq!(shadow.access(1004, 4, WRITE, &moment(0, 6, 4, 0)), Ok(()));
    }

    #[test]
    fn threadgroups_meet_in_device_memory_alone() {
        let mut shadow = shadow();
        assert_eq!(shadow.access(1000, 4, access::ATOMIC, &moment(0, 1, 9, 9)), Ok(()));
        assert_eq!(shadow.access(1000, 4, access::ATOMIC, &moment(1, 1, 0, 0)), Ok(()));
        let error = shadow.access(1000, 4, access::READ, &moment(1, 1, 0, 0)).expect_err("a race");
        assert!(error.contains("threadgroups are not ordered"), "{error}");
        assert_eq!(shadow.access(3000, 4, WRITE, &moment(0, 1, 0, 0)), Ok(()));
        shadow.next_group();
        assert_eq!(shadow.access(3000, 4, WRITE, &moment(1, 2, 0, 0)), Ok(()));
    }

    #[test]
    fn bytes_of_a_word_are_apart() {
        let mut shadow = shadow();
        assert_eq!(shadow.access(1000, 2, WRITE, &moment(0, 1, 0, 0)), Ok(()));
        assert_eq!(shadow.access(1002, 2, WRITE, &moment(0, 2, 0, 0)), Ok(()));
        assert!(shadow.access(1000, 4, access::READ, &moment(0, 3, 0, 0)).is_err());
    }

    #[test]
    fn memory_is_what_arguments_name() {
        let mut shadow = shadow();
        let at = moment(0, 0, 0, 0);
        assert_eq!(shadow.access(2096, 4, access::READ, &at), Ok(()));
        assert_eq!(shadow.access(5000, 4, access::READ, &at), Ok(()));
        for (place, size, kind) in
            [(2097, 4, 0), (996, 8, 0), (5000, 4, WRITE), (3064, 4, 0), (9000, 1, WRITE)]
        {
            let error = shadow.access(place, size, kind, &at).expect_err("outside");
            assert!(error.starts_with("out of bounds"), "{error}");
        }
        let error = shadow.access(2100, 4, 0, &at).expect_err("outside");
        assert!(error.contains("offset 100 of buffer(1), which has 100"), "{error}");
    }
}
