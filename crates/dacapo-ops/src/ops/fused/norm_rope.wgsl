// Normalization and rotation of one token's heads in place, a workgroup for each head.
struct Params {
    heads: u32,
    dim: u32,
    interleaved: u32,
    attention_factor: f32,
    eps: f32,
    o0: u32,
    o1: u32,
    o2: u32,
    o3: u32,
}
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read_write> x: F32s;
@group(0) @binding(1) var<storage, read> weight: F32s;
@group(0) @binding(2) var<storage, read> inv_freq: F32s;
@group(0) @binding(3) var<storage, read> step: U32s;

fn load(i: u32) -> f32 {
    return x.v[p.o0 / 4u + i];
}

fn keep(i: u32, v: f32) {}

// The normalized element `j` of the head that begins at `first`.
fn normalized(first: u32, j: u32, inverse: f32) -> f32 {
    return load(first + j) * inverse * weight.v[p.o1 / 4u + j];
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let head = linear_group(at);
    if head >= p.heads {
        return;
    }
    let first = head * p.dim;
    var kept: array<f32, KEPT>;
    let inverse = inverse_rms(first, p.dim, p.eps, at, &kept);
    // From here on elements change, and others had to see them as they were.
    storageBarrier();
    let pairs = arrayLength(&inv_freq.v) - p.o2 / 4u;
    let position = step.v[p.o3 / 4u];
    for (var pair = at.index; pair < pairs; pair += WORKGROUP) {
        let places = pair_places(pair, pairs, p.interleaved);
        let before = vec2<f32>(normalized(first, places.x, inverse), normalized(first, places.y, inverse));
        let angle = cosine_and_sine(f32(position) * inv_freq.v[p.o2 / 4u + pair]) * p.attention_factor;
        let pair_now = turned(before, angle);
        x.v[p.o0 / 4u + first + places.x] = pair_now.x;
        x.v[p.o0 / 4u + first + places.y] = pair_now.y;
    }
    for (var j = 2u * pairs + at.index; j < p.dim; j += WORKGROUP) {
        x.v[p.o0 / 4u + first + j] = normalized(first, j, inverse);
    }
}
