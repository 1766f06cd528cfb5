// Putting splits together, with sinks.
struct Params { call: Call, o0: u32, o1: u32, o2: u32, o3: u32 }
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read> sinks: F32s;
@group(0) @binding(3) var<storage, read_write> out: F32s;

// A sink is where the maximum and the sum of weights begin.
fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(sinks.v[p.o2 / 4u + head], 1.0);
}

fn put(i: u32, value: f32) {
    out.v[p.o3 / 4u + i] = value;
}
