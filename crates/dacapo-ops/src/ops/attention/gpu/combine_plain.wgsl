// Putting splits together, without sinks.
struct Params { call: Call, o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
@group(0) @binding(2) var<storage, read_write> out: F32s;

fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(LEAST, 0.0);
}

fn put(i: u32, value: f32) {
    out.v[p.o2 / 4u + i] = value;
}
