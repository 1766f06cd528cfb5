// Keys that are normalized before their rotation.
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
    o6: u32,
}
var<immediate> p: Params;
@group(0) @binding(4) var<storage, read> weight: F32s;
@group(0) @binding(5) var<storage, read_write> k_cache: Words;
@group(0) @binding(6) var<storage, read_write> v_cache: Words;

// Bytes before the caches.
fn cache_offsets() -> vec2<u32> {
    return vec2<u32>(p.o5, p.o6);
}

fn keep(i: u32, v: f32) {}

// What the keys of the head that begins at `first` are multiplied by.
fn factor_of(first: u32, at: Invocation) -> f32 {
    var kept: array<f32, KEPT>;
    return inverse_rms(first, p.key_dim, p.eps, at, &kept);
}

// Element `j` of the head that begins at `first`, before its rotation.
fn element(first: u32, j: u32, factor: f32) -> f32 {
    return load(first + j) * factor * weight.v[p.o4 / 4u + j];
}
