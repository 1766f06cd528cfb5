//! A bounded cache of compiled graphs.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::CompiledGraph;
use crate::Result;

/// What a cache has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Graphs that were there.
    pub hits: u64,
    /// Graphs that had to be compiled.
    pub misses: u64,
    /// Graphs dropped for lack of room.
    pub evictions: u64,
}

/// Compiled graphs by a key of the caller's: exact sizes, or [`Buckets`](super::Buckets) of them. When it is full, the
/// graph that was not asked for the longest gives way. A graph that somebody still holds lives on.
#[derive(Debug)]
pub struct GraphCache<K> {
    capacity: usize,
    /// Graphs, each with the time of its last use.
    entries: HashMap<K, (Arc<CompiledGraph>, u64)>,
    clock: u64,
    stats: CacheStats,
}

impl<K: Hash + Eq + Clone> GraphCache<K> {
    /// An empty cache for at most this many graphs, at least one.
    pub fn new(capacity: usize) -> Self {
        GraphCache {
            capacity: capacity.max(1),
            entries: HashMap::new(),
            clock: 0,
            stats: CacheStats::default(),
        }
    }

    /// Graphs held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no graph is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the cache has done.
    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    /// The graph of this key. If it is not there, `compile` makes it.
    ///
    /// # Errors
    /// What `compile` fails with; the cache is then as before.
    pub fn get_or_compile<E>(
        &mut self,
        key: &K,
        compile: impl FnOnce() -> Result<CompiledGraph, E>,
    ) -> Result<Arc<CompiledGraph>, E> {
        self.clock += 1;
        if let Some((graph, used)) = self.entries.get_mut(key) {
            *used = self.clock;
            self.stats.hits += 1;
            return Ok(graph.clone());
        }
        let graph = Arc::new(compile()?);
        self.stats.misses += 1;
        if self.entries.len() >= self.capacity
            && let Some(oldest) =
                self.entries.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone())
        {
            self.entries.remove(&oldest);
            self.stats.evictions += 1;
        }
        self.entries.insert(key.clone(), (graph.clone(), self.clock));
        Ok(graph)
    }

    /// Drops all graphs, for example because the buffers they were recorded on have been replaced.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
