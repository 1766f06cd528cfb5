// Keys that are rotated as they are.
struct Params {
    heads: u32,
    capacity: u32,
    key_dim: u32,
    value_dim: u32,
    rope_heads: u32,
    rope_dim: u32,
    interleaved: u32,
    attention_factor: f32,
    eps: f32,
    o0: u32,
    o1: u32,
    o2: u32,
    o3: u32,
    o4: u32,
    o5: u32,
}
var<immediate> p: Params;
@group(0) @binding(4) var<storage, read_write> k_cache: Words;
@group(0) @binding(5) var<storage, read_write> v_cache: Words;

override WORKGROUP: u32 = 128u;

// Bytes before the caches.
fn cache_offsets() -> vec2<u32> {
    return vec2<u32>(p.o4, p.o5);
}

// What the keys of the head that begins at `first` are multiplied by.
fn factor_of(first: u32, at: Invocation) -> f32 {
    return 1.0;
}

// Element `j` of the head that begins at `first`, before its rotation.
fn element(first: u32, j: u32, factor: f32) -> f32 {
    return load(first + j);
}
