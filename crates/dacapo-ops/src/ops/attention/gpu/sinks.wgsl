// As plain.wgsl, with sinks.
struct Params { call: Call, o0: u32, o1: u32, o2: u32, o3: u32, o4: u32, o5: u32 }
var<immediate> p: Params;
@group(0) @binding(4) var<storage, read> sinks: F32s;
@group(0) @binding(5) var<storage, read_write> out: F32s;

// A sink is where the maximum and the sum of weights begin.
fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(sinks.v[p.o4 / 4u + head], 1.0);
}

// Elements 4i .. 4i+3 of a head's result, still to be divided by the sum of weights.
fn store(at: Part, i: u32, value: vec4<f32>, state: vec2<f32>, taking: bool) {
    if !taking {
        return;
    }
    let row = (at.token * p.call.heads + at.head) * p.call.value_dim;
    let result = value / state.y;
    for (var e = 0u; e < 4u && 4u * i + e < p.call.value_dim; e++) {
        out.v[p.o5 / 4u + row + 4u * i + e] = result[e];
    }
}
