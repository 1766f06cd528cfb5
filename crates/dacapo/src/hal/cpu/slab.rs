//! Large mappings in huge pages, shared by blocks of memory.
//!
//! A page of 2 MiB takes one entry of the processor's table of addresses, where pages of 4 KiB take 512, and what fetches ahead does not
//! stop at every fourth kilobyte. But only what fills whole huge pages gets them; the weights of a small model do so together,
//! not each for itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Alignment of mappings, the size of a huge page.
const HUGE: usize = 2 << 20;

/// Bytes of a mapping that blocks share.
const SHARED: usize = 32 << 20;

/// From this size on, a block has a mapping of its own.
const OWN: usize = SHARED / 2;

/// Granularity of blocks: a page, so that hints to the system about one never reach into another.
const PAGE: usize = 4096;

/// A mapping, unmapped when the last of its blocks is gone.
#[derive(Debug)]
struct Slab {
    map: memmap2::MmapMut,
    /// Where the first whole huge page begins.
    start: usize,
    free: Mutex<Free>,
}

/// What no block has.
#[derive(Debug)]
struct Free {
    /// Offsets and lengths of what blocks have given back.
    used: BTreeMap<usize, usize>,
    /// From here on nothing was ever used, so that it is still zero.
    fresh: usize,
    end: usize,
}

impl Free {
    /// The offset of `len` bytes, and whether they may have been written to.
    fn take(&mut self, len: usize) -> Option<(usize, bool)> {
        let fits = self.used.iter().filter(|&(_, &free)| free >= len).min_by_key(|&(_, &free)| free);
        if let Some((&offset, &free)) = fits {
            self.used.remove(&offset);
            if free > len {
                self.used.insert(offset + len, free - len);
            }
            return Some((offset, true));
        }
        let offset = self.fresh;
        (self.end - offset >= len).then(|| {
            self.fresh += len;
            (offset, false)
        })
    }

    /// Takes a block back and joins it with its neighbours.
    fn give(&mut self, mut offset: usize, mut len: usize) {
        if let Some(next) = self.used.remove(&(offset + len)) {
            len += next;
        }
        if let Some((&before, &free)) = self.used.range(..offset).next_back()
            && before + free == offset
        {
            self.used.remove(&before);
            (offset, len) = (before, free + len);
        }
        self.used.insert(offset, len);
    }
}

impl Slab {
    /// A mapping with room for `len` bytes, a multiple of a page; `None` if the system has no more memory.
    fn new(len: usize) -> Option<Slab> {
        let map = memmap2::MmapMut::map_anon(len.checked_add(HUGE)?).ok()?;
        let start = map.as_ptr().align_offset(HUGE);
        // Only a hint: without huge pages everything works, slower.
        #[cfg(target_os = "linux")]
        let _ = map.advise_range(memmap2::Advice::HugePage, start, len);
        Some(Slab { map, start, free: Mutex::new(Free { used: BTreeMap::new(), fresh: 0, end: len }) })
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Zeroed memory in a mapping.
#[derive(Debug)]
pub(super) struct Block {
    slab: Arc<Slab>,
    offset: usize,
    len: usize,
}

impl Block {
    /// `len` bytes of a mapping, zeroed; `None` if it has not that much left.
    fn of(slab: Arc<Slab>, len: usize) -> Option<Block> {
        let len = len.next_multiple_of(PAGE);
        let (offset, written) = slab.free().take(len)?;
        let block = Block { slab, offset, len };
        if written {
            // SAFETY: the block is in the mapping, and nobody else has it.
            unsafe { std::ptr::write_bytes(block.ptr().as_ptr(), 0, len) }
        }
        Some(block)
    }

    /// Its first byte, aligned to a page.
    pub fn ptr(&self) -> NonNull<u8> {
        let at = self.slab.map.as_ptr().cast_mut().wrapping_add(self.slab.start + self.offset);
        NonNull::new(at).expect("a mapping is nowhere near address 0")
    }

    /// Asks the system for its pages now.
    pub fn populate(&self) {
        // Only a hint, which older systems do not know: the first use then faults the pages in.
        #[cfg(target_os = "linux")]
        {
            let range = self.range();
            let _ = self.slab.map.advise_range(memmap2::Advice::PopulateWrite, range.start, range.len());
        }
    }

    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "elsewhere there are no hints"))]
    fn range(&self) -> Range<usize> {
        let start = self.slab.start + self.offset;
        start..start + self.len
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.slab.free().give(self.offset, self.len);
    }
}

/// The mappings that blocks of a device share.
#[derive(Debug, Default)]
pub(super) struct Slabs(Mutex<Vec<Weak<Slab>>>);

impl Slabs {
    /// `len` zeroed bytes; `None` if the system has no more memory.
    pub fn allocate(&self, len: usize) -> Option<Block> {
        if len >= OWN {
            return Block::of(Arc::new(Slab::new(len.next_multiple_of(PAGE))?), len);
        }
        let mut slabs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slabs.retain(|slab| slab.strong_count() > 0);
        if let Some(block) = slabs.iter().filter_map(Weak::upgrade).find_map(|slab| Block::of(slab, len)) {
            return Some(block);
        }
        let slab = Arc::new(Slab::new(SHARED)?);
        slabs.push(Arc::downgrade(&slab));
        Block::of(slab, len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Block {
        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the block is in the mapping, and only this object has it.
            unsafe { std::slice::from_raw_parts_mut(self.ptr().as_ptr(), self.len) }
        }
    }

    #[test]
    fn blocks_share_a_mapping_and_give_it_back() {
        let slabs = Slabs::default();
        let first = slabs.allocate(100_000).expect("fits");
        let second = slabs.allocate(3 << 20).expect("fits");
        assert!(Arc::ptr_eq(&first.slab, &second.slab));
        assert_eq!(first.ptr().as_ptr() as usize % HUGE, 0);
        let own = slabs.allocate(OWN).expect("fits");
        assert!(!Arc::ptr_eq(&first.slab, &own.slab));
        let weak = Arc::downgrade(&first.slab);
        drop((first, second));
        assert!(weak.upgrade().is_none(), "the mapping is still there");
    }

    #[test]
    fn what_was_given_back_is_used_again_and_zero() {
        let slabs = Slabs::default();
        let keep = slabs.allocate(PAGE).expect("fits");
        let mut a = slabs.allocate(5 * PAGE).expect("fits");
        let b = slabs.allocate(3 * PAGE).expect("fits");
        a.bytes().fill(7);
        let at = a.ptr();
        drop(b);
        drop(a);
        let mut both = slabs.allocate(8 * PAGE).expect("fits");
        assert_eq!(both.ptr(), at, "neighbours were not joined");
        assert!(both.bytes().iter().all(|&b| b == 0));
        drop(keep);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn blocks_never_overlap(steps in prop::collection::vec((any::<bool>(), 0..64usize, 1..200_000usize), 1..60)) {
            let slabs = Slabs::default();
            let mut blocks: Vec<(u8, Block)> = Vec::new();
            for (i, (drop_one, which, len)) in steps.into_iter().enumerate() {
                if drop_one && !blocks.is_empty() {
                    let (mark, mut block) = blocks.swap_remove(which % blocks.len());
                    prop_assert!(block.bytes().iter().all(|&b| b == mark));
                } else {
                    let mut block = slabs.allocate(len).expect("fits");
                    prop_assert!(block.bytes().iter().all(|&b| b == 0));
                    let mark = i as u8 + 1;
                    block.bytes().fill(mark);
                    blocks.push((mark, block));
                }
            }
            for (mark, mut block) in blocks {
                prop_assert!(block.bytes().iter().all(|&b| b == mark));
            }
        }
    }
}
