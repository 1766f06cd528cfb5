//! The cache: keys and values of every position that a later token may see, and the state of layers that keep one instead.

use dacapo::{Buffer, CommandEncoder, DType, Device};

use crate::checkpoint::DeltaNets;
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
    /// The layers that keep a state.
    pub nets: Option<&'a DeltaNets>,
}

/// Keys and values of all layers, `[KVH, slots, hd]` each. A layer in which tokens see everything has a slot for each
/// position. One with a window has no more than the window and a pass need: position j is in slot `j % slots`, and is
/// written over once nobody sees it any more. One with a state has no slots: all that it keeps of a text is what its last token
/// left, so that only that token can be followed.
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
    /// The position behind the last that states have seen.
    seen: usize,
}

#[derive(Debug)]
struct LayerCache {
    /// Window, and the slots that it needs.
    ring: Option<(usize, usize)>,
    buffers: Option<(Buffer, Buffer)>,
    state: Option<State>,
}

/// What a gated delta net keeps. Kernels take it for zeros at position 0.
#[derive(Debug)]
pub(crate) struct State {
    /// The last tokens before the convolution, F32 `[taps - 1, channels]`.
    pub convolution: Buffer,
    /// A matrix for each head, F32 `[HV, DK, DV]`.
    pub memory: Buffer,
}

impl State {
    fn new(device: &Device, nets: &DeltaNets) -> Result<Self> {
        let what = || format!("the states of gated delta nets, {} bytes", nets.state_bytes());
        let alloc = |shape: &[usize]| {
            device.alloc(DType::F32, shape).map_err(|error| Error::no_room(error, what, "a smaller model"))
        };
        Ok(State {
            convolution: alloc(&[nets.taps - 1, nets.channels()])?,
            memory: alloc(&[nets.value_heads, nets.key_dim, nets.value_dim])?,
        })
    }
}

impl LayerCache {
    /// Slots for so many positions.
    fn slots(&self, positions: usize) -> usize {
        match (&self.state, self.ring) {
            (Some(_), _) => 0,
            (None, Some((_, slots))) => positions.min(slots),
            (None, None) => positions,
        }
    }
}

impl KvCache {
    /// An empty cache.
    pub fn new(device: &Device, shape: &CacheShape<'_>) -> Result<Self> {
        let layer = |(i, window): (usize, &Option<usize>)| {
            let slots = |window: usize| (window + shape.pass - 1).next_multiple_of(RING_STEP);
            let nets = shape.nets.filter(|nets| nets.layers[i]);
            let state = nets.map(|nets| State::new(device, nets)).transpose()?;
            Ok(LayerCache { ring: window.map(|window| (window, slots(window))), buffers: None, state })
        };
        let mut cache = KvCache {
            device: device.clone(),
            layers: shape.windows.iter().enumerate().map(layer).collect::<Result<_>>()?,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            capacity: 1,
            limit: shape.limit,
            dtype: shape.dtype,
            written: 0,
            seen: 0,
        };
        cache.capacity = START.min(shape.limit).min(cache.most()).max(1);
        cache.check(cache.capacity)?;
        for i in 0..cache.layers.len() {
            if cache.layers[i].state.is_some() {
                continue;
            }
            let slots = cache.layers[i].slots(cache.capacity);
            cache.layers[i].buffers = Some((cache.alloc(slots)?, cache.alloc(slots)?));
        }
        Ok(cache)
    }

    /// Positions that there is room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Keys and values of a layer with attention.
    pub fn layer(&self, layer: usize) -> (&Buffer, &Buffer) {
        let (k, v) = self.layers[layer].buffers.as_ref().expect("every layer without a state has buffers");
        (k, v)
    }

    /// What a layer with a gated delta net keeps.
    pub fn state(&self, layer: usize) -> &State {
        self.layers[layer].state.as_ref().expect("the configuration says which layers have a state")
    }

    /// Whether some layers keep a state.
    pub fn has_states(&self) -> bool {
        self.layers.iter().any(|layer| layer.state.is_some())
    }

    /// Takes note that a pass up to this position (exclusive) has been submitted.
    pub fn wrote(&mut self, end: usize) {
        self.written = self.written.max(end);
        self.seen = end;
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.written = 0;
        self.seen = 0;
    }

    /// Whether a token at position `len` can be read next: whether all that it sees is still there. In rings, positions
    /// that were written since and count no more have taken the place of earlier ones. States are those behind the last
    /// token that was read, or none if a text begins.
    pub fn holds(&self, len: usize) -> bool {
        let follows = len == 0 || len == self.seen || !self.has_states();
        follows && self.holds_windows(len)
    }

    fn holds_windows(&self, len: usize) -> bool {
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
        let fits =
            |layer: &LayerCache| layer.state.is_some() || layer.ring.is_some_and(|(_, slots)| slots <= most);
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
