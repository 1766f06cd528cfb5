// Putting splits together, with sinks.
struct Params { call: Call, o0: u32, o1: u32, o2: u32, o3: u32 }
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read> sinks: F32s;
@group(0) @binding(3) var<storage, read_write> out: F32s;

// A sink is where the maximum and the sum of weights begin.
fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(sinks.v[p.o2 / 4u + head], 1.0);
}

// Elements 4i .. 4i+3 of a row of the result, from invocations that take part.
fn put_four(row: u32, i: u32, values: vec4<f32>, taking: bool, index: u32) {
    if taking {
        for (var e = 0u; e < 4u && 4u * i + e < p.call.value_dim; e++) {
            out.v[p.o3 / 4u + row * p.call.value_dim + 4u * i + e] = values[e];
        }
    }
}
