// One token's keys and values into their caches, a workgroup for each head. The text before brings the parameters, the
// caches, `cache_offsets()`, `factor_of(first, at)` and `element(first, j, factor)`.
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
// Atomic for the sake of F16 rows of odd length, of which two share a word.
struct Words { v: array<atomic<u32>> }
@group(0) @binding(0) var<storage, read> k: F32s;
@group(0) @binding(1) var<storage, read> v: F32s;
@group(0) @binding(2) var<storage, read> step: U32s;
@group(0) @binding(3) var<storage, read> inv_freq: F32s;

// What caches hold: 0 F32, 1 F16 in whole words, 2 F16 where a word may belong to two rows.
override CACHE: u32 = 0u;

// Keys of a round.
var<workgroup> round_keys: array<f32, WORKGROUP>;

fn load(i: u32) -> f32 {
    return k.v[p.o0 / 4u + i];
}

fn halves(low: f32, high: f32) -> u32 {
    return f16_bits(low) | (f16_bits(high) << 16u);
}

// Element `i` of the cache of keys, and the one that shares a word with it.
fn put_key(i: u32, value: f32, beside: f32) {
    let offset = cache_offsets().x;
    if CACHE == 0u {
        atomicStore(&k_cache.v[offset / 4u + i], bitcast<u32>(value));
    } else if CACHE == 1u {
        if i % 2u == 0u {
            atomicStore(&k_cache.v[offset / 4u + i / 2u], halves(value, beside));
        }
    } else {
        let half = offset / 2u + i;
        let shift = 16u * (half % 2u);
        atomicAnd(&k_cache.v[half / 2u], ~(0xffffu << shift));
        atomicOr(&k_cache.v[half / 2u], f16_bits(value) << shift);
    }
}

// Element `i` of the cache of values, which is the value number `source`.
fn put_value(i: u32, source: u32) {
    let offset = cache_offsets().y;
    let value = v.v[p.o1 / 4u + source];
    if CACHE == 0u {
        atomicStore(&v_cache.v[offset / 4u + i], bitcast<u32>(value));
    } else if CACHE == 1u {
        if i % 2u == 0u {
            atomicStore(&v_cache.v[offset / 4u + i / 2u], halves(value, v.v[p.o1 / 4u + source + 1u]));
        }
    } else {
        let half = offset / 2u + i;
        let shift = 16u * (half % 2u);
        atomicAnd(&v_cache.v[half / 2u], ~(0xffffu << shift));
        atomicOr(&v_cache.v[half / 2u], f16_bits(value) << shift);
    }
}

// Element `j` of the head that begins at `first`, as it comes to the cache.
fn key(first: u32, j: u32, factor: f32, position: u32) -> f32 {
    let pairs = arrayLength(&inv_freq.v) - p.o3 / 4u;
    if j >= 2u * pairs {
        return element(first, j, factor);
    }
    let pair = pair_of(j, pairs, p.interleaved);
    let places = pair_places(pair, pairs, p.interleaved);
    let before = vec2<f32>(element(first, places.x, factor), element(first, places.y, factor));
    let angle = cosine_and_sine(f32(position) * inv_freq.v[p.o3 / 4u + pair]) * p.attention_factor;
    let pair_now = turned(before, angle);
    return select(pair_now.x, pair_now.y, j == places.y);
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let head = linear_group(at);
    if head >= p.heads {
        return;
    }
    let position = step.v[p.o2 / 4u];
    let row = head * p.capacity + position % p.capacity;
    for (var j = at.index; j < p.value_dim; j += WORKGROUP) {
        put_value(row * p.value_dim + j, head * p.value_dim + j);
    }
    let first = head * p.key_dim;
    let factor = factor_of(first, at);
    for (var start = 0u; start < p.key_dim; start += WORKGROUP) {
        let j = start + at.index;
        var value = 0.0;
        if j < p.key_dim {
            value = key(first, j, factor, position);
        }
        round_keys[at.index] = value;
        workgroupBarrier();
        if j < p.key_dim {
            put_key(row * p.key_dim + j, value, round_keys[at.index ^ 1u]);
        }
        workgroupBarrier();
    }
}
