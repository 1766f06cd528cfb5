// A gated activation to int8.
struct Params { function: u32, o0: u32, o1: u32, o2: u32, o3: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> gate: F32s;
@group(0) @binding(1) var<storage, read> up: F32s;
@group(0) @binding(2) var<storage, read_write> codes: U32s;
@group(0) @binding(3) var<storage, read_write> about: U32s;

const WORKGROUP: u32 = 64u;

fn put_codes(i: u32, word: u32) {
    codes.v[p.o2 / 4u + i] = word;
}

fn put_about(i: u32, bits: u32) {
    about.v[p.o3 / 4u + i] = bits;
}

fn value(i: u32) -> f32 {
    return activation(gate.v[p.o0 / 4u + i]) * up.v[p.o1 / 4u + i];
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let fours = (arrayLength(&gate.v) - p.o0 / 4u) / 4u;
    let i = linear_group(at) * WORKGROUP + at.index;
    var values = vec4<f32>(0.0);
    if i < fours {
        values = vec4<f32>(value(4u * i), value(4u * i + 1u), value(4u * i + 2u), value(4u * i + 3u));
    }
    quantize_four(i, values, i < fours, at.index);
}
