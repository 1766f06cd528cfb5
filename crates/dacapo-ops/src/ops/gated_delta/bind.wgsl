struct Params {
    key_heads: u32,
    value_heads: u32,
    key_dim: u32,
    value_dim: u32,
    tiled: u32,
    o0: u32,
    o1: u32,
    o2: u32,
    o3: u32,
    o4: u32,
    o5: u32,
    o6: u32,
    o7: u32,
}
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> qkv: F32s;
@group(0) @binding(1) var<storage, read> a: F32s;
@group(0) @binding(2) var<storage, read> b: F32s;
@group(0) @binding(3) var<storage, read> rate: F32s;
@group(0) @binding(4) var<storage, read> dt_bias: F32s;
@group(0) @binding(5) var<storage, read> step: U32s;
@group(0) @binding(6) var<storage, read_write> state: F32s;
@group(0) @binding(7) var<storage, read_write> out: F32s;

override WORKGROUP: u32 = 128u;
// Columns of a workgroup, in how many parts each is divided, and rows of a part.
override COLUMNS: u32 = 32u;
override PARTS: u32 = 4u;
override ROWS: u32 = 32u;

fn token_count() -> u32 {
    return (arrayLength(&a.v) - p.o1 / 4u) / p.value_heads;
}

// Where the queries of a token begin that belong to a head of values. Its keys are `key_heads * key_dim` behind.
fn query_at(token: u32, head: u32) -> u32 {
    let shared_head = select(head / (p.value_heads / p.key_heads), head % p.key_heads, p.tiled == 1u);
    return p.o0 / 4u + token * (2u * p.key_heads * p.key_dim + p.value_heads * p.value_dim) + shared_head * p.key_dim;
}

// Where a head's values of a token begin.
fn value_at(token: u32, head: u32) -> u32 {
    let keys = 2u * p.key_heads * p.key_dim;
    return p.o0 / 4u + token * (keys + p.value_heads * p.value_dim) + keys + head * p.value_dim;
}

// The logarithm of what is kept of a head's memory at a token.
fn log_decay(token: u32, head: u32) -> f32 {
    let x = a.v[p.o1 / 4u + token * p.value_heads + head] + dt_bias.v[p.o4 / 4u + head];
    return -rate.v[p.o3 / 4u + head] * softplus(x);
}

// What the logit of a token's share in what it overwrites is given by.
fn share_logit(token: u32, head: u32) -> f32 {
    return b.v[p.o2 / 4u + token * p.value_heads + head];
}
