// The result of workgroups that see all positions, to int8. Values are whole blocks of 32 elements.
@group(0) @binding(7) var<storage, read_write> codes: U32s;
@group(0) @binding(8) var<storage, read_write> about: U32s;

fn put_codes(i: u32, word: u32) {
    codes.v[p.o7 / 4u + i] = word;
}

fn put_about(i: u32, bits: u32) {
    about.v[p.o8 / 4u + i] = bits;
}

// Elements 4i .. 4i+3 of a head's result, still to be divided by the sum of weights.
fn store(at: Part, i: u32, value: vec4<f32>, state: vec2<f32>, taking: bool) {
    quantize_four(at.head * p.call.value_dim / 4u + i, value / state.y, taking, at.index);
}
