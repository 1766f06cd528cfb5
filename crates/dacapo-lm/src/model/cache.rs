//! The KV cache: keys and values of every position that a later token may see.

use dacapo::{Buffer, CommandEncoder, DType, Device};

use crate::error::{Error, Result};

/// Positions that a cache starts with; it doubles from there.
const START: usize = 256;

/// Rings have a multiple of these slots.
const RING_STEP: usize = 64;

/// What a cache is for.
#[derive(Debug, Clone)]
pub(crate) struct CacheShape<'a> {
    pub kv_heads: usize,
    pub head_dim: usize,
    /// For each layer, how many positions a token sees, itself included.
    pub windows: &'a [Option<usize>],
    /// Most tokens in one pass.
    pub pass: usize,
    /// Most positions.
    pub limit: usize,
    pub dtype: DType,
}

/// Keys and values of all layers, `[KVH, slots, hd]` each. A layer in which tokens see everything has a slot for each
/// position. One with a window has no more than the window and a pass need: position j is in slot `j % slots`, and is
/// written over once nobody sees it any more.
#[derive(Debug)]
pub(crate) struct KvCache {
    device: Device,
    layers: Vec<LayerCache>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    limit: usize,
    dtype: DType,
    /// Positions from the first that have been written since the cache was empty, though they may count no more.
    written: usize,
}

#[derive(Debug)]
struct LayerCache {
    /// Window, and the slots that it needs.
    ring: Option<(usize, usize)>,
    buffers: Option<(Buffer, Buffer)>,
}

impl LayerCache {
    /// Slots for so many positions.
    fn slots(&self, positions: usize) -> usize {
        self.ring.map_or(positions, |(_, slots)| positions.min(slots))
    }
}

impl KvCache {
    /// An empty cache.
    pub fn new(device: &Device, shape: &CacheShape<'_>) -> Result<Self> {
        let layer = |window: &Option<usize>| {
            let slots = |window: usize| (window + shape.pass - 1).next_multiple_of(RING_STEP);
            LayerCache { ring: window.map(|window| (window, slots(window))), buffers: None }
        };
        let mut cache = KvCache {
            device: device.clone(),
            layers: shape.windows.iter().map(layer).collect(),
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            capacity: 1,
            limit: shape.limit,
            dtype: shape.dtype,
            written: 0,
        };
        cache.capacity = START.min(shape.limit).min(cache.most()).max(1);
        cache.check(cache.capacity)?;
        for i in 0..cache.layers.len() {
            let slots = cache.layers[i].slots(cache.capacity);
            cache.layers[i].buffers = Some((cache.alloc(slots)?, cache.alloc(slots)?));
        }
        Ok(cache)
    }

    /// Positions that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Keys and values of a layer.
    pub fn layer(&self, layer: usize) -> (&Buffer, &Buffer) {
        let (k, v) =
            self.layers[layer].buffers.as_ref().expect("every layer has buffers once the cache is made");
        (k, v)
    }

    /// Takes note that a pass up to this position (exclusive) has been submitted.
    pub fn wrote(&mut self, end: usize) {
        self.written = self.written.max(end);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.written = 0;
    }

    /// Whether a token at position `len` can be read next: whether all that it sees is still there. In rings, positions
    /// that were written since and count no more have taken the place of earlier ones.
    pub fn holds(&self, len: usize) -> bool {
        self.layers
            .iter()
            .filter_map(|layer| layer.ring)
            .all(|(window, slots)| (len + 1).saturating_sub(window) + slots >= self.written)
    }

    /// Makes room for `positions`, keeping the first `used`. Returns whether the buffers have changed.
    pub fn reserve(&mut self, positions: usize, used: usize) -> Result<bool> {
        if positions <= self.capacity {
            return Ok(false);
        }
        self.check(positions)?;
        let capacity = positions.next_power_of_two().min(self.limit).min(self.most()).max(positions);
        let mut changed = false;
        // A layer at a time: old and new of one layer only are alive together.
        for i in 0..self.layers.len() {
            let [old, new] = [self.capacity, capacity].map(|positions| self.layers[i].slots(positions));
            if old == new {
                continue;
            }
            // No position has come back to the first slot yet: a ring that may be full grows no more.
            let (k, v) = (self.alloc(new)?, self.alloc(new)?);
            let mut encoder = self.device.encoder("grow KV cache")?;
            let (old_k, old_v) = self.layer(i);
            self.copy(&mut encoder, (old_k, old), (&k, new), used)?;
            self.copy(&mut encoder, (old_v, old), (&v, new), used)?;
            encoder.commit_and_wait()?;
            self.layers[i].buffers = Some((k, v));
            changed = true;
        }
        self.capacity = capacity;
        Ok(changed)
    }

    /// Bytes of a position's keys in a layer; values have as many.
    fn position_bytes(&self) -> usize {
        self.kv_heads * self.head_dim * self.dtype.size()
    }

    /// Positions up to which the device can be given the keys of a layer.
    fn bindable(&self) -> usize {
        let limit = self.device.info().gpu.as_ref().map_or(u64::MAX, |gpu| gpu.binding_bytes);
        usize::try_from(limit / self.position_bytes().max(1) as u64).unwrap_or(usize::MAX)
    }

    /// Positions that there can be.
    fn most(&self) -> usize {
        let most = self.bindable();
        let fits = |layer: &LayerCache| layer.ring.is_some_and(|(_, slots)| slots <= most);
        if self.layers.iter().all(fits) { usize::MAX } else { most }
    }

    /// Refuses so many positions if keys or values of them could not be bound.
    pub fn check(&self, positions: usize) -> Result<()> {
        let most = self.most();
        if positions <= most {
            return Ok(());
        }
        Err(Error::CacheTooLarge {
            tensor: "keys (or values) of a layer",
            positions,
            bytes: positions as u64 * self.position_bytes() as u64,
            limit: self.device.info().gpu.as_ref().map_or(u64::MAX, |gpu| gpu.binding_bytes),
            most,
        })
    }

    fn alloc(&self, slots: usize) -> Result<Buffer> {
        let what = || {
            let all: usize = self.layers.iter().map(|layer| layer.slots(slots)).sum();
            let bytes = 2 * all * self.position_bytes();
            format!("keys and values of {slots} positions, {bytes} bytes in all layers")
        };
        self.device
            .alloc(self.dtype, &[self.kv_heads, slots, self.head_dim])
            .map_err(|error| Error::no_room(error, what, "a smaller context"))
    }

    /// The first `used` positions of each head, between buffers of so many slots.
    fn copy(
        &self,
        encoder: &mut CommandEncoder,
        (from, from_slots): (&Buffer, usize),
        (to, to_slots): (&Buffer, usize),
        used: usize,
    ) -> Result<()> {
        let len = used.min(from_slots) * self.head_dim;
        for head in (0..self.kv_heads).take_while(|_| len > 0) {
            let from = from.slice_view(head * from_slots * self.head_dim, &[len])?;
            let to = to.slice_view(head * to_slots * self.head_dim, &[len])?;
            dacapo_ops::copy(encoder, &from, &to)?;
        }
        Ok(())
    }
}
