// What the workgroups of a split find: `[T, H, splits]` rows of one vec4 with the maximum and the sum of weights, and the
// weighted sum of values. Splits without positions stay as they are.
struct Params { call: Call, o0: u32, o1: u32, o2: u32, o3: u32, o4: u32 }
var<immediate> p: Params;
struct F32s4 { v: array<vec4<f32>> }
@group(0) @binding(4) var<storage, read_write> found: F32s4;

// Sinks take part where the splits come together.
fn sink_of(head: u32) -> vec2<f32> {
    return vec2<f32>(LEAST, 0.0);
}

// Elements 4i .. 4i+3 of a head's weighted sum.
fn store(at: Part, i: u32, value: vec4<f32>, state: vec2<f32>, taking: bool) {
    if !taking {
        return;
    }
    let row = ((at.token * p.call.heads + at.head) * p.call.splits + at.split) * (1u + 2u * VALUE_PIECES);
    if i == 0u {
        found.v[p.o4 / 16u + row] = vec4<f32>(state, 0.0, 0.0);
    }
    found.v[p.o4 / 16u + row + 1u + i] = value;
}
