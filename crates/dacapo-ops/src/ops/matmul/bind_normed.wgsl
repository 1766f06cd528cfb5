struct Words { v: array<vec4<u32>> }
struct Vectors { v: array<vec4<f32>> }
struct Floats { v: array<f32> }
struct Params {
    kind: u32, detail: u32, n: u32, k: u32, tokens: u32, eps: f32,
    o0: u32, o1: u32, o2: u32, o3: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: Vectors;
@group(0) @binding(1) var<storage, read> norm: Vectors;
@group(0) @binding(2) var<storage, read> weight: Words;
@group(0) @binding(3) var<storage, read_write> y: Floats;

fn x_at(i: u32) -> vec4<f32> { return x.v[p.o0 / 16u + i]; }
fn norm_at(i: u32) -> vec4<f32> { return norm.v[p.o1 / 16u + i]; }
fn weight_start() -> u32 { return p.o2 / 16u; }
fn put(token: u32, row: u32, value: f32) { y.v[p.o3 / 4u + row] = value; }
