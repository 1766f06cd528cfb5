// New keys and values into F16 caches where two tokens may share a word. Keys are elements 0 and up, values those behind
// them.
struct Params {
    heads: u32,
    capacity: u32,
    key_dim: u32,
    value_dim: u32,
    o0: u32,
    o1: u32,
    o2: u32,
    o3: u32,
    o4: u32,
}
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
struct Words { v: array<atomic<u32>> }
@group(0) @binding(0) var<storage, read> k: F32s;
@group(0) @binding(1) var<storage, read> v: F32s;
@group(0) @binding(2) var<storage, read> step: U32s;
@group(0) @binding(3) var<storage, read_write> k_cache: Words;
@group(0) @binding(4) var<storage, read_write> v_cache: Words;

fn keys() -> u32 {
    return arrayLength(&k.v) - p.o0 / 4u;
}

fn length() -> u32 {
    return keys() + arrayLength(&v.v) - p.o1 / 4u;
}

// The place in the cache for element `i` of `[T, KVH, dim]`.
fn place(i: u32, dim: u32) -> u32 {
    let row = i / dim;
    let slot = (step.v[p.o2 / 4u] + row / p.heads) % p.capacity;
    return ((row % p.heads) * p.capacity + slot) * dim + i % dim;
}

fn apply(i: u32) {
    // Each half is cleared and set by itself: whoever writes the other half at the same time does not lose it.
    if i < keys() {
        let half = p.o3 / 2u + place(i, p.key_dim);
        let shift = 16u * (half % 2u);
        atomicAnd(&k_cache.v[half / 2u], ~(0xffffu << shift));
        atomicOr(&k_cache.v[half / 2u], f16_bits(k.v[p.o0 / 4u + i]) << shift);
    } else {
        let j = i - keys();
        let half = p.o4 / 2u + place(j, p.value_dim);
        let shift = 16u * (half % 2u);
        atomicAnd(&v_cache.v[half / 2u], ~(0xffffu << shift));
        atomicOr(&v_cache.v[half / 2u], f16_bits(v.v[p.o1 / 4u + j]) << shift);
    }
}
