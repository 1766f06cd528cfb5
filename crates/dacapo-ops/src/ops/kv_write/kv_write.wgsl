// New keys and values into caches whose words belong to one token each: F32, or F16 with even rows. Keys are elements
// 0 and up, values those behind them; an element is a word of the cache.
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
@group(0) @binding(0) var<storage, read> k: F32s;
@group(0) @binding(1) var<storage, read> v: F32s;
@group(0) @binding(2) var<storage, read> step: U32s;
@group(0) @binding(3) var<storage, read_write> k_cache: U32s;
@group(0) @binding(4) var<storage, read_write> v_cache: U32s;

// Values in a word: 1 for F32, 2 for F16.
override PACK: u32 = 1u;

fn keys() -> u32 {
    return (arrayLength(&k.v) - p.o0 / 4u) / PACK;
}

fn length() -> u32 {
    return keys() + (arrayLength(&v.v) - p.o1 / 4u) / PACK;
}

// The word of the cache for word `i` of `[T, KVH, words]`.
fn place(i: u32, words: u32) -> u32 {
    let row = i / words;
    let slot = (step.v[p.o2 / 4u] + row / p.heads) % p.capacity;
    return ((row % p.heads) * p.capacity + slot) * words + i % words;
}

fn apply(i: u32) {
    if i < keys() {
        let first = p.o0 / 4u + i * PACK;
        var word = bitcast<u32>(k.v[first]);
        if PACK == 2u {
            word = f16_bits(k.v[first]) | (f16_bits(k.v[first + 1u]) << 16u);
        }
        k_cache.v[p.o3 / 4u + place(i, p.key_dim / PACK)] = word;
    } else {
        let j = i - keys();
        let first = p.o1 / 4u + j * PACK;
        var word = bitcast<u32>(v.v[first]);
        if PACK == 2u {
            word = f16_bits(v.v[first]) | (f16_bits(v.v[first + 1u]) << 16u);
        }
        v_cache.v[p.o4 / 4u + place(j, p.value_dim / PACK)] = word;
    }
}
