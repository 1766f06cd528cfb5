// Putting splits together, without sinks, to int8. Values are whole blocks of 32 elements.
struct Params { call: Call, o0: u32, o1: u32, o2: u32, o3: u32 }
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read_write> codes: U32s;
@group(0) @binding(3) var<storage, read_write> about: U32s;

fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(LEAST, 0.0);
}

fn put_codes(i: u32, word: u32) {
    codes.v[p.o2 / 4u + i] = word;
}

fn put_about(i: u32, bits: u32) {
    about.v[p.o3 / 4u + i] = bits;
}

// Elements 4i .. 4i+3 of a row of the result. The whole workgroup comes here together.
fn put_four(row: u32, i: u32, values: vec4<f32>, taking: bool, index: u32) {
    quantize_four(row * p.call.value_dim / 4u + i, values, taking, index);
}
