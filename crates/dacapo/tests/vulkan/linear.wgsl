override LEN: u32 = 1u;
struct Params { a: f32, b: f32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> y: F32s;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) at: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + at;
    if i < LEN {
        y.v[p.o1 / 4u + i] = fma(p.a, x.v[p.o0 / 4u + i], p.b);
    }
}
