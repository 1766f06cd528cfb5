struct Words { v: array<vec4<u32>> }
struct Vectors { v: array<vec4<f32>> }
struct U32s { v: array<u32> }
struct Params {
    kind: u32, detail: u32, n: u32, k: u32, tokens: u32, eps: f32, function: u32,
    o0: u32, o1: u32, o2: u32, o3: u32, o4: u32, o5: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: Vectors;
@group(0) @binding(1) var<storage, read> norm: Vectors;
@group(0) @binding(2) var<storage, read> gate: Words;
@group(0) @binding(3) var<storage, read> up: Words;
@group(0) @binding(4) var<storage, read_write> codes: U32s;
@group(0) @binding(5) var<storage, read_write> infos: Vectors;

fn x_at(i: u32) -> vec4<f32> { return x.v[p.o0 / 16u + i]; }
fn norm_at(i: u32) -> vec4<f32> { return norm.v[p.o1 / 16u + i]; }

// The panels of both weights, those of `up` from here on.
const UP: u32 = 0x80000000u;
fn weight_vec(i: u32) -> vec4<u32> {
    if (i & UP) != 0u { return up.v[p.o3 / 16u + (i & ~UP)]; }
    return gate.v[p.o2 / 16u + i];
}
