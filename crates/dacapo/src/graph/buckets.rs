//! Sizes that graphs are compiled for, where a graph for every size would be too many.

use std::sync::Arc;

use super::{CompiledGraph, GraphCache};
use crate::{Error, Result};

/// Sizes in rising order, such as KV lengths or batch sizes. A graph that is compiled for one serves all that are not
/// larger: its buffers have the bucket's size, and its kernels read from a buffer how much of them is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    sizes: Vec<usize>,
}

impl Buckets {
    /// Buckets of these sizes, in any order.
    pub fn new(sizes: impl IntoIterator<Item = usize>) -> Self {
        let mut sizes: Vec<usize> = sizes.into_iter().collect();
        sizes.sort_unstable();
        sizes.dedup();
        Buckets { sizes }
    }

    /// `first`, and twice the one before until `last` fits: at most half of a bucket beyond the first is unused.
    pub fn doubling(first: usize, last: usize) -> Self {
        let sizes = std::iter::successors(Some(first.max(1)), |size| size.checked_mul(2));
        Buckets::new(sizes.take_while(|&size| size < last).chain([last]))
    }

    /// The sizes, in rising order.
    pub fn sizes(&self) -> &[usize] {
        &self.sizes
    }

    /// The smallest size that is at least `need`.
    ///
    /// # Errors
    /// [`Error::NoBucket`] if there is none.
    pub fn fit(&self, need: usize) -> Result<usize> {
        let fits = self.sizes.get(self.sizes.partition_point(|&size| size < need));
        let largest = self.sizes.last().copied().unwrap_or(0);
        fits.copied().ok_or(Error::NoBucket { need, largest })
    }
}

impl<const D: usize> GraphCache<[usize; D]> {
    /// The variant of a graph for the smallest buckets that hold `need`, one size in each of `D` dimensions. If it is not
    /// there, `compile` makes it for the sizes that it is given.
    ///
    /// # Errors
    /// [`Error::NoBucket`]; what `compile` fails with. The cache is then as before.
    pub fn fit_or_compile<E: From<Error>>(
        &mut self,
        buckets: [&Buckets; D],
        need: [usize; D],
        compile: impl FnOnce([usize; D]) -> Result<CompiledGraph, E>,
    ) -> Result<Arc<CompiledGraph>, E> {
        let mut key = need;
        for (size, buckets) in key.iter_mut().zip(buckets) {
            *size = buckets.fit(*size)?;
        }
        self.get_or_compile(&key, || compile(key))
    }
}
