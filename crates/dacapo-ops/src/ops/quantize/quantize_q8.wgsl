// Activations to int8.
struct Params { o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> codes: U32s;
// As bits, since NaN is among them.
@group(0) @binding(2) var<storage, read_write> about: U32s;

const WORKGROUP: u32 = 64u;

fn put_codes(i: u32, word: u32) {
    codes.v[p.o1 / 4u + i] = word;
}

fn put_about(i: u32, bits: u32) {
    about.v[p.o2 / 4u + i] = bits;
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let fours = (arrayLength(&x.v) - p.o0 / 4u) / 4u;
    let i = linear_group(at) * WORKGROUP + at.index;
    var values = vec4<f32>(0.0);
    if i < fours {
        let first = p.o0 / 4u + 4u * i;
        values = vec4<f32>(x.v[first], x.v[first + 1u], x.v[first + 2u], x.v[first + 3u]);
    }
    quantize_four(i, values, i < fours, at.index);
}
