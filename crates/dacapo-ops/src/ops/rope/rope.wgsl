// Rotation of pairs. Workgroups: parts of a head's pairs in x, tokens in y, heads in z.
struct Params {
    heads: u32,
    dim: u32,
    interleaved: u32,
    attention_factor: f32,
    o0: u32,
    o1: u32,
    o2: u32,
}
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read_write> x: F32s;
@group(0) @binding(1) var<storage, read> inv_freq: F32s;
@group(0) @binding(2) var<storage, read> step: U32s;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let pairs = arrayLength(&inv_freq.v) - p.o1 / 4u;
    let pair = at.group.x * WORKGROUP + at.index;
    if pair >= pairs {
        return;
    }
    let frequency = inv_freq.v[p.o1 / 4u + pair];
    let start = step.v[p.o2 / 4u];
    let tokens = (arrayLength(&x.v) - p.o0 / 4u) / (p.heads * p.dim);
    let places = pair_places(pair, pairs, p.interleaved);
    for (var token = at.group.y; token < tokens; token += at.groups.y) {
        let angle = cosine_and_sine(f32(start + token) * frequency) * p.attention_factor;
        for (var head = at.group.z; head < p.heads; head += at.groups.z) {
            let first = p.o0 / 4u + (token * p.heads + head) * p.dim;
            let pair_now = turned(vec2<f32>(x.v[first + places.x], x.v[first + places.y]), angle);
            x.v[first + places.x] = pair_now.x;
            x.v[first + places.y] = pair_now.y;
        }
    }
}
