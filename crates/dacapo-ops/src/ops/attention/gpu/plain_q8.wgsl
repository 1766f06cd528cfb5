// As plain.wgsl, to int8. Values are whole blocks of 32 elements.
struct Params { call: Call, o0: u32, o1: u32, o2: u32, o3: u32, o4: u32, o5: u32 }
var<immediate> p: Params;
@group(0) @binding(4) var<storage, read_write> codes: U32s;
@group(0) @binding(5) var<storage, read_write> about: U32s;

fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(LEAST, 0.0);
}

fn put_codes(i: u32, word: u32) {
    codes.v[p.o4 / 4u + i] = word;
}

fn put_about(i: u32, bits: u32) {
    about.v[p.o5 / 4u + i] = bits;
}

// Elements 4i .. 4i+3 of a head's result, still to be divided by the sum of weights.
fn store(at: Part, i: u32, value: vec4<f32>, state: vec2<f32>, taking: bool) {
    let row = (at.token * p.call.heads + at.head) * p.call.value_dim;
    quantize_four(row / 4u + i, value / state.y, taking, at.index);
}
