// Attention whose workgroups see all positions: what they find is the result.
struct Params { call: Call, o0: u32, o1: u32, o2: u32, o3: u32, o4: u32 }
var<immediate> p: Params;
@group(0) @binding(4) var<storage, read_write> out: F32s;

fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(LEAST, 0.0);
}

// Elements 4i .. 4i+3 of a head's result, still to be divided by the sum of weights.
fn store(at: Part, i: u32, value: vec4<f32>, state: vec2<f32>, taking: bool) {
    if !taking {
        return;
    }
    let row = (at.token * p.call.heads + at.head) * p.call.value_dim;
    let result = value / state.y;
    for (var e = 0u; e < 4u && 4u * i + e < p.call.value_dim; e++) {
        out.v[p.o4 / 4u + row + 4u * i + e] = result[e];
    }
}
