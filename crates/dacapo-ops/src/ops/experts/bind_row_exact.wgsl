struct Words { v: array<vec4<u32>> }
struct Floats { v: array<f32> }
struct U32s { v: array<u32> }
struct Params {
    kind: u32, detail: u32, n: u32, k: u32, rows: u32, per: u32, experts: u32, stride: u32, chosen: u32,
    o0: u32, o1: u32, o2: u32, o3: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: Floats;
@group(0) @binding(1) var<storage, read> weight: Words;
@group(0) @binding(2) var<storage, read> ids: U32s;
@group(0) @binding(3) var<storage, read_write> y: Floats;

fn expert_of(row: u32) -> u32 { return ids.v[p.o2 / 4u + row]; }
fn one_at(i: u32) -> f32 { return x.v[p.o0 / 4u + row / p.per * p.k + i]; }
// Activations i .. i + 3.
fn four_at(i: u32) -> vec4<f32> { return vec4<f32>(one_at(i), one_at(i + 1u), one_at(i + 2u), one_at(i + 3u)); }
fn weight_start() -> u32 { return p.o1 / 16u + base; }
fn put(token: u32, column: u32, value: f32) { y.v[p.o3 / 4u + row * p.n + column] = value; }
