//! The KV cache: keys and values of every position so far.

use dacapo::{Buffer, CommandEncoder, DType, Device};

use crate::error::{Error, Result};

/// Positions that a cache starts with; it doubles from there.
const START: usize = 256;

/// Keys and values of all layers, `[KVH, capacity, hd]` each.
#[derive(Debug)]
pub(crate) struct KvCache {
    device: Device,
    layers: Vec<(Buffer, Buffer)>,
    /// Layers that there are to be.
    count: usize,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    limit: usize,
    dtype: DType,
}

impl KvCache {
    /// An empty cache for at most `limit` positions.
    pub fn new(
        device: &Device,
        layers: usize,
        kv_heads: usize,
        head_dim: usize,
        limit: usize,
        dtype: DType,
    ) -> Result<Self> {
        let mut cache = KvCache {
            device: device.clone(),
            layers: Vec::with_capacity(layers),
            count: layers,
            kv_heads,
            head_dim,
            capacity: 1,
            limit,
            dtype,
        };
        cache.capacity = START.min(limit).min(cache.bindable()).max(1);
        cache.check(cache.capacity)?;
        for _ in 0..layers {
            let pair = (cache.alloc(cache.capacity)?, cache.alloc(cache.capacity)?);
            cache.layers.push(pair);
        }
        Ok(cache)
    }

    /// Positions that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Keys and values of a layer.
    pub fn layer(&self, layer: usize) -> (&Buffer, &Buffer) {
        let (k, v) = &self.layers[layer];
        (k, v)
    }

    /// Makes room for `positions`, keeping the first `used`. Returns whether the buffers have changed.
    pub fn reserve(&mut self, positions: usize, used: usize) -> Result<bool> {
        if positions <= self.capacity {
            return Ok(false);
        }
        self.check(positions)?;
        let capacity = positions.next_power_of_two().min(self.limit).min(self.bindable()).max(positions);
        // A layer at a time: old and new of one layer only are alive together.
        for i in 0..self.layers.len() {
            let (k, v) = (self.alloc(capacity)?, self.alloc(capacity)?);
            let mut encoder = self.device.encoder("grow KV cache")?;
            self.copy(&mut encoder, &self.layers[i].0, &k, used, capacity)?;
            self.copy(&mut encoder, &self.layers[i].1, &v, used, capacity)?;
            encoder.commit_and_wait()?;
            self.layers[i] = (k, v);
        }
        self.capacity = capacity;
        Ok(true)
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

    /// Refuses so many positions if keys or values of them could not be bound.
    pub fn check(&self, positions: usize) -> Result<()> {
        let most = self.bindable();
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

    fn alloc(&self, capacity: usize) -> Result<Buffer> {
        let what = || {
            let bytes = 2 * self.count * capacity * self.position_bytes();
            format!("keys and values of {capacity} positions, {bytes} bytes in all layers")
        };
        self.device
            .alloc(self.dtype, &[self.kv_heads, capacity, self.head_dim])
            .map_err(|error| Error::no_room(error, what, "a smaller context"))
    }

    /// The first `used` positions of each head.
    fn copy(
        &self,
        encoder: &mut CommandEncoder,
        from: &Buffer,
        to: &Buffer,
        used: usize,
        capacity: usize,
    ) -> Result<()> {
        let len = used * self.head_dim;
        for head in (0..self.kv_heads).take_while(|_| len > 0) {
            let from = from.slice_view(head * self.capacity * self.head_dim, &[len])?;
            let to = to.slice_view(head * capacity * self.head_dim, &[len])?;
            dacapo_ops::copy(encoder, &from, &to)?;
        }
        Ok(())
    }
}
