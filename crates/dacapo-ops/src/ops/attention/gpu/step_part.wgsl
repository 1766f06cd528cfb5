// What the workgroups of a split find, as part.wgsl leaves it.
struct F32s4 { v: array<vec4<f32>> }
@group(0) @binding(7) var<storage, read_write> found: F32s4;

// Elements 4i .. 4i+3 of a head's weighted sum.
fn store(at: Part, i: u32, value: vec4<f32>, state: vec2<f32>, taking: bool) {
    if !taking {
        return;
    }
    let row = (at.head * p.call.splits + at.split) * (1u + 2u * VALUE_PIECES);
    if i == 0u {
        found.v[p.o7 / 16u + row] = vec4<f32>(state, 0.0, 0.0);
    }
    found.v[p.o7 / 16u + row + 1u + i] = value;
}
